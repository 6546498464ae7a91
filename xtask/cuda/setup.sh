#!/bin/sh
# usage: setup.sh FOLDER -> FOLDER/cuda, usable as CUDA_HOME: nvcc 13.0.88, headers and link stubs, from PyPI (100 MB).
set -e
mkdir -p "$1"
folder=$(cd "$1" && pwd)
# Every part is pinned: nvidia-cuda-nvcc leaves two of them open, and newer ones write PTX that drivers of CUDA 13.0 refuse.
# In one call, as `--target` does not merge.
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --upgrade \
  --target "$folder/pip" \
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 \
  nvidia-cuda-runtime==13.0.96
parts=$folder/pip/nvidia/cu13
home=$folder/cuda
rm -rf "$home"
mkdir -p "$home/bin" "$home/lib64"
ln -sfn lib "$parts/lib64"
ln -s lib64 "$home/lib"
ln -s "$parts/include" "$parts/nvvm" "$home/"
# Empty archives satisfy the linker; the program opens the libraries at run time.
for library in cuda cublas cublasLt curand nvrtc cudnn nccl; do printf '!<arch>\n' > "$home/lib64/lib$library.a"; done
ln -s "$parts/lib/libcudart_static.a" "$home/lib64/libcudart.a"
ln -s "$parts/lib/libcudart_static.a" "$parts/lib/libcudadevrt.a" "$home/lib64/"
# candle's quantised and mixture-of-experts kernels, which nothing here calls, become traps or nothing: four minutes and 30 MB less.
cat > "$home/bin/nvcc" <<NVCC
#!/bin/sh
for last in "\$@"; do :; done
case "\$last" in
src/moe/*.cu | src/mmq_gguf/*.cu | src/mmvq_gguf.cu)
  while [ "\$1" != -o ]; do shift; done
  {
    if [ "\$last" = src/mmvq_gguf.cu ]; then
      grep -oE 'pub fn [A-Za-z0-9_]+' src/ffi.rs | sed 's/pub fn \(.*\)/void \1(void) { __builtin_trap(); }/'
    fi
  } | cc -x c -fPIC -c -o "\$2" -
  exit
  ;;
src/quantized.cu | */src/quantized.cu)
  while [ "\$1" != --output-directory ]; do shift; done
  printf '.version 8.0\n.target sm_80\n.address_size 64\n' > "\$2/quantized.ptx"
  exit
  ;;
esac
exec "$parts/bin/nvcc" "\$@"
NVCC
chmod +x "$home/bin/nvcc"
"$home/bin/nvcc" --version | tail -n 2
