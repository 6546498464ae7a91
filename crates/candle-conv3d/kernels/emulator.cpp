// Runs the kernels of `conv3d.cu` on the processor: reads buffers and launches from standard input, writes the buffers
// to standard output. `src/cuda/emulator.rs` is the other end. See `emulator.h`. Where DRIVER is defined, another program has
// buffers and launches of its own.
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <csetjmp>
#include <string>
#include <sys/mman.h>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <vector>

Dimensions threadIdx, blockIdx, blockDim, gridDim;

static std::string kernel_name;

[[noreturn]] static void fail(const char *what)
{
    fprintf(stderr, "%s: %s (block %u %u %u, thread %u)\n", kernel_name.c_str(), what, blockIdx.x, blockIdx.y,
            blockIdx.z, threadIdx.x);
    exit(1);
}

// ---- threads

enum class State { Runs, AtBarrier, AtWarp, Ended };

struct Copy {
    bf16 *to;
    const bf16 *from;
    bool there;
};

struct Fiber {
    // Where it goes on; `context` only to begin, as switching by it costs a system call each time.
    jmp_buf place;
    ucontext_t context;
    bool begun, turn;
    State state;
    // Copies not done yet, by group; the last is still open.
    std::vector<std::vector<Copy>> copies;
};

static const size_t STACK = 128 << 10;
static std::vector<Fiber> fibers;
// Not cleared: most of it is never touched.
static char *stacks = new char[1024 * STACK];
static jmp_buf scheduler;
static unsigned running;
static std::function<void()> body;
// How threads take turns, and whether copies arrive at once or as late as they may.
static bool backwards, late;

static void enter()
{
    body();
    fibers[running].state = State::Ended;
    _longjmp(scheduler, 1);
}

static void wait_at(State state)
{
    Fiber &fiber = fibers[running];
    fiber.state = state;
    if (!_setjmp(fiber.place))
        _longjmp(scheduler, 1);
}

static void __attribute__((noinline)) go_on(Fiber &fiber)
{
    if (_setjmp(scheduler))
        return;
    if (fiber.begun)
        _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

void __syncthreads() { wait_at(State::AtBarrier); }

// Lets those go on who all wait at the same place; whether they do.
static bool release(unsigned begin, unsigned end, State state)
{
    for (unsigned i = begin; i < end; i++)
        if (fibers[i].state != state)
            return false;
    for (unsigned i = begin; i < end; i++)
        fibers[i].state = State::Runs;
    return true;
}

// Runs a warp up to the block's next barrier, or its end; gives how many of its threads have ended.
static unsigned run_warp(unsigned begin, unsigned threads)
{
    const unsigned end = min(begin + 32, threads);
    unsigned ended = 0;
    do {
        ended = 0;
        for (unsigned turn = begin; turn < end; turn++) {
            running = backwards ? begin + end - 1 - turn : turn;
            if (fibers[running].state == State::Runs) {
                threadIdx = {running, 0, 0};
                go_on(fibers[running]);
            }
            ended += fibers[running].state == State::Ended;
        }
    } while (release(begin, end, State::AtWarp));
    return ended;
}

static void run_block()
{
    const unsigned threads = blockDim.x;
    fibers.resize(threads);
    for (unsigned i = 0; i < threads; i++) {
        getcontext(&fibers[i].context);
        fibers[i].context.uc_stack.ss_sp = &stacks[i * STACK];
        fibers[i].context.uc_stack.ss_size = STACK;
        fibers[i].context.uc_link = nullptr;
        fibers[i].begun = fibers[i].turn = false;
        fibers[i].state = State::Runs;
        fibers[i].copies.assign(1, {});
        makecontext(&fibers[i].context, enter, 0);
    }
    // A warp runs as far as it can before the next one begins: where a barrier of the block is missing, it gets ahead.
    const unsigned warps = (threads + 31) / 32;
    for (unsigned ended = 0; ended < threads;) {
        ended = 0;
        for (unsigned turn = 0; turn < warps; turn++)
            ended += run_warp(32 * (backwards ? warps - 1 - turn : turn), threads);
        if (ended < threads && !release(0, threads, State::AtBarrier))
            fail("not all threads come to a barrier");
    }
    for (Fiber &fiber : fibers)
        for (auto &group : fiber.copies)
            for (const Copy &copy : group)
                if (copy.there)
                    fail("a copy that nobody waited for");
}

// All blocks of a launch.
static void run_grid(Dimensions grid, unsigned threads)
{
    gridDim = grid;
    blockDim = {threads, 1, 1};
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = {x, y, z};
                run_block();
            }
}

