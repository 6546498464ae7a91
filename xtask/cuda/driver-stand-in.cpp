// Stands in for NVIDIA's driver, cuBLAS and cuRAND where there is no GPU. It counts what a program asks of one: launches by
// kernel, copies, memory; when the program ends, the file that CUDA_STAND_IN_COUNTS names has a line for each name. Memory is
// the processor's, and copies are made. Kernels do nothing, unless CUDA_STAND_IN_RUN is set: then they are run by the tests'
// emulator, thread by thread, those of candle by twins that know contiguous tensors.
#define DRIVER
#include "emulator.cpp"

#include <mutex>

typedef int Result;
typedef uint64_t Address;

static std::mutex one_at_a_time;
// Whether kernels are run.
static bool runs() { return getenv("CUDA_STAND_IN_RUN"); }
// What handles point to.
static int something;

// ---- counts

// Never destroyed: it is written when all else has been.
static std::map<std::string, long> &counts = *new std::map<std::string, long>;

static Result count(const std::string &name)
{
    std::lock_guard<std::mutex> guard(one_at_a_time);
    counts[name]++;
    return 0;
}

static void __attribute__((destructor)) write_counts()
{
    const char *path = getenv("CUDA_STAND_IN_COUNTS");
    FILE *file = path ? fopen(path, "w") : nullptr;
    if (!file)
        return;
    for (const auto &[name, count] : counts)
        fprintf(file, "%s %ld\n", name.c_str(), count);
    fclose(file);
}

extern "C" {

// ---- the device

Result cuInit(unsigned flags) { return 0; }
Result cuDriverGetVersion(int *version) { return *version = 13000, 0; }
Result cuDeviceGetCount(int *devices) { return *devices = 1, 0; }
Result cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }
Result cuDeviceGetName(char *name, int length, int device) { return snprintf(name, length, "stand-in"), 0; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = (size_t)8 << 30, 0; }
Result cuDeviceGetAttribute(int *value, int attribute, int device)
{
    // The major and minor number of the compute capability; whatever else is asked for is there.
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return 0;
}
Result cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &something, 0; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
Result cuCtxSetCurrent(void *context) { return 0; }
Result cuCtxGetCurrent(void **context) { return *context = &something, 0; }
Result cuCtxSynchronize(void) { return 0; }
Result cuGetErrorName(Result error, const char **text) { return *text = "CUDA_ERROR", 0; }
Result cuGetErrorString(Result error, const char **text) { return *text = "an error of the stand-in", 0; }

Result cuStreamCreate(void **stream, unsigned flags) { return *stream = &something, 0; }
Result cuStreamDestroy_v2(void *stream) { return 0; }
Result cuStreamSynchronize(void *stream) { return count("wait stream"); }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return count("event wait"); }
Result cuStreamIsCapturing(void *stream, int *status) { return *status = 0, 0; }
Result cuEventCreate(void **event, unsigned flags) { return *event = &something, count("event create"); }
Result cuEventRecord(void *event, void *stream) { return count("event record"); }
Result cuEventSynchronize(void *event) { return count("wait event"); }
Result cuEventQuery(void *event) { return 0; }
Result cuEventDestroy_v2(void *event) { return 0; }

// ---- memory

// Of what kernels are to write nothing is known (NaN); where they do nothing, zeros harm nobody.
static Result allocate(Address *to, size_t bytes)
{
    const size_t room = bytes / 256 * 256 + 256;
    void *memory = aligned_alloc(256, room);
    *to = (Address)(uintptr_t)memory;
    return memory ? memset(memory, runs() ? 0xFF : 0, room), 0 : 2;
}
Result cuDeviceGetDefaultMemPool(void **pool, int device) { return *pool = &something, 0; }
Result cuMemPoolSetAttribute(void *pool, int attribute, void *value) { return 0; }
Result cuMemPoolTrimTo(void *pool, size_t bytes) { return 0; }
Result cuMemGetInfo_v2(size_t *empty, size_t *all) { return *empty = *all = (size_t)8 << 30, 0; }
Result cuMemAllocAsync(Address *to, size_t bytes, void *stream)
{
    count("memory allocated");
    return allocate(to, bytes);
}
Result cuMemAlloc_v2(Address *to, size_t bytes) { return cuMemAllocAsync(to, bytes, NULL); }
Result cuMemFreeAsync(Address at, void *stream) { return free((void *)(uintptr_t)at), count("memory freed"); }
Result cuMemFree_v2(Address at) { return cuMemFreeAsync(at, NULL); }
Result cuMemHostAlloc(void **to, size_t bytes, unsigned flags) { return *to = calloc(bytes / 64 + 1, 64), 0; }
Result cuMemAllocHost_v2(void **to, size_t bytes) { return cuMemHostAlloc(to, bytes, 0); }
Result cuMemFreeHost(void *at) { return free(at), 0; }

