// A loss over soft-max and labels: its sums, its value and slopes, its gradient.
#pragma once
#include "voxels.cuh"

// Rows of the sums: Σp, Σp where it is the label, Σ −log p of the label, voxels of the label, voxels where it is the
// highest, those where it is both, and Σ −log p at every voxel.
enum { MASS, OVERLAP, SURPRISE, TRUTH, PREDICTED, AGREED, DOUBT, CLASS_ROWS };

struct ClassSums {
    int voxels, channels;
    // Voxels of a part, and parts.
    int part, parts;
    // Whether the last row is wanted; else it is 0.
    int smoothed;
};

// The sums of each part: [part][row][channel]. 256 threads; up to 256 channels; grid: parts.
template <class T> __device__ void class_sums(const T *logits, const uint8_t *labels, double *out, const ClassSums &v)
{
    const int THREADS = 256, ROOM = 7168, GROUPS = THREADS;
    SHARED float probabilities[ROOM];
    SHARED float surprise[THREADS];
    SHARED float whole[THREADS];
    SHARED uint8_t truth[THREADS];
    SHARED uint8_t highest[THREADS];
    SHARED double sums[CLASS_ROWS][GROUPS];
    const int thread = threadIdx.x, channels = v.channels;
    // Voxels at a time, and threads that share a channel.
    const int room = min(THREADS, ROOM / channels), groups = THREADS / channels;
    const int channel = thread % channels, group = thread / channels;
    const int begin = blockIdx.x * v.part, end = min(v.voxels, begin + v.part);
    double mine[CLASS_ROWS] = {};
    for (int first = begin; first < end; first += room) {
        const int count = min(room, end - first);
        if (thread < count) {
            const T *values = logits + (size_t)(first + thread) * channels;
            const int best = greatest_of(values, channels), label = labels[first + thread];
            const float top = to_float(values[best]), sum = exp_sum(values, channels, top);
            for (int c = 0; c < channels; c++)
                probabilities[thread * channels + c] = expf(to_float(values[c]) - top) / sum;
            whole[thread] = logf(sum) + top;
            // A label without a class is counted for none.
            surprise[thread] = label < channels ? whole[thread] - to_float(values[label]) : 0.f;
            truth[thread] = (uint8_t)label;
            highest[thread] = (uint8_t)best;
        }
        __syncthreads();
        if (group < groups)
            for (int i = group; i < count; i += groups) {
                const double p = probabilities[i * channels + channel];
                mine[MASS] += p;
                if (truth[i] == channel) {
                    mine[OVERLAP] += p;
                    mine[SURPRISE] += surprise[i];
                    mine[TRUTH] += 1;
                    mine[AGREED] += highest[i] == channel;
                }
                mine[PREDICTED] += highest[i] == channel;
                if (v.smoothed)
                    mine[DOUBT] += whole[i] - to_float(logits[(size_t)(first + i) * channels + channel]);
            }
        __syncthreads();
    }
    for (int row = 0; row < CLASS_ROWS; row++)
        sums[row][thread] = mine[row];
    __syncthreads();
    if (thread < channels)
        for (int row = 0; row < CLASS_ROWS; row++) {
            double sum = 0;
            for (int other = 0; other < groups; other++)
                sum += sums[row][other * channels + thread];
            out[((size_t)blockIdx.x * CLASS_ROWS + row) * channels + thread] = sum;
        }
}

__device__ __forceinline__ void add_class_sums(const double *sums, double *out, const ClassSums &v)
{
    EACH(i, CLASS_ROWS * v.channels)
    {
        double sum = 0;
        for (int part = 0; part < v.parts; part++)
            sum += sums[(size_t)part * CLASS_ROWS * v.channels + i];
        out[i] = sum;
    }
}

// A weighted sum of the Tversky loss and the cross-entropy.
struct ClassLoss {
    int channels, unused;
    // Weights of both parts; what a voxel found wrongly and one missed cost; added to both sides of the index.
    double dice_weight, cross_entropy_weight, alpha, beta, smoothing;
    // Exponent of what is missing to 1.
    double focal;
    // What the label, and what every class, has of the target of the cross-entropy.
    double sure, spread;
};

__device__ __forceinline__ double tversky_denominator(const double *sums, int channel, const ClassLoss &l)
{
    const double overlap = sums[OVERLAP * l.channels + channel];
    const double wrongly = sums[MASS * l.channels + channel] - overlap;
    const double missed = sums[TRUTH * l.channels + channel] - overlap;
    return overlap + l.alpha * wrongly + l.beta * missed + l.smoothing;
}

// Of a class in the cross-entropy; all the same where there are no weights.
__device__ __forceinline__ double weight_of(const double *weights, int channel)
{
    return weights ? weights[channel] : 1.;
}

