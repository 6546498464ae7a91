// A step of the optimiser.
#pragma once
#include "weights.cuh"

struct Adam {
    int values;
    // Decay rates of both means, and what a new gradient has of them, before it is scaled.
    float first_kept;
    double first_new, second_new;
    float second_kept;
    // What makes up for means that began at 0, and what is added to the root.
    float second_correction, epsilon;
    // Learning rate, with the same for the first mean.
    float rate;
};

// The values, the mean of their gradient and that of its square after the step. `control` is that of `step_control`: where
// it says so, all stay as they are.
__device__ __forceinline__ void adam(const float *gradient, const float *values, const float *first,
                                     const float *second, const double *control, float *out, const Adam &a)
{
    const double scale = control[1];
    const bool moves = control[2] != 0;
    const float first_new = (float)(a.first_new * scale), second_new = (float)(a.second_new * scale * scale);
    EACH(i, a.values)
    {
        float value = values[i], mean = first[i], square = second[i];
        if (moves) {
            mean = mean * a.first_kept + gradient[i] * first_new;
            square = square * a.second_kept + gradient[i] * gradient[i] * second_new;
            value -= mean / (sqrtf(square * a.second_correction) + a.epsilon) * a.rate;
        }
        out[i] = value;
        out[(size_t)a.values + i] = mean;
        out[2 * (size_t)a.values + i] = square;
    }
}
