#!/bin/sh
# Runs on a machine with an NVIDIA GPU: holds the GPU against the processor, measures, and prints one table last.
# usage: sh suite.sh [DEVICE]      (cuda:0)      Results stay in the folder `results` beside this file.
cd "$(dirname "$0")" || exit 2
device=${1:-cuda:0}
results=results
mkdir -p "$results"
failed=0

# CUDA's libraries out of PyTorch's environment, where there is one and they are not installed otherwise.
if python3 -c 'import torch' 2> /dev/null; then
  nvidia=$(python3 -c 'import nvidia.cudnn as c, os; print(os.path.dirname(list(c.__path__)[0]))' 2> /dev/null)
  [ -n "$nvidia" ] && export LD_LIBRARY_PATH="$nvidia/cu13/lib:$nvidia/cudnn/lib:$nvidia/nccl/lib:$LD_LIBRARY_PATH"
fi

step() { # name, command...
  name=$1
  shift
  echo "== $name" >&2
  "$@" > "$results/$name.txt" 2> "$results/$name.err"
  code=$?
  if [ $code -eq 0 ]; then
    state=ok
  else
    state="FAILED ($code)"
    failed=1
  fi
  cat "$results/$name.txt" "$results/$name.err" >&2
  printf '%-24s %s\n' "$name" "$state" >> "$results/steps"
}

refused() { # a command that must end with exit code 2
  "$@"
  [ $? -eq 2 ]
}

: > "$results/steps"
step devices ./deepfinder info --devices
step check-device ./deepfinder check-device --device "$device"
if [ "$code" -eq 2 ]; then
  echo "nothing more is run: $device cannot be had here, for the reason above" >&2
  exit 2
fi
# The ops by either convolution alone; the usual choice is the faster one.
step check-own env DEEPFINDER_CUDNN=0 ./deepfinder check-device --device "$device"
step check-cudnn env DEEPFINDER_CUDNN=1 ./deepfinder check-device --device "$device"
step gpu-memory nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv
step check-processor ./deepfinder check-device --device cpu
step bad-device refused ./deepfinder bench --device cuda:4096
step demo-gpu ./deepfinder demo --device "$device" --out "$results/demo-gpu"
step demo-processor ./deepfinder demo --device cpu --out "$results/demo-processor"
if [ -f parity/volume.mrc ] && [ -f parity/deepfinder_shrec19.h5 ]; then
  for where in "$device" cpu; do
    name=segment-$(echo "$where" | tr -d :)
    step "$name" ./deepfinder segment parity/volume.mrc --weights parity/deepfinder_shrec19.h5 \
      --output "$results/$name.mrc" --device "$where"
  done
  step parity ./deepfinder evaluate "$results/segment-cpu.mrc" "$results/segment-$(echo "$device" | tr -d :).mrc"
  if [ "$(nvidia-smi -L 2> /dev/null | wc -l)" -ge 2 ]; then
    cp parity/volume.mrc "$results/other.mrc"
    step two-gpus ./deepfinder segment parity/volume.mrc "$results/other.mrc" --weights parity/deepfinder_shrec19.h5 \
      --output "$results/two-gpus" --device cuda:0,cuda:1
    step two-gpus-agree cmp "$results/two-gpus/volume.mrc" "$results/two-gpus/other.mrc"
  fi
fi
# A training that GPUs share through NCCL must have the losses of one alone. Where NCCL is missing this says so, and fails.
if [ "$(nvidia-smi -L 2> /dev/null | wc -l)" -ge 2 ]; then
  step check-two-gpus ./deepfinder check-device --device cuda:0,cuda:1
  step bench-two-gpus ./deepfinder bench --device cuda:0,cuda:1 --batch 25 --runs 10
fi
step bench-own env DEEPFINDER_CUDNN=0 ./deepfinder bench --device "$device" --cube 256 --batch 25 --runs 10
step bench-gpu ./deepfinder bench --device "$device" --cube 256 --batch 25 --runs 10
step bench-processor ./deepfinder bench --device cpu
if python3 -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
  step bench-pytorch python3 torch_unet.py --device "$device"
fi

echo
echo "===== steps"
cat "$results/steps"
for table in devices check-device check-two-gpus bench-own bench-gpu bench-two-gpus bench-processor bench-pytorch; do
  if [ -f "$results/$table.txt" ]; then
    echo "===== $table"
    cat "$results/$table.txt"
  fi
done
exit $failed
