// Sums over the threads of a block.
#pragma once
#include "device.cuh"

// The sum of what each of 256 threads has, the same for all of them, in one order always.
template <class T> __device__ T block_sum(T mine)
{
    SHARED T sums[256];
    sums[threadIdx.x] = mine;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if ((int)threadIdx.x < half)
            sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    const T sum = sums[0];
    // Nobody may write the next sum's before all have read this one.
    __syncthreads();
    return sum;
}
