// What is computed at each voxel: pooling, activation, soft-max, and sums of channels.
#pragma once
#include "weights.cuh"

struct Voxels {
    int voxels, channels;
    // Voxels of a part, where sums are made in parts; where in the result they go.
    int part, parts, offset;
};

// The gradient before a ReLU.
template <class T> __device__ void relu_gradient(const T *result, const T *gradient, T *out, const Voxels &v)
{
    EACH(i, (size_t)v.voxels * v.channels)
    store(out + i, to_float(result[i]) > 0.f ? to_float(gradient[i]) : 0.f);
}

// Adds a bias, where there is one, to what is there, and takes the ReLU where `part` says so.
template <class T> __device__ void add_bias(const T *bias, T *out, const Voxels &v)
{
    EACH(i, (size_t)v.voxels * v.channels)
    {
        const float value = to_float(out[i]) + (bias ? to_float(bias[i % v.channels]) : 0.f);
        store(out + i, v.part && value < 0.f ? 0.f : value);
    }
}

struct Pool {
    int batch;
    // Of the result.
    int size[3];
    int channels;
};

// The corner of a result's 2³ voxels, in the order z, y, x.
__device__ __forceinline__ size_t corner(size_t i, int corner, const Pool &p)
{
    const Position at = position((int)(i / p.channels), p.size);
    const int whole[3] = {2 * p.size[0], 2 * p.size[1], 2 * p.size[2]};
    const size_t voxel =
        voxel_index(at.n, 2 * at.z + corner / 4, 2 * at.y + corner / 2 % 2, 2 * at.x + corner % 2, whole);
    return voxel * p.channels + i % p.channels;
}

template <class T> __device__ void max_pool(const T *input, T *out, const Pool &p)
{
    EACH(i, (size_t)p.batch * p.size[0] * p.size[1] * p.size[2] * p.channels)
    {
        float greatest = to_float(input[corner(i, 0, p)]);
        for (int c = 1; c < 8; c++) {
            const float value = to_float(input[corner(i, c, p)]);
            greatest = value > greatest ? value : greatest;
        }
        store(out + i, greatest);
    }
}

// To the first of the greatest voxels.
template <class T>
__device__ void max_pool_gradient(const T *input, const T *result, const T *gradient, T *out, const Pool &p)
{
    EACH(i, (size_t)p.batch * p.size[0] * p.size[1] * p.size[2] * p.channels)
    {
        const float greatest = to_float(result[i]);
        bool open = true;
        for (int c = 0; c < 8; c++) {
            const size_t at = corner(i, c, p);
            const bool hit = open && to_float(input[at]) == greatest;
            store(out + at, hit ? to_float(gradient[i]) : 0.f);
            open = open && !hit;
        }
    }
}

// Index of the greatest; of equal ones the lowest, 0 where nothing is greater than −∞.
template <class T> __device__ int greatest_of(const T *values, int channels)
{
    int best = 0;
    float greatest = -INFINITY;
    for (int c = 0; c < channels; c++) {
        const float value = to_float(values[c]);
        if (value > greatest) {
            greatest = value;
            best = c;
        }
    }
    return best;
}

// Σ exp(value − greatest).
template <class T> __device__ float exp_sum(const T *values, int channels, float greatest)
{
    float sum = 0.f;
    for (int c = 0; c < channels; c++)
        sum += expf(to_float(values[c]) - greatest);
    return sum;
}

template <class T> __device__ void softmax(const T *input, T *out, const Voxels &v)
{
    EACH(i, v.voxels)
    {
        const T *values = input + i * v.channels;
        const float greatest = to_float(values[greatest_of(values, v.channels)]);
        const float scale = 1.f / exp_sum(values, v.channels, greatest);
        for (int c = 0; c < v.channels; c++)
            store(out + i * v.channels + c, expf(to_float(values[c]) - greatest) * scale);
    }
}

struct Region {
    // Of the box: planes, rows, columns; channels.
    int size[3], channels;
    // Where it begins in the logits, and their rows and columns.
    int start[3], rows, columns;
    // The plane of the sums where it goes; whether planes and columns are turned about.
    int to, turned;
};

// Adds the soft-max of a box of logits to sums of the box's rows and columns.
__device__ __forceinline__ void add_softmax(const float *logits, float *sums, const Region &b)
{
    const int rows = b.size[1], columns = b.size[2], channels = b.channels;
    EACH(i, (size_t)b.size[0] * rows * columns)
    {
        const int x = i % columns, y = i / columns % rows, z = i / columns / rows;
        const size_t from =
            ((size_t)(b.start[0] + z) * b.rows + b.start[1] + y) * b.columns + b.start[2] + x;
        const int plane = b.to + (b.turned ? b.size[0] - 1 - z : z), column = b.turned ? columns - 1 - x : x;
        const float *values = logits + from * channels;
        float *out = sums + (((size_t)plane * rows + y) * columns + column) * channels;
        const float greatest = values[greatest_of(values, channels)];
        const float scale = 1.f / exp_sum(values, channels, greatest);
        for (int c = 0; c < channels; c++)
            out[c] += expf(values[c] - greatest) * scale;
    }
}

template <class T> __device__ void softmax_gradient(const T *result, const T *gradient, T *out, const Voxels &v)
{
    EACH(i, v.voxels)
    {
        const size_t first = i * v.channels;
        float mean = 0.f;
        for (int c = 0; c < v.channels; c++)
            mean += to_float(result[first + c]) * to_float(gradient[first + c]);
        for (int c = 0; c < v.channels; c++)
            store(out + first + c, to_float(result[first + c]) * (to_float(gradient[first + c]) - mean));
    }
}

template <class T> __device__ void argmax(const T *input, uint8_t *out, const Voxels &v)
{
    EACH(i, v.voxels) out[i] = (uint8_t)greatest_of(input + i * v.channels, v.channels);
}

// Sums of each channel over the voxels of a part: [part][channel]. 256 threads: 8 voxels × 32 channels; grid: parts,
// channels / 32.
template <class T> __device__ void channel_sums(const T *values, float *out, const Voxels &v)
{
    SHARED float sums[8][32];
    const int row = threadIdx.x / 32, channel = blockIdx.y * 32 + threadIdx.x % 32;
    const int begin = blockIdx.x * v.part, end = min(v.voxels, begin + v.part);
    float sum = 0.f;
    if (channel < v.channels)
        for (int voxel = begin + row; voxel < end; voxel += 8)
            sum += to_float(values[(size_t)voxel * v.channels + channel]);
    sums[row][threadIdx.x % 32] = sum;
    __syncthreads();
    if (row == 0 && channel < v.channels) {
        for (int other = 1; other < 8; other++)
            sum += sums[other][threadIdx.x];
        out[(size_t)blockIdx.x * v.channels + channel] = sum;
    }
}

template <class T> __device__ void add_channel_sums(const float *sums, T *out, const Voxels &v)
{
    EACH(channel, v.channels)
    {
        float sum = 0.f;
        for (int part = 0; part < v.parts; part++)
            sum += sums[(size_t)part * v.channels + channel];
        store(out + v.offset + channel, sum);
    }
}
