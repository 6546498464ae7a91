#!/bin/sh
# Stands in for nvcc where only Rust is checked: writes empty files where kernels would be.
out= folder=. source= mode=object objects=
while [ $# -gt 0 ]; do
  case "$1" in
  --version) printf 'nvcc: NVIDIA (R) Cuda compiler driver\na stand-in\nof DeepFinder\nCuda compilation tools, release 13.0, V13.0.88\n' && exit ;;
  --list-gpu-code) echo sm_80 && exit ;;
  --ptx | -ptx) mode=ptx ;;
  -fatbin | -cubin) mode=empty ;;
  --lib | -lib) mode=library ;;
  -o) out=$2 && shift ;;
  --output-directory) folder=$2 && shift ;;
  -Xcompiler | --default-stream) shift ;;
  *.cu) source=$1 ;;
  *.o) objects="$objects $1" ;;
  esac
  shift
done
case $mode in
ptx) : > "${out:-$folder/$(basename "$source" .cu).ptx}" ;;
empty) : > "$out" ;;
library) rm -f "$out" && ar cr "$out" $objects ;;
object)
  # Functions that candle names, so that tests can be linked; they trap.
  if [ "$(basename "$source")" = mmvq_gguf.cu ]; then
    grep -oE 'pub fn [A-Za-z0-9_]+' src/ffi.rs | sed 's/pub fn \(.*\)/void \1(void) { __builtin_trap(); }/'
  fi | cc -x c -fPIC -c -o "$out" -
  ;;
esac