// ---- copies

static void arrive(const Copy &copy)
{
    if ((uintptr_t)copy.to % 16 || (copy.there && (uintptr_t)copy.from % 16))
        fail("a copy of 16 bytes that is not aligned");
    if (copy.there)
        memcpy(copy.to, copy.from, 16);
    else
        memset(copy.to, 0, 16);
}

void copy16(bf16 *to, const bf16 *from, bool there)
{
    const Copy copy = {to, from, there};
    if (late)
        fibers[running].copies.back().push_back(copy);
    else
        arrive(copy);
}

void commit_copies() { fibers[running].copies.emplace_back(); }

void wait_for_copies(int groups)
{
    auto &copies = fibers[running].copies;
    // The open group is not among those that are counted.
    while ((int)copies.size() - 1 > groups) {
        for (const Copy &copy : copies.front())
            arrive(copy);
        copies.erase(copies.begin());
    }
}

// ---- matrices, which all lanes of a warp hold together

// What a lane shows the others. Two, used in turn: what one call leaves the next but one overwrites, and by then all lanes
// have met in between.
struct Lane {
    const bf16 *row;
    float a[8], b[4];
};
static Lane lanes[2][1024];

static Lane *meet(const Lane &shown)
{
    Fiber &fiber = fibers[running];
    fiber.turn = !fiber.turn;
    lanes[fiber.turn][running] = shown;
    wait_at(State::AtWarp);
    return lanes[fiber.turn] + running / 32 * 32;
}

static uint32_t two(bf16 low, bf16 high) { return low.bits | (uint32_t)high.bits << 16; }

static void load(uint32_t (&to)[4], const bf16 *row, bool transposed)
{
    if ((uintptr_t)row % 16)
        fail("a matrix row that is not aligned");
    const unsigned lane = running % 32, group = lane / 4, pair = lane % 4 * 2;
    Lane shown;
    shown.row = row;
    const Lane *warp = meet(shown);
    for (int m = 0; m < 4; m++) {
        // PTX ISA, ldmatrix: lane l gets the elements 2 · (l % 4) and the next of row l / 4; transposed, of column l / 4.
        const Lane *rows = warp + 8 * m;
        to[m] = transposed ? two(rows[pair].row[group], rows[pair + 1].row[group])
                           : two(rows[group].row[pair], rows[group].row[pair + 1]);
    }
    // Nobody may write to the rows before all have read them.
    meet(shown);
}

void load_matrices(uint32_t (&to)[4], const bf16 *row) { load(to, row, false); }
void load_matrices_transposed(uint32_t (&to)[4], const bf16 *row) { load(to, row, true); }

static float half(uint32_t pair, int index) { return to_float(bf16{(uint16_t)(pair >> 16 * index)}); }

void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    const unsigned lane = running % 32;
    Lane shown;
    for (int i = 0; i < 8; i++)
        shown.a[i] = half(a[i / 2], i % 2);
    for (int i = 0; i < 4; i++)
        shown.b[i] = half(i < 2 ? b0 : b1, i % 2);
    const Lane *warp = meet(shown);
    for (int i = 0; i < 4; i++) {
        // PTX ISA, fragments of mma.m16n8k16: with group = lane / 4 and t = lane % 4, the sums of a lane are at rows
        // group (0, 1) and group + 8 (2, 3), columns 2t and 2t + 1; register r of `a` holds row group + 8 · (r % 2) and
        // columns 2t + 8 · (r / 2) and the next; register r of `b` rows 2t + 8r and the next, column group.
        const unsigned row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
        float sum = 0.f;
        for (unsigned k = 0; k < 16; k++) {
            const Lane &left = warp[row % 8 * 4 + k % 8 / 2], &right = warp[column * 4 + k % 8 / 2];
            sum += left.a[2 * (row / 8 + 2 * (k / 8)) + k % 2] * right.b[2 * (k / 8) + k % 2];
        }
        sums[i] += sum;
    }
}

// ---- kernels by name

#include "conv3d.cu"

#ifndef DRIVER

struct Call {
    Dimensions grid;
    unsigned threads;
    std::vector<char *> pointers;
    // Those of a `Table`, where the kernel takes one.
    std::vector<char *> table;
    std::vector<int32_t> sizes;
};

