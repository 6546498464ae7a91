// Gradients of weights: what each tap gathers, times what stands at the output, summed over all voxels. A matrix product
// (taps × gathered channels, × anchored channels, over voxels), cut along the voxels into parts that are added up in
// order afterwards (`layers.cuh`): the same bits every time, which atomic additions would not give.
#pragma once
#include "gather.cuh"

// Sums [part][tap · channels + channel][output] in f32.
struct Correlate {
    // Of which the sizes, taps, `channels[0]` (gathered) and `outputs` (anchored) count.
    Gather lattice;
    // Voxels of a part, a multiple of 32.
    int part;
};

// Any channels. 64 threads, 4 × 4 sums each; grid: rows / 32, outputs / 32, parts.
template <class T>
__device__ void correlate(const T *gathered, const T *anchored, float *out, const Correlate &c)
{
    const int TILE = 32, K = 32, THREADS = 64;
    const Gather &g = c.lattice;
    SHARED float left[K][TILE + 4];
    SHARED float right[K][TILE + 4];
    SHARED Position from[K];
    const int thread = threadIdx.x, mine = thread % TILE;
    const int voxels = g.batch * g.output[0] * g.output[1] * g.output[2];
    const int begin = blockIdx.z * c.part, end = min(voxels, begin + c.part);
    const int channels = g.channels[0], rows = g.taps[0] * g.taps[1] * g.taps[2] * channels;
    const int gathered_row = blockIdx.x * TILE + mine, output = blockIdx.y * TILE + mine;
    const int tap = gathered_row / channels, channel = gathered_row % channels;
    const int dz = tap / (g.taps[1] * g.taps[2]), dy = tap / g.taps[2] % g.taps[1], dx = tap % g.taps[2];
    const int row = thread / 8 * 4, column = thread % 8 * 4;
    float sums[4][4] = {};
    for (int first = begin; first < end; first += K) {
        if (thread < K)
            from[thread] = first_input(first + thread, end, g);
        __syncthreads();
        for (int k = thread / TILE; k < K; k += THREADS / TILE) {
            const Position at = from[k];
            const int z = at.z + dz, y = at.y + dy, x = at.x + dx;
            float value = 0.f;
            if (gathered_row < rows && inside(z, y, x, g.input))
                value = to_float(gathered[voxel_index(at.n, z, y, x, g.input) * channels + channel]);
            left[k][mine] = value;
            const bool there = first + k < end && output < g.outputs;
            right[k][mine] = there ? to_float(anchored[(size_t)(first + k) * g.outputs + output]) : 0.f;
        }
        __syncthreads();
        for (int k = 0; k < K; k++)
            for (int m = 0; m < 4; m++)
                for (int n = 0; n < 4; n++)
                    sums[m][n] += left[k][row + m] * right[k][column + n];
        __syncthreads();
    }
    for (int m = 0; m < 4; m++) {
        const int to_row = blockIdx.x * TILE + row + m;
        for (int n = 0; n < 4; n++) {
            const int to_output = blockIdx.y * TILE + column + n;
            if (to_row < rows && to_output < g.outputs)
                out[((size_t)blockIdx.z * rows + to_row) * g.outputs + to_output] = sums[m][n];
        }
    }
}

