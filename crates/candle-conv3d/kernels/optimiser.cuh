// A step of the optimiser.
#pragma once
#include "weights.cuh"

struct Adam {
    int values;
    // Decay rates of both means, and what a new gradient has of them.
    float first_kept, first_new, second_kept, second_new;
    // What makes up for means that began at 0, and what is added to the root.
    float second_correction, epsilon;
    // Learning rate, with the same for the first mean.
    float rate;
};

// By how much each value is to fall, then the mean of its gradient, then that of its square.
__device__ void adam(const float *gradient, const float *first, const float *second, float *out, const Adam &a)
{
    EACH(i, a.values)
    {
        const float mean = first[i] * a.first_kept + gradient[i] * a.first_new;
        const float square = second[i] * a.second_kept + gradient[i] * gradient[i] * a.second_new;
        out[i] = mean / (sqrtf(square * a.second_correction) + a.epsilon) * a.rate;
        out[(size_t)a.values + i] = mean;
        out[2 * (size_t)a.values + i] = square;
    }
}
