// What is done to many small tensors at once: the parameters of a network, which one launch each would keep a GPU waiting for
// the next. A launch takes a row of pointers for each tensor, and `blockIdx.y` says which tensor a block is for.
#pragma once
#include "sums.cuh"
#include "weights.cuh"

// Pointers of a launch, a tensor's behind each other. They are arguments as any other (a kernel may have 4 KiB of them), so
// that nothing is sent to the GPU before the launch.
struct Table {
    float *pointers[256];
};
// Tensors of a launch.
enum { TENSORS = 64, MATRICES = 32 };

// ---- a step of the optimiser

struct Squares {
    // Blocks of a tensor, and values of a block.
    int parts, part;
    // Tensors of launches before this one.
    int before, unused;
    int lengths[TENSORS];
};

// Σ of the squares of each part of each gradient, 0 behind its end: [tensor][part]. 256 threads; pointers of a tensor as
// `adam` has them; grid: parts, tensors.
__device__ __forceinline__ void square_sums(double *out, const Table &table, const Squares &s)
{
    const float *values = table.pointers[4 * blockIdx.y];
    const int begin = blockIdx.x * s.part, end = min(s.lengths[blockIdx.y], begin + s.part);
    double mine = 0;
    for (int i = begin + (int)threadIdx.x; i < end; i += 256)
        mine += (double)values[i] * values[i];
    const double sum = block_sum(mine);
    if (threadIdx.x == 0)
        out[(size_t)(s.before + blockIdx.y) * s.parts + blockIdx.x] = sum;
}

struct StepControl {
    int parts, unused;
    // Largest norm of the gradient.
    double clip;
};

// The norm of the gradient; what it is to be multiplied by; whether anything is to move, which needs a loss and a norm
// that are numbers. One block of 256 threads.
__device__ __forceinline__ void step_control(const double *squares, const double *loss, double *out,
                                             const StepControl &s)
{
    double mine = 0;
    for (int i = threadIdx.x; i < s.parts; i += 256)
        mine += squares[i];
    const double norm = sqrt(block_sum(mine));
    if (threadIdx.x != 0)
        return;
    // Neither infinite nor NaN.
    const bool finite = norm - norm == 0 && loss[0] - loss[0] == 0;
    const double scale = norm > s.clip ? s.clip / norm : 1.;
    out[0] = norm;
    out[1] = finite ? scale : 0.;
    out[2] = finite;
}

struct Adam {
    // Decay rates of both means, and what a new gradient has of them, before it is scaled.
    float first_kept, second_kept;
    double first_new, second_new;
    // What makes up for means that began at 0, and what is added to the root.
    float second_correction, epsilon;
    // Learning rate, with the same for the first mean.
    float rate;
    int unused;
    int lengths[TENSORS];
};

// Moves values, the mean of their gradient and that of its square, where they are; pointers of a tensor: gradient, values,
// means. `control` is that of `step_control`: where it says so, all stay as they are. Grid: any, tensors.
__device__ __forceinline__ void adam(const double *control, const Table &table, const Adam &a)
{
    if (control[2] == 0)
        return;
    const double scale = control[1];
    const float first_new = (float)(a.first_new * scale), second_new = (float)(a.second_new * scale * scale);
    const int row = 4 * blockIdx.y;
    const float *gradient = table.pointers[row];
    float *values = table.pointers[row + 1], *first = table.pointers[row + 2], *second = table.pointers[row + 3];
    EACH(i, a.lengths[blockIdx.y])
    {
        const float g = gradient[i];
        const float mean = product(first[i], a.first_kept) + product(g, first_new);
        const float square = product(second[i], a.second_kept) + product(product(g, g), second_new);
        first[i] = mean;
        second[i] = square;
        values[i] -= product(mean / (sqrtf(product(square, a.second_correction)) + a.epsilon), a.rate);
    }
}

struct Average {
    // Of the mean, and of the values.
    float kept, added;
    int lengths[TENSORS];
};

