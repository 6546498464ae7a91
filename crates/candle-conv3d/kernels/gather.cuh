// Convolutions in which every output gathers its inputs: forward, the gradient of the input, up-convolution.
// A matrix product (outputs' voxels × output channels, over taps × input channels) whose left factor is never built.
#pragma once
#include "device.cuh"

// Outputs of a regular lattice and the inputs that each sees; the same as the CPU's `Lattice`, and where outputs go.
struct Gather {
    int batch;
    int input[3];
    int output[3];
    // Output o sees inputs stride · o + first + tap.
    int stride;
    int first[3];
    int taps[3];
    // Output o goes to step · o + offset of a volume of that size.
    int place[3];
    int step;
    int offset[3];
    // Channels of the two sources (the second may have none) and of the output.
    int channels[2];
    int outputs;
    int relu;
};

struct Position {
    int n, z, y, x;
};

__device__ __forceinline__ Position position(int voxel, const int *size)
{
    Position at;
    at.x = voxel % size[2];
    voxel /= size[2];
    at.y = voxel % size[1];
    voxel /= size[1];
    at.z = voxel % size[0];
    at.n = voxel / size[0];
    return at;
}

__device__ __forceinline__ bool inside(int z, int y, int x, const int *size)
{
    return (unsigned)z < (unsigned)size[0] && (unsigned)y < (unsigned)size[1] && (unsigned)x < (unsigned)size[2];
}

__device__ __forceinline__ size_t voxel_index(int n, int z, int y, int x, const int *size)
{
    return (((size_t)n * size[0] + z) * size[1] + y) * size[2] + x;
}

// The first input that an output sees; far outside where there is no such output.
__device__ __forceinline__ Position first_input(int voxel, int voxels, const Gather &g)
{
    if (voxel >= voxels)
        return {0, -(1 << 30), 0, 0};
    Position at = position(voxel, g.output);
    return {at.n, at.z * g.stride + g.first[0], at.y * g.stride + g.first[1], at.x * g.stride + g.first[2]};
}

__device__ __forceinline__ size_t place(int voxel, const Gather &g)
{
    Position at = position(voxel, g.output);
    return voxel_index(at.n, at.z * g.step + g.offset[0], at.y * g.step + g.offset[1], at.x * g.step + g.offset[2],
                       g.place);
}

// Any channels, products in f32. Weights are [output][tap][channel], one source after the other.
// 128 threads, 4 × 4 outputs each; grid: voxels / 64, channels / 32.
template <class T>
__device__ void gather(const T *a, const T *b, const T *weights, const T *bias, T *out, const Gather &g)
{
    const int M = 64, N = 32, K = 16, THREADS = 128;
    SHARED float left[K][M + 4];
    SHARED float right[K][N + 4];
    SHARED Position from[M];
    const int thread = threadIdx.x, k = thread % K;
    const int voxels = g.batch * g.output[0] * g.output[1] * g.output[2];
    const int first_voxel = blockIdx.x * M, first_output = blockIdx.y * N;
    if (thread < M)
        from[thread] = first_input(first_voxel + thread, voxels, g);
    __syncthreads();

    const int taps = g.taps[0] * g.taps[1] * g.taps[2];
    const int row = thread / 8 * 4, column = thread % 8 * 4;
    float sums[4][4] = {};
    for (int s = 0; s < 2; s++) {
        const T *source = s == 0 ? a : b;
        const int channels = g.channels[s], depth = taps * channels;
        for (int k0 = 0; k0 < depth; k0 += K) {
            const int tap = (k0 + k) / channels, channel = (k0 + k) % channels;
            const int dz = tap / (g.taps[1] * g.taps[2]), dy = tap / g.taps[2] % g.taps[1], dx = tap % g.taps[2];
            for (int m = thread / K; m < M; m += THREADS / K) {
                const Position at = from[m];
                const int z = at.z + dz, y = at.y + dy, x = at.x + dx;
                float value = 0.f;
                if (tap < taps && inside(z, y, x, g.input))
                    value = to_float(source[voxel_index(at.n, z, y, x, g.input) * channels + channel]);
                left[k][m] = value;
            }
            for (int n = thread / K; n < N; n += THREADS / K) {
                const int output = first_output + n;
                const bool there = tap < taps && output < g.outputs;
                right[k][n] = there ? to_float(weights[(size_t)output * depth + k0 + k]) : 0.f;
            }
            __syncthreads();
            for (int i = 0; i < K; i++)
                for (int m = 0; m < 4; m++)
                    for (int n = 0; n < 4; n++)
                        sums[m][n] += left[i][row + m] * right[i][column + n];
            __syncthreads();
        }
        weights += (size_t)g.outputs * depth;
    }
    for (int m = 0; m < 4; m++) {
        const int voxel = first_voxel + row + m;
        if (voxel >= voxels)
            continue;
        T *to = out + place(voxel, g) * g.outputs;
        for (int n = 0; n < 4; n++) {
            const int output = first_output + column + n;
            if (output >= g.outputs)
                continue;
            float value = sums[m][n] + (bias ? to_float(bias[output]) : 0.f);
            store(to + output, g.relu && value < 0.f ? 0.f : value);
        }
    }
}

