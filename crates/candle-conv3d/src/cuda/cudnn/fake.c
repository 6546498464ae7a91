// A cuDNN for the tests: the functions that are called, over the processor's memory, and strict about what it is told.
// It is compiled as one library, with another VERSION or without a function where a test is about that.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef VERSION
#define VERSION 91900
#endif

enum { OK = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
enum { FLOAT = 0, BFLOAT16 = 9 };

typedef struct {
    int type, sizes[5];
} Volume;
typedef struct {
    int type, sizes[5];
} Filter;
typedef struct {
    int padding[3], math;
} Convolution;
typedef struct {
    int mode;
} Activation;
typedef struct {
    void *stream;
} Handle;

size_t cudnnGetVersion(void) { return VERSION; }
const char *cudnnGetErrorString(int status)
{
    return status == NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_BAD_PARAM";
}

#define CREATE(name, type)                                                                                            \
    int cudnnCreate##name(type **to)                                                                                  \
    {                                                                                                                 \
        *to = calloc(1, sizeof(type));                                                                                \
        return OK;                                                                                                    \
    }                                                                                                                 \
    int cudnnDestroy##name(type *it)                                                                                  \
    {                                                                                                                 \
        free(it);                                                                                                     \
        return OK;                                                                                                    \
    }
CREATE(, Handle)
CREATE(TensorDescriptor, Volume)
CREATE(FilterDescriptor, Filter)
CREATE(ConvolutionDescriptor, Convolution)
CREATE(ActivationDescriptor, Activation)

int cudnnSetStream(Handle *handle, void *stream)
{
    handle->stream = stream;
    return OK;
}

static int is_type(int type) { return type == FLOAT || type == BFLOAT16; }

int cudnnSetTensorNdDescriptor(Volume *to, int type, int count, const int *sizes, const int *strides)
{
    if (!is_type(type) || count != 5)
        return BAD_PARAM;
    // Channels-last, and nothing between.
    const int c = sizes[1], d = sizes[2], h = sizes[3], w = sizes[4];
    const int expected[5] = {d * h * w * c, 1, h * w * c, w * c, c};
    for (int i = 0; i < 5; i++)
        if (sizes[i] < 1 || strides[i] != expected[i])
            return BAD_PARAM;
    to->type = type;
    memcpy(to->sizes, sizes, sizeof to->sizes);
    return OK;
}

int cudnnSetFilterNdDescriptor(Filter *to, int type, int format, int count, const int *sizes)
{
    if (!is_type(type) || format != 1 || count != 5)
        return BAD_PARAM;
    to->type = type;
    memcpy(to->sizes, sizes, sizeof to->sizes);
    return OK;
}

int cudnnSetConvolutionNdDescriptor(Convolution *to, int count, const int *padding, const int *stride,
                                    const int *dilation, int mode, int type)
{
    if (count != 3 || mode != 1 || type != FLOAT)
        return BAD_PARAM;
    for (int i = 0; i < 3; i++)
        if (stride[i] != 1 || dilation[i] != 1 || padding[i] < 0)
            return BAD_PARAM;
    memcpy(to->padding, padding, sizeof to->padding);
    return OK;
}

int cudnnSetConvolutionMathType(Convolution *to, int math)
{
    to->math = math;
    return OK;
}

int cudnnSetActivationDescriptor(Activation *to, int mode, int nan, double coefficient)
{
    if ((mode != 1 && mode != 5) || nan != 1 || coefficient != 0)
        return BAD_PARAM;
    to->mode = mode;
    return OK;
}

// ---- values

static float read(const void *values, int type, size_t i)
{
    if (type == FLOAT)
        return ((const float *)values)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)values)[i] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static void write(void *values, int type, size_t i, float value)
{
    if (type == FLOAT) {
        ((float *)values)[i] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, 4);
    ((uint16_t *)values)[i] = (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Of `values` = a · new + b · old; what is old is not looked at where b is 0.
static void blend(void *values, int type, size_t i, float a, float value, float b)
{
    write(values, type, i, a * value + (b == 0 ? 0 : b * read(values, type, i)));
}

static size_t at(const int *s, int n, int c, int z, int y, int x)
{
    return ((((size_t)n * s[2] + z) * s[3] + y) * s[4] + x) * s[1] + c;
}

static int fits(const Volume *x, const Filter *w, const Convolution *convolution, const Volume *y)
{
    if (x->type != w->type || y->type != w->type || x->sizes[0] != y->sizes[0] || x->sizes[1] != w->sizes[1] ||
        y->sizes[1] != w->sizes[0] || convolution->math != (w->type == FLOAT ? 3 : 1))
        return 0;
    for (int i = 0; i < 3; i++)
        if (y->sizes[2 + i] != x->sizes[2 + i] + 2 * convolution->padding[i] - w->sizes[2 + i] + 1)
            return 0;
    return 1;
}

// Some, so that it shows where none is given.
static size_t bytes_of(const Filter *w, int algorithm) { return algorithm ? 64 + 4 * (size_t)w->sizes[0] : 0; }

// Whatever was there.
static int use(void *space, size_t bytes, size_t needed)
{
    if (bytes < needed || (needed && !space))
        return 0;
    if (needed)
        memset(space, 0x5A, needed);
    return 1;
}

#define WORKSPACE(name, one, two, three, x, y, w, algorithms)                                                         \
    int cudnnGetConvolution##name##WorkspaceSize(Handle *handle, one, two, const Convolution *convolution, three,      \
                                                 int algorithm, size_t *bytes)                                         \
    {                                                                                                                 \
        if (!handle || !fits(x, w, convolution, y))                                                                   \
            return BAD_PARAM;                                                                                         \
        if (!(algorithms >> algorithm & 1))                                                                           \
            return NOT_SUPPORTED;                                                                                     \
        *bytes = bytes_of(w, algorithm);                                                                              \
        return OK;                                                                                                    \
    }
WORKSPACE(Forward, const Volume *x, const Filter *w, const Volume *y, x, y, w, 3)
WORKSPACE(BackwardData, const Filter *w, const Volume *dy, const Volume *dx, dx, dy, w, 2)
WORKSPACE(BackwardFilter, const Volume *x, const Volume *dy, const Filter *dw, x, dy, dw, 2)

// Goes through all products: value of x, of w and of y by their indices.
#define EACH_PRODUCT(x, w, convolution, y, body)                                                                      \
    for (int n = 0; n < y->sizes[0]; n++)                                                                             \
        for (int z = 0; z < y->sizes[2]; z++)                                                                         \
            for (int v = 0; v < y->sizes[3]; v++)                                                                     \
                for (int u = 0; u < y->sizes[4]; u++)                                                                 \
                    for (int kz = 0; kz < w->sizes[2]; kz++)                                                          \
                        for (int ky = 0; ky < w->sizes[3]; ky++)                                                      \
                            for (int kx = 0; kx < w->sizes[4]; kx++) {                                                \
                                const int iz = z + kz - convolution->padding[0], iy = v + ky - convolution->padding[1], \
                                          ix = u + kx - convolution->padding[2];                                      \
                                if (iz < 0 || iy < 0 || ix < 0 || iz >= x->sizes[2] || iy >= x->sizes[3] ||           \
                                    ix >= x->sizes[4])                                                                \
                                    continue;                                                                         \
                                for (int o = 0; o < w->sizes[0]; o++)                                                 \
                                    for (int c = 0; c < w->sizes[1]; c++) {                                           \
                                        const size_t xi = at(x->sizes, n, c, iz, iy, ix), wi = at(w->sizes, o, c, kz, ky, kx), \
                                                     yi = at(y->sizes, n, o, z, v, u);                                \
                                        body;                                                                         \
                                    }                                                                                 \
                            }

static size_t length(const int *s) { return (size_t)s[0] * s[1] * s[2] * s[3] * s[4]; }

static float *sums_of_outputs(const Volume *xd, const void *x, const Filter *wd, const void *w,
                              const Convolution *convolution, const Volume *yd)
{
    float *sums = calloc(length(yd->sizes), sizeof(float));
    EACH_PRODUCT(xd, wd, convolution, yd, sums[yi] += read(x, xd->type, xi) * read(w, wd->type, wi))
    return sums;
}

#ifndef WITHOUT_FORWARD
int cudnnConvolutionForward(Handle *handle, const float *alpha, const Volume *xd, const void *x, const Filter *wd,
                            const void *w, const Convolution *convolution, int algorithm, void *space, size_t bytes,
                            const float *beta, const Volume *yd, void *y)
{
    if (!handle || !x || !w || !y || !fits(xd, wd, convolution, yd) || !use(space, bytes, bytes_of(wd, algorithm)))
        return BAD_PARAM;
    float *sums = sums_of_outputs(xd, x, wd, w, convolution, yd);
    for (size_t i = 0; i < length(yd->sizes); i++)
        blend(y, yd->type, i, *alpha, sums[i], *beta);
    free(sums);
    return OK;
}
#endif

int cudnnConvolutionBiasActivationForward(Handle *handle, const float *alpha1, const Volume *xd, const void *x,
                                          const Filter *wd, const void *w, const Convolution *convolution,
                                          int algorithm, void *space, size_t bytes, const float *alpha2,
                                          const Volume *zd, const void *z, const Volume *bd, const void *bias,
                                          const Activation *activation, const Volume *yd, void *y)
{
    const int outputs = yd->sizes[1];
    if (!handle || !x || !w || !z || !y || !bias || !fits(xd, wd, convolution, yd) ||
        !use(space, bytes, bytes_of(wd, algorithm)) || memcmp(zd, yd, sizeof *zd) || bd->sizes[1] != outputs ||
        length(bd->sizes) != (size_t)outputs || bd->type != yd->type || !activation->mode)
        return BAD_PARAM;
    if (activation->mode == 5 && algorithm != 1)
        return NOT_SUPPORTED;
    float *sums = sums_of_outputs(xd, x, wd, w, convolution, yd);
    for (size_t i = 0; i < length(yd->sizes); i++) {
        float value = *alpha1 * sums[i] + read(bias, bd->type, i % outputs);
        if (*alpha2 != 0)
            value += *alpha2 * read(z, zd->type, i);
        write(y, yd->type, i, activation->mode == 1 && value < 0 ? 0 : value);
    }
    free(sums);
    return OK;
}

int cudnnConvolutionBackwardData(Handle *handle, const float *alpha, const Filter *wd, const void *w,
                                 const Volume *yd, const void *y, const Convolution *convolution, int algorithm,
                                 void *space, size_t bytes, const float *beta, const Volume *xd, void *x)
{
    if (!handle || !x || !w || !y || !fits(xd, wd, convolution, yd) || !use(space, bytes, bytes_of(wd, algorithm)))
        return BAD_PARAM;
    float *sums = calloc(length(xd->sizes), sizeof(float));
    EACH_PRODUCT(xd, wd, convolution, yd, sums[xi] += read(y, yd->type, yi) * read(w, wd->type, wi))
    for (size_t i = 0; i < length(xd->sizes); i++)
        blend(x, xd->type, i, *alpha, sums[i], *beta);
    free(sums);
    return OK;
}

int cudnnConvolutionBackwardFilter(Handle *handle, const float *alpha, const Volume *xd, const void *x,
                                   const Volume *yd, const void *y, const Convolution *convolution, int algorithm,
                                   void *space, size_t bytes, const float *beta, const Filter *wd, void *w)
{
    if (!handle || !x || !w || !y || !fits(xd, wd, convolution, yd) || !use(space, bytes, bytes_of(wd, algorithm)))
        return BAD_PARAM;
    float *sums = calloc(length(wd->sizes), sizeof(float));
    EACH_PRODUCT(xd, wd, convolution, yd, sums[wi] += read(x, xd->type, xi) * read(y, yd->type, yi))
    for (size_t i = 0; i < length(wd->sizes); i++)
        blend(w, wd->type, i, *alpha, sums[i], *beta);
    free(sums);
    return OK;
}