// Takes values in into a mean, where that is; pointers of a tensor: mean, values. Grid: any, tensors.
__device__ __forceinline__ void average(const Table &table, const Average &a)
{
    float *mean = table.pointers[2 * blockIdx.y];
    const float *values = table.pointers[2 * blockIdx.y + 1];
    EACH(i, a.lengths[blockIdx.y])
        mean[i] = product(mean[i], a.kept) + product(values[i], a.added);
}

// ---- rows of unit length: `standardise_rows`

struct Rows {
    // Of each matrix: rows, values of a row, values of a block of the identity (0 without), and where its gradients go.
    int rows[MATRICES], values[MATRICES], block[MATRICES], offsets[MATRICES];
};

// What a direction is: its mean, and one over the length of what is left without it.
struct Direction {
    float mean, inverse;
};

__device__ __forceinline__ Direction direction_of(const float *values, int count)
{
    float sum = 0.f;
    for (int i = threadIdx.x; i < count; i += 256)
        sum += values[i];
    Direction d;
    d.mean = block_sum(sum) / count;
    float square = 0.f;
    for (int i = threadIdx.x; i < count; i += 256)
        square += product(values[i] - d.mean, values[i] - d.mean);
    // A row of zeros has no direction, not a wrong one.
    d.inverse = 1.f / sqrtf(block_sum(square) + 1e-12f);
    return d;
}

// Makes rows of directions, gains and means; pointers of a matrix: those, and the rows. 256 threads; grid: rows, matrices.
__device__ __forceinline__ void standardise_rows(const Table &table, const Rows &r)
{
    const int matrix = blockIdx.y, row = blockIdx.x, pointers = 4 * matrix;
    if (row >= r.rows[matrix])
        return;
    const int count = r.values[matrix], block = r.block[matrix];
    const float *values = table.pointers[pointers] + (size_t)row * count;
    const Direction d = direction_of(values, count);
    const float scale = product(d.inverse, table.pointers[pointers + 1][row]);
    const float mean = table.pointers[pointers + 2][row] / sqrtf((float)count);
    const int one = block ? row * block + block / 2 : -1;
    float *out = table.pointers[pointers + 3] + (size_t)row * count;
    for (int i = threadIdx.x; i < count; i += 256) {
        const float value = product(values[i] - d.mean, scale) + mean;
        out[i] = i == one ? value + 1.f : value;
    }
}

// The gradients of directions, gains and means behind each other, for each matrix, from that of the rows; pointers of a
// matrix: directions, gains, that gradient, nothing. 256 threads; grid: rows, matrices.
__device__ __forceinline__ void standardise_rows_gradient(float *out, const Table &table, const Rows &r)
{
    const int matrix = blockIdx.y, row = blockIdx.x, pointers = 4 * matrix;
    if (row >= r.rows[matrix])
        return;
    const int count = r.values[matrix], rows = r.rows[matrix];
    const float *values = table.pointers[pointers] + (size_t)row * count;
    const float *gradient = table.pointers[pointers + 2] + (size_t)row * count;
    const Direction d = direction_of(values, count);
    float sum = 0.f, along = 0.f;
    for (int i = threadIdx.x; i < count; i += 256) {
        sum += gradient[i];
        along += product(gradient[i], product(values[i] - d.mean, d.inverse));
    }
    sum = block_sum(sum);
    along = block_sum(along);
    const float scale = product(d.inverse, table.pointers[pointers + 1][row]), mean = sum / count;
    float *of_direction = out + r.offsets[matrix] + (size_t)row * count;
    // A row does not change along its own direction, nor with the mean of that.
    for (int i = threadIdx.x; i < count; i += 256) {
        const float unit = product(values[i] - d.mean, d.inverse);
        of_direction[i] = product(gradient[i] - mean - product(unit, along), scale);
    }
    if (threadIdx.x == 0) {
        float *of_gain = out + r.offsets[matrix] + (size_t)rows * count;
        of_gain[row] = along;
        of_gain[rows + row] = sum / sqrtf((float)count);
    }
}