// Input channels in multiples of 16, on tensor cores. Four warps, 32 voxels × N channels each; grid: voxels / 128,
// channels / N. The products' depth is walked in pairs of 16 channels, whichever tap or source they belong to.
template <int N>
__device__ void gather_mma(const bf16 *a, const bf16 *b, const bf16 *weights, const bf16 *bias, bf16 *out,
                           const Gather &g)
{
    // Rows are 80 bytes apart: eight of them lie in different banks.
    const int M = 128, ROW = 40, SLOTS = 3;
    SHARED bf16 left[SLOTS][M][ROW];
    SHARED bf16 right[SLOTS][N][ROW];
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int voxels = g.batch * g.output[0] * g.output[1] * g.output[2];
    const int taps = g.taps[0] * g.taps[1] * g.taps[2];
    const int of_first = taps * (g.channels[0] / 16), chunks = of_first + taps * (g.channels[1] / 16);
    const int stages = (chunks + 1) / 2;

    // What this thread copies: 8 channels of one of the two chunks, for four voxels.
    const int piece = thread % 4, copied_row = thread / 4;
    Position from[4];
    #pragma unroll
    for (int i = 0; i < 4; i++)
        from[i] = first_input(blockIdx.x * M + copied_row + 32 * i, voxels, g);
    auto copy = [&](int stage) {
        if (stage >= stages)
            return;
        const int slot = stage % SLOTS;
        int chunk = stage * 2 + piece / 2;
        const bool live = chunk < chunks;
        const bf16 *source = a, *factors = weights;
        int channels = g.channels[0];
        if (live && chunk >= of_first) {
            source = b;
            factors += (size_t)g.outputs * taps * channels;
            channels = g.channels[1];
            chunk -= of_first;
        }
        const int tap = chunk / (channels / 16), channel = chunk % (channels / 16) * 16 + piece % 2 * 8;
        const int dz = tap / (g.taps[1] * g.taps[2]), dy = tap / g.taps[2] % g.taps[1], dx = tap % g.taps[2];
        #pragma unroll
        for (int i = 0; i < 4; i++) {
            const int z = from[i].z + dz, y = from[i].y + dy, x = from[i].x + dx;
            const bool there = live && inside(z, y, x, g.input);
            const bf16 *at = source;
            if (there)
                at += voxel_index(from[i].n, z, y, x, g.input) * channels + channel;
            copy16(&left[slot][copied_row + 32 * i][piece * 8], at, there);
        }
        for (int row = copied_row; row < N; row += 32) {
            const int output = blockIdx.y * N + row;
            const bool there = live && output < g.outputs;
            const bf16 *at = weights;
            if (there)
                at = factors + (size_t)output * taps * channels + chunk * 16 + piece % 2 * 8;
            copy16(&right[slot][row][piece * 8], at, there);
        }
    };
    for (int stage = 0; stage < SLOTS - 1; stage++) {
        copy(stage);
        commit_copies();
    }

    float sums[2][N / 8][4] = {};
    // The row of a matrix that this lane names, and in which of four matrices.
    const int in_matrix = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
    for (int stage = 0; stage < stages; stage++) {
        wait_for_copies<SLOTS - 2>();
        __syncthreads();
        // Into the slot that all threads have left behind at that barrier.
        copy(stage + SLOTS - 1);
        commit_copies();
        const int slot = stage % SLOTS;
        #pragma unroll
        for (int k = 0; k < 32; k += 16) {
            uint32_t rows[2][4];
            #pragma unroll
            for (int m = 0; m < 2; m++)
                load_matrices(rows[m], &left[slot][warp * 32 + m * 16 + low + in_matrix][k + high]);
            #pragma unroll
            for (int n = 0; n < N / 16; n++) {
                uint32_t columns[4];
                load_matrices(columns, &right[slot][n * 16 + high + in_matrix][k + low]);
                #pragma unroll
                for (int m = 0; m < 2; m++) {
                    multiply_add(sums[m][2 * n], rows[m], columns[0], columns[1]);
                    multiply_add(sums[m][2 * n + 1], rows[m], columns[2], columns[3]);
                }
            }
        }
    }
    #pragma unroll
    for (int m = 0; m < 2; m++) {
        #pragma unroll
        for (int half = 0; half < 2; half++) {
            const int voxel = blockIdx.x * M + warp * 32 + m * 16 + half * 8 + lane / 4;
            if (voxel >= voxels)
                continue;
            bf16 *to = out + place(voxel, g) * g.outputs;
            #pragma unroll
            for (int n = 0; n < N / 8; n++) {
                const int output = blockIdx.y * N + n * 8 + lane % 4 * 2;
                float pair[2] = {sums[m][n][2 * half], sums[m][n][2 * half + 1]};
                #pragma unroll
                for (int i = 0; i < 2; i++) {
                    if (bias && output + i < g.outputs)
                        pair[i] += to_float(bias[output + i]);
                    if (g.relu && pair[i] < 0.f)
                        pair[i] = 0.f;
                }
                if (output + 1 < g.outputs && g.outputs % 2 == 0) {
                    *(uint32_t *)(to + output) = pack(pair[0], pair[1]);
                } else {
                    #pragma unroll
                    for (int i = 0; i < 2; i++)
                        if (output + i < g.outputs)
                            store(to + output + i, pair[i]);
                }
            }
        }
    }
}
