// Cubic windows of volumes that lie one behind the other: reflected, normalised, turned, with their labels.
#pragma once
#include "sums.cuh"
#include "weights.cuh"

// As `WindowPlace` in `windows.rs` has it.
struct WindowPlace {
    // Of the volume's first voxel.
    int64_t offset;
    // Of the volume, and the window's first voxel in it; along z, y, x.
    int size[3], start[3];
    int turned;
    // What the normalised voxels are multiplied by, and what is added.
    float scale, shift;
    int unused;
};

struct Windows {
    int windows, side;
    // Voxels of a part of a window, and parts.
    int part, parts;
};

// The index inside a volume that an index outside is a mirror image of; the edge is not repeated.
__device__ __forceinline__ int reflected(int index, int size)
{
    const int period = size > 1 ? 2 * size - 2 : 1;
    int folded = index % period;
    folded = folded < 0 ? folded + period : folded;
    return min(min(folded, period - folded), size - 1);
}

// Where the voxel that a window shows at an index lies.
__device__ __forceinline__ size_t voxel_shown(const WindowPlace &p, int i, int side)
{
    int z = i / (side * side), x = i % side;
    const int y = i / side % side;
    if (p.turned) {
        z = side - 1 - z;
        x = side - 1 - x;
    }
    z = reflected(p.start[0] + z, p.size[0]);
    return (size_t)p.offset + ((size_t)z * p.size[1] + reflected(p.start[1] + y, p.size[1])) * p.size[2] +
           reflected(p.start[2] + x, p.size[2]);
}

// Of the sums of a window's parts.
__device__ __forceinline__ double mean_of(const double *sums, const Windows &w)
{
    double sum = 0;
    for (int part = 0; part < w.parts; part++)
        sum += sums[blockIdx.y * w.parts + part];
    return sum / (w.side * w.side * w.side);
}

// Σ of each part of each window. 256 threads; grid: parts, windows.
__device__ __forceinline__ void window_sums(const float *volumes, const WindowPlace *places, double *out,
                                            const Windows &w)
{
    const WindowPlace p = places[blockIdx.y];
    const int begin = blockIdx.x * w.part, end = min(w.side * w.side * w.side, begin + w.part);
    double mine = 0;
    for (int i = begin + (int)threadIdx.x; i < end; i += 256)
        mine += volumes[voxel_shown(p, i, w.side)];
    const double sum = block_sum(mine);
    if (threadIdx.x == 0)
        out[blockIdx.y * w.parts + blockIdx.x] = sum;
}

// Σ of the squared deviations from the mean.
__device__ __forceinline__ void window_deviations(const float *volumes, const WindowPlace *places, const double *sums,
                                                  double *out, const Windows &w)
{
    const WindowPlace p = places[blockIdx.y];
    const double mean = mean_of(sums, w);
    const int begin = blockIdx.x * w.part, end = min(w.side * w.side * w.side, begin + w.part);
    double mine = 0;
    for (int i = begin + (int)threadIdx.x; i < end; i += 256) {
        const double deviation = volumes[voxel_shown(p, i, w.side)] - mean;
        mine += product(deviation, deviation);
    }
    const double sum = block_sum(mine);
    if (threadIdx.x == 0)
        out[blockIdx.y * w.parts + blockIdx.x] = sum;
}

// The windows at mean 0 and standard deviation 1 (0 where they are constant, to the rounding of a float), then scaled and
// shifted. Grid: parts, windows.
__device__ __forceinline__ void window_voxels(const float *volumes, const WindowPlace *places, const double *sums,
                                              const double *deviations, float *out, const Windows &w)
{
    const WindowPlace p = places[blockIdx.y];
    const double mean = mean_of(sums, w), spread = sqrt(mean_of(deviations, w));
    const bool constant = spread <= 1.1920928955078125e-7 * fabs(mean);
    const int voxels = w.side * w.side * w.side;
    const int begin = blockIdx.x * w.part, end = min(voxels, begin + w.part);
    for (int i = begin + (int)threadIdx.x; i < end; i += 256) {
        const double deviation = volumes[voxel_shown(p, i, w.side)] - mean;
        float value = constant ? 0.f : (float)(deviation / spread);
        if (p.scale != 1.f || p.shift != 0.f)
            value = product(p.scale, value) + p.shift;
        out[(size_t)blockIdx.y * voxels + i] = value;
    }
}

__device__ __forceinline__ void window_labels(const uint8_t *labels, const WindowPlace *places, uint8_t *out,
                                              const Windows &w)
{
    const int voxels = w.side * w.side * w.side;
    EACH(i, (size_t)w.windows * voxels) out[i] = labels[voxel_shown(places[i / voxels], i % voxels, w.side)];
}