static Result copy(const char *way, void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    return count(std::string("copy ") + way);
}
Result cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream)
{
    return copy("to-the-GPU", (void *)(uintptr_t)to, from, bytes);
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream)
{
    return copy("from-the-GPU", to, (void *)(uintptr_t)from, bytes);
}
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void *stream)
{
    return copy("on-the-GPU", (void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
}
Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *stream)
{
    memset((void *)(uintptr_t)to, value, bytes);
    return count("copy zeros");
}

// ---- cuBLAS and cuRAND: opened, never used

Result cublasCreate_v2(void **handle) { return *handle = &something, 0; }
Result cublasSetStream_v2(void *handle, void *stream) { return 0; }
Result cublasDestroy_v2(void *handle) { return 0; }
Result curandCreateGenerator(void **generator, int kind) { return *generator = &something, 0; }
Result curandSetStream(void *generator, void *stream) { return 0; }
Result curandSetPseudoRandomGeneratorSeed(void *generator, unsigned long long seed) { return 0; }
Result curandDestroyGenerator(void *generator) { return 0; }

} // extern "C"

// ---- kernels: a function is its name and what runs it

using Run = std::function<void(void **)>;

// Takes a kernel's arguments where the driver has them.
template <class T> static T next_of(void **&arguments) { return *(const T *)*arguments++; }
template <class... P> static Run taking(void (*kernel)(P...))
{
    return [kernel](void **arguments) {
        // Braces fix the order.
        std::tuple<P...> values{next_of<P>(arguments)...};
        body = [&] { std::apply(kernel, values); };
        run_grid(gridDim, blockDim.x);
    };
}

// candle's kernels take a description of strides, none for contiguous tensors.
template <class From, class To>
static void cast(size_t count, size_t, const size_t *strides, const From *from, To *to)
{
    if (strides)
        fail("strides, which the stand-in does not know");
    EACH(i, count) store(to + i, to_float(from[i]));
}
template <class T>
static void add(size_t count, size_t, const size_t *strides, const T *a, const T *b, T *to)
{
    if (strides)
        fail("strides, which the stand-in does not know");
    EACH(i, count) store(to + i, to_float(a[i]) + to_float(b[i]));
}
template <class T>
static void copy2d(const T *from, T *to, uint32_t rows, uint32_t columns, uint32_t from_row, uint32_t to_row)
{
    EACH(i, (size_t)rows * columns) to[i / columns * to_row + i % columns] = from[i / columns * from_row + i % columns];
}

static const std::map<std::string, Run> &known()
{
#undef KERNEL
#define KERNEL(name, threads, parameters, call) {#name, taking(name)},
    static const std::map<std::string, Run> known = {
#include "kernels.inc"
        {"cast_f32_bf16", taking(cast<float, bf16>)},
        {"cast_bf16_f32", taking(cast<bf16, float>)},
        {"badd_f32", taking(add<float>)},
        {"badd_bf16", taking(add<bf16>)},
        {"copy2d_f32", taking(copy2d<float>)},
        {"copy2d_f64", taking(copy2d<double>)},
        {"copy2d_u8", taking(copy2d<uint8_t>)},
    };
    return known;
}

extern "C" {

Result cuModuleLoadData(void **module, const void *image) { return *module = &something, 0; }
Result cuModuleUnload(void *module) { return 0; }
Result cuModuleGetFunction(void **function, void *module, const char *name)
{
    // Kept until the program ends, as the functions are.
    static std::map<std::string, std::string> names;
    std::lock_guard<std::mutex> guard(one_at_a_time);
    *function = &names.emplace(name, name).first->second;
    return 0;
}
Result cuFuncGetAttribute(int *value, int attribute, void *function) { return *value = 1024, 0; }
Result cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                      unsigned shared, void *stream, void **arguments, void **extra)
{
    const std::string &name = *(const std::string *)function;
    count("launch " + name);
    if (!runs())
        return 0;
    std::lock_guard<std::mutex> guard(one_at_a_time);
    kernel_name = name;
    const auto kernel = known().find(name);
    if (kernel == known().end())
        fail("no such kernel");
    gridDim = {x, y, z};
    blockDim = {threads, 1, 1};
    kernel->second(arguments);
    return 0;
}

} // extern "C"
