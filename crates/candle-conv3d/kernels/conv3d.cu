// What a GPU is given.
#include "correlate.cuh"
#include "loss.cuh"
#include "tensors.cuh"
#include "windows.cuh"

#define KERNEL(name, threads, parameters, call)                                                                       \
    extern "C" __global__ void __launch_bounds__(threads) name parameters { call; }
#include "kernels.inc"