static std::map<std::string, std::function<void(const Call &)>> kernels;

// Takes a kernel's arguments from a call: pointers in order, a table of more where there is one, and last its sizes.
template <class... P> static void take(const char *name, void (*kernel)(P...))
{
    kernels[name] = [kernel](const Call &call) {
        if (call.pointers.size() + !call.table.empty() + 1 != sizeof...(P))
            fail("another number of buffers than the kernel takes");
        size_t next = 0;
        auto argument = [&](auto *kind) {
            using A = std::remove_pointer_t<decltype(kind)>;
            if constexpr (std::is_pointer_v<A>) {
                return (A)call.pointers[next++];
            } else if constexpr (std::is_same_v<A, Table>) {
                // What is behind its end is touched by nobody.
                Table table = {};
                if (call.table.empty() || call.table.size() > std::size(table.pointers))
                    fail("no table of pointers, or one that is too long");
                for (size_t i = 0; i < call.table.size(); i++)
                    table.pointers[i] = (float *)call.table[i];
                return table;
            } else {
                if (call.sizes.size() * 4 < sizeof(A))
                    fail("fewer sizes than the kernel takes");
                A sizes;
                memcpy(&sizes, call.sizes.data(), sizeof(A));
                return sizes;
            }
        };
        // Braces fix the order.
        std::tuple<P...> arguments{argument((std::remove_const_t<P> *)nullptr)...};
        body = [&] { std::apply(kernel, arguments); };
        run_grid(call.grid, call.threads);
    };
}

static void list_kernels()
{
#undef KERNEL
#define KERNEL(name, threads, parameters, call) take(#name, name);
#include "kernels.inc"
}

// ---- buffers

static const unsigned char UNTOUCHED = 0xA5;

// Memory with a page behind it that may not be touched, and a pattern in what is left before.
struct Buffer {
    char *page, *begin;
    size_t bytes, room;

    explicit Buffer(size_t length) : bytes(length)
    {
        room = (length + 16 + 4095) / 4096 * 4096;
        page = (char *)mmap(nullptr, room + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED || mprotect(page + room, 4096, PROT_NONE))
            fail("no memory");
        begin = page + room - (length + 15) / 16 * 16;
        memset(page, UNTOUCHED, room);
    }
    void check() const
    {
        for (const char *at = page; at < page + room; at++)
            if ((at < begin || at >= begin + bytes) && (unsigned char)*at != UNTOUCHED)
                fail("wrote outside a buffer");
    }
};

template <class T> static T read_one()
{
    T value;
    if (fread(&value, sizeof value, 1, stdin) != 1)
        fail("the problem ends early");
    return value;
}

static std::vector<int32_t> read_integers()
{
    std::vector<int32_t> values(read_one<uint32_t>());
    for (int32_t &value : values)
        value = read_one<int32_t>();
    return values;
}

int main()
{
    kernel_name = "emulator";
    list_kernels();
    backwards = read_one<uint32_t>();
    late = read_one<uint32_t>();
    std::vector<Buffer> buffers;
    for (uint32_t count = read_one<uint32_t>(); count > 0; count--) {
        buffers.emplace_back(read_one<uint64_t>());
        if (buffers.back().bytes && fread(buffers.back().begin, buffers.back().bytes, 1, stdin) != 1)
            fail("the problem ends early");
    }
    for (uint32_t count = read_one<uint32_t>(); count > 0; count--) {
        kernel_name.resize(read_one<uint32_t>());
        for (char &letter : kernel_name)
            letter = read_one<char>();
        Call call;
        call.grid.x = read_one<uint32_t>();
        call.grid.y = read_one<uint32_t>();
        call.grid.z = read_one<uint32_t>();
        call.threads = read_one<uint32_t>();
        for (std::vector<char *> *pointers : {&call.pointers, &call.table}) {
            const std::vector<int32_t> places = read_integers(), offsets = read_integers();
            for (size_t i = 0; i < places.size(); i++)
                pointers->push_back(places[i] < 0 ? nullptr : buffers.at(places[i]).begin + offsets.at(i));
        }
        call.sizes = read_integers();
        const auto kernel = kernels.find(kernel_name);
        if (kernel == kernels.end())
            fail("no such kernel");
        kernel->second(call);
        for (const Buffer &buffer : buffers)
            buffer.check();
    }
    for (const Buffer &buffer : buffers)
        fwrite(buffer.begin, 1, buffer.bytes, stdout);
    return 0;
}

#endif
