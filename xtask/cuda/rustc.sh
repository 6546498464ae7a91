#!/bin/sh
# RUSTC_WRAPPER of CUDA builds: candle asks cudarc to be linked to CUDA's libraries, and a program so linked does not start
# where they are missing. This makes cudarc open them at run time instead.
case " $* " in
*" --crate-name cudarc "*) exec "$@" --cfg 'feature="dynamic-loading"' ;;
esac
exec "$@"
