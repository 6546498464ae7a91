// What the kernels ask of the machine. `emulator.h` has a plain C++ twin of each, so that the kernels can be run, and
// held against the CPU's, where there is no GPU.
#pragma once

#ifdef EMULATED
#include "emulator.h"
#else
#include <cuda_bf16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;

// 16-byte aligned memory of a block.
#define SHARED __shared__ __align__(16)
// An argument that all threads read where it is, however it is indexed, instead of a copy for each of them.
#define ONCE __grid_constant__

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bf16 value) { return __bfloat162float(value); }
__device__ __forceinline__ void store(float *to, float value) { *to = value; }
__device__ __forceinline__ void store(bf16 *to, float value) { *to = __float2bfloat16_rn(value); }

// A product that is rounded before anything is added to it.
__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double product(double a, double b) { return __dmul_rn(a, b); }

// Two values beside each other, the first in the lower half, as in memory.
__device__ __forceinline__ uint32_t pack(float low, float high)
{
    return (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(low)) |
           (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}

// Starts to copy 16 bytes to shared memory; zeros where there is nothing to copy (PTX ISA, cp.async).
__device__ __forceinline__ void copy16(bf16 *to, const bf16 *from, bool there)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(to);
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most that many of this thread's groups are on their way.
template <int GROUPS> __device__ __forceinline__ void wait_for_copies()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(GROUPS) : "memory");
}

// Four 8 × 8 matrices of which each lane names a row: lanes 0..8 those of the first, and so on (PTX ISA, ldmatrix).
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const bf16 *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], const bf16 *row)
{
    uint32_t address = (uint32_t)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// sums[16 × 8] += a[16 × 16] · b[16 × 8] (PTX ISA, mma.m16n8k16).
__device__ __forceinline__ void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};\n"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
