// The part of CUDA that the kernels use, in plain C++: a block's threads are fibers on one processor thread, run one
// after the other up to the next barrier. What a GPU would leave undefined ends the program with a message: a barrier
// that not all threads reach, an index outside a buffer (buffers end at pages that cannot be touched), results that
// depend on the order in which threads run or copies arrive (`emulator.cpp` can turn both around).
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

struct Dimensions {
    unsigned x, y, z;
};
extern Dimensions threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
// Blocks run one after the other, so memory of the program is memory of the block.
#define SHARED alignas(16) static
#define ONCE

struct bf16 {
    uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(bf16 value)
{
    uint32_t bits = (uint32_t)value.bits << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}
inline uint16_t rounded(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    // To the nearest, ties to even.
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void store(float *to, float value) { *to = value; }
inline void store(bf16 *to, float value) { to->bits = rounded(value); }
inline uint32_t pack(float low, float high) { return rounded(low) | (uint32_t)rounded(high) << 16; }

inline float product(float a, float b) { return a * b; }
inline double product(double a, double b) { return a * b; }

void __syncthreads();

void copy16(bf16 *to, const bf16 *from, bool there);
void commit_copies();
void wait_for_copies(int groups);
template <int GROUPS> inline void wait_for_copies() { wait_for_copies(GROUPS); }

void load_matrices(uint32_t (&to)[4], const bf16 *row);
void load_matrices_transposed(uint32_t (&to)[4], const bf16 *row);
void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

inline int min(int a, int b) { return a < b ? a : b; }