// Σ over the voxels of their class's weight.
__device__ __forceinline__ double total_weight(const double *sums, const double *weights, int channels)
{
    double total = 0;
    for (int c = 0; c < channels; c++)
        total += weight_of(weights, c) * sums[TRUTH * channels + c];
    return total;
}

// Where a class is as good as right, a focal exponent below 1 is infinitely steep.
__device__ __forceinline__ bool too_steep(double missing, double focal) { return focal < 1 && missing <= 1e-6; }

// The loss, then voxels of each class, voxels where it is the highest, and those where it is both.
__device__ __forceinline__ void class_value(const double *sums, const double *weights, double *out, const ClassLoss &l)
{
    EACH(i, 3 * l.channels) out[1 + i] = sums[TRUTH * l.channels + i];
    if (threadIdx.x != 0 || blockIdx.x != 0)
        return;
    double dice = 0, surprise = 0;
    for (int c = 0; c < l.channels; c++) {
        const double denominator = tversky_denominator(sums, c, l);
        // 0/0: no mass, no truth, no smoothing.
        if (denominator == 0) {
            dice += 1;
        } else {
            const double missing = 1 - (sums[OVERLAP * l.channels + c] + l.smoothing) / denominator;
            const double least = l.focal < 1 ? 1e-6 : 0.;
            dice += missing != missing ? missing : pow(missing > least ? missing : least, l.focal);
        }
        surprise += weight_of(weights, c) *
                    (l.sure * sums[SURPRISE * l.channels + c] + l.spread * sums[DOUBT * l.channels + c]);
    }
    const double weight = total_weight(sums, weights, l.channels);
    const double cross_entropy = weight > 0 ? surprise / weight : 0;
    out[0] = l.dice_weight * dice + l.cross_entropy_weight * cross_entropy;
}

// Derivatives for each channel: [0] by p at every voxel, [1] by p where it is the label, [2] by −log p there, [3] by
// −log p at every voxel; behind them the sum of the last.
__device__ __forceinline__ void class_slopes(const double *sums, const double *weights, float *out, const ClassLoss &l)
{
    const int channels = l.channels;
    const double weight = total_weight(sums, weights, channels);
    EACH(c, channels)
    {
        const double numerator = sums[OVERLAP * channels + c] + l.smoothing;
        const double denominator = tversky_denominator(sums, (int)c, l);
        double everywhere = 0, at_truth = 0;
        if (denominator > 0) {
            const double missing = 1 - numerator / denominator;
            const double focus =
                too_steep(missing, l.focal) ? 0. : l.focal * pow(missing > 0 ? missing : 0., l.focal - 1);
            const double steepness = numerator / (denominator * denominator);
            everywhere = -l.alpha * steepness * focus;
            at_truth = (1 / denominator - (1 - l.alpha - l.beta) * steepness) * focus;
        }
        const double log = weight > 0 ? l.cross_entropy_weight * weight_of(weights, (int)c) / weight : 0;
        out[c] = (float)(-l.dice_weight * everywhere);
        out[channels + c] = (float)(-l.dice_weight * at_truth);
        out[2 * channels + c] = (float)(l.sure * log);
        out[3 * channels + c] = (float)(l.spread * log);
    }
    if (threadIdx.x != 0 || blockIdx.x != 0)
        return;
    float all = 0.f;
    for (int c = 0; c < channels; c++)
        all += (float)(weight > 0 ? l.spread * (l.cross_entropy_weight * weight_of(weights, c) / weight) : 0);
    out[4 * channels] = all;
}

// The gradient by the logits of a loss with such slopes.
template <class T>
__device__ void class_gradient(const T *logits, const uint8_t *labels, const float *slopes, T *out, const Voxels &v)
{
    const int channels = v.channels;
    EACH(i, v.voxels)
    {
        const T *values = logits + i * channels;
        const int label = min(labels[i], channels - 1);
        const float top = to_float(values[greatest_of(values, channels)]);
        const float scale = 1.f / exp_sum(values, channels, top);
        const float at_truth = expf(to_float(values[label]) - top) * scale * slopes[channels + label];
        const float surprise = slopes[2 * channels + label], pull = surprise + slopes[4 * channels];
        float mean = at_truth;
        for (int c = 0; c < channels; c++)
            mean += expf(to_float(values[c]) - top) * scale * slopes[c];
        for (int c = 0; c < channels; c++) {
            const float p = expf(to_float(values[c]) - top) * scale;
            const float own = c == label ? at_truth - surprise : 0.f;
            store(out + i * channels + c, p * (slopes[c] - mean + pull) - slopes[3 * channels + c] + own);
        }
    }
}
