// Weights into the order that `gather` reads, and gradients of weights out of the sums that `correlate` leaves.
#pragma once
#include "gather.cuh"

#define EACH(index, count)                                                                                            \
    for (size_t index = blockIdx.x * (size_t)blockDim.x + threadIdx.x; index < (size_t)(count);                       \
         index += (size_t)gridDim.x * blockDim.x)

struct Weights {
    // Of the tensor [outputs, total channels, taps], and the channels of it that are meant.
    int outputs, total, first, channels;
    int taps[3];
    // What is packed into: an offset, in values.
    int offset;
    // Parts to add up.
    int parts;
};

// Forward: [output][tap][channel].
template <class T> __device__ void pack_forward(const T *weights, T *out, const Weights &w)
{
    const int taps = w.taps[0] * w.taps[1] * w.taps[2];
    EACH(i, w.outputs * taps * w.channels)
    {
        const int channel = i % w.channels, tap = i / w.channels % taps, output = i / w.channels / taps;
        out[w.offset + i] = weights[((size_t)output * w.total + w.first + channel) * taps + tap];
    }
}

// Back from there, for gradients.
template <class T> __device__ void unpack_forward(const T *packed, T *out, const Weights &w)
{
    const int taps = w.taps[0] * w.taps[1] * w.taps[2];
    EACH(i, w.outputs * taps * w.channels)
    {
        const int channel = i % w.channels, tap = i / w.channels % taps, output = i / w.channels / taps;
        out[((size_t)output * w.total + w.first + channel) * taps + tap] = packed[i];
    }
}

// Gradient of the input: [channel][tap reversed][output].
template <class T> __device__ void pack_reversed(const T *weights, T *out, const Weights &w)
{
    const int taps = w.taps[0] * w.taps[1] * w.taps[2];
    EACH(i, w.outputs * taps * w.channels)
    {
        const int output = i % w.outputs, tap = i / w.outputs % taps, channel = i / w.outputs / taps;
        out[w.offset + i] = weights[((size_t)output * w.total + w.first + channel) * taps + taps - 1 - tap];
    }
}

// The sum of those taps of a 2³ kernel whose bits are set on each axis.
template <class T> __device__ float summed(const T *kernel, int z, int y, int x)
{
    float sum = 0.f;
    for (int tap = 0; tap < 8; tap++)
        if (z >> tap / 4 & y >> tap / 2 % 2 & x >> tap % 2 & 1)
            sum += to_float(kernel[tap]);
    return sum;
}

// Up-convolution: outputs of an even index see one input under both taps (1 tap on that axis), odd ones two (2 taps).
__device__ __forceinline__ int taps_of_parity(int taps, int tap) { return taps == 1 ? 3 : 1 << tap; }
// Seen from input a: what it gave to the outputs 2a − 1, 2a and 2a + 1.
__device__ __forceinline__ int taps_of_output(int tap) { return tap == 0 ? 2 : tap == 1 ? 3 : 1; }

template <class T> __device__ void pack_upsample(const T *weights, T *out, const Weights &w)
{
    const int taps = w.taps[0] * w.taps[1] * w.taps[2];
    EACH(i, w.outputs * taps * w.channels)
    {
        const int channel = i % w.channels, tap = i / w.channels % taps, output = i / w.channels / taps;
        const int z = tap / (w.taps[1] * w.taps[2]), y = tap / w.taps[2] % w.taps[1], x = tap % w.taps[2];
        store(out + w.offset + i,
              summed(weights + ((size_t)output * w.channels + channel) * 8, taps_of_parity(w.taps[0], z),
                     taps_of_parity(w.taps[1], y), taps_of_parity(w.taps[2], x)));
    }
}

// Its gradient: [channel][27 outputs around][output].
template <class T> __device__ void pack_upsample_reversed(const T *weights, T *out, const Weights &w)
{
    EACH(i, w.outputs * 27 * w.channels)
    {
        const int output = i % w.outputs, tap = i / w.outputs % 27, channel = i / w.outputs / 27;
        store(out + w.offset + i,
              summed(weights + ((size_t)output * w.channels + channel) * 8, taps_of_output(tap / 9),
                     taps_of_output(tap / 3 % 3), taps_of_output(tap % 3)));
    }
}

// Adds up sums [part][tap][channel][output] of a source's channels.
template <class T> __device__ void add_parts(const float *sums, T *out, const Weights &w)
{
    const int taps = w.taps[0] * w.taps[1] * w.taps[2], values = taps * w.channels * w.outputs;
    EACH(i, values)
    {
        const int output = i % w.outputs, channel = i / w.outputs % w.channels, tap = i / w.outputs / w.channels;
        float sum = 0.f;
        for (int part = 0; part < w.parts; part++)
            sum += sums[(size_t)part * values + i];
        store(out + ((size_t)output * w.total + w.first + channel) * taps + tap, sum);
    }
}

// Adds up sums [part][27 outputs around][output][channel] for the taps that each is made of.
template <class T> __device__ void add_upsample_parts(const float *sums, T *out, const Weights &w)
{
    const size_t pairs = (size_t)w.outputs * w.channels;
    EACH(i, 8 * pairs)
    {
        const int tap = i % 8;
        float sum = 0.f;
        for (int around = 0; around < 27; around++)
            if (taps_of_output(around / 9) >> tap / 4 & taps_of_output(around / 3 % 3) >> tap / 2 % 2 &
                taps_of_output(around % 3) >> tap % 2 & 1)
                for (int part = 0; part < w.parts; part++)
                    sum += sums[((size_t)part * 27 + around) * pairs + i / 8];
        store(out + i, sum);
    }
}