// Gathered channels in multiples of 16, anchored ones of 8, on tensor cores. Four warps, each 2 of the block's 8 tiles of
// 16 rows, whichever taps they belong to; grid: rows / 128, outputs / N, parts.
template <int N> __device__ void correlate_mma(const bf16 *gathered, const bf16 *anchored, float *out, const Correlate &c)
{
    const int TILES = 8, K = 32, LEFT = TILES * 16 + 8, RIGHT = N + 8, SLOTS = 3, THREADS = 128;
    const Gather &g = c.lattice;
    SHARED bf16 left[SLOTS][K][LEFT];
    SHARED bf16 right[SLOTS][K][RIGHT];
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int voxels = g.batch * g.output[0] * g.output[1] * g.output[2];
    const int begin = blockIdx.z * c.part, end = min(voxels, begin + c.part);
    const int stages = (end - begin + K - 1) / K;
    const int channels = g.channels[0], tiles = g.taps[0] * g.taps[1] * g.taps[2] * (channels / 16);

    // What this thread copies: 8 channels of one tile, for four voxels.
    const int piece = thread % 16, tile = blockIdx.x * TILES + piece / 2;
    const int tap = tile / (channels / 16), channel = tile % (channels / 16) * 16 + piece % 2 * 8;
    const int dz = tap / (g.taps[1] * g.taps[2]), dy = tap / g.taps[2] % g.taps[1], dx = tap % g.taps[2];
    int voxel[4];
    Position at[4];
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        voxel[i] = begin + thread / 16 + 8 * i;
        at[i] = position(voxel[i], g.output);
    }
    auto copy = [&](int stage) {
        if (stage >= stages)
            return;
        const int slot = stage % SLOTS;
        #pragma unroll
        for (int i = 0; i < 4; i++) {
            const int z = at[i].z * g.stride + g.first[0] + dz, y = at[i].y * g.stride + g.first[1] + dy,
                      x = at[i].x * g.stride + g.first[2] + dx;
            const bool there = voxel[i] < end && tile < tiles && inside(z, y, x, g.input);
            const bf16 *from = gathered;
            if (there)
                from += voxel_index(at[i].n, z, y, x, g.input) * channels + channel;
            copy16(&left[slot][thread / 16 + 8 * i][piece * 8], from, there);
            // Walked on from stage to stage: three divisions each time would cost as much as the products.
            voxel[i] += K;
            at[i].x += K;
            while (at[i].x >= g.output[2]) {
                at[i].x -= g.output[2];
                if (++at[i].y == g.output[1]) {
                    at[i].y = 0;
                    if (++at[i].z == g.output[0]) {
                        at[i].z = 0;
                        at[i].n++;
                    }
                }
            }
        }
        for (int i = thread; i < K * (N / 8); i += THREADS) {
            const int k = i / (N / 8), output = blockIdx.y * N + i % (N / 8) * 8;
            const int anchor = begin + stage * K + k;
            const bool there = anchor < end && output < g.outputs;
            const bf16 *from = anchored;
            if (there)
                from += (size_t)anchor * g.outputs + output;
            copy16(&right[slot][k][i % (N / 8) * 8], from, there);
        }
    };
    for (int stage = 0; stage < SLOTS - 1; stage++) {
        copy(stage);
        commit_copies();
    }

    float sums[2][N / 8][4] = {};
    const int in_matrix = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
    for (int stage = 0; stage < stages; stage++) {
        wait_for_copies<SLOTS - 2>();
        __syncthreads();
        copy(stage + SLOTS - 1);
        commit_copies();
        const int slot = stage % SLOTS;
        #pragma unroll
        for (int k = 0; k < K; k += 16) {
            // Both factors lie with the voxels down, and the tensor cores want them across.
            uint32_t rows[2][4];
            #pragma unroll
            for (int m = 0; m < 2; m++)
                load_matrices_transposed(rows[m], &left[slot][k + high + in_matrix][(warp * 2 + m) * 16 + low]);
            #pragma unroll
            for (int n = 0; n < N / 16; n++) {
                uint32_t columns[4];
                load_matrices_transposed(columns, &right[slot][k + low + in_matrix][n * 16 + high]);
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
        const int to_tile = blockIdx.x * TILES + warp * 2 + m;
        if (to_tile >= tiles)
            continue;
        #pragma unroll
        for (int n = 0; n < N / 8; n++) {
            const int output = blockIdx.y * N + n * 8 + lane % 4 * 2;
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                const size_t row = (size_t)blockIdx.z * tiles * 16 + to_tile * 16 + i / 2 * 8 + lane / 4;
                if (output + i % 2 < g.outputs)
                    out[row * g.outputs + output + i % 2] = sums[m][n][i];
            }
        }
    }
}
