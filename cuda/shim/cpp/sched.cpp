// The scheduler: one fibre a thread of the block, one block at a time, in an order drawn from a seed.
//
// A fibre runs until it reaches a barrier, a warp operation or its end; then the next one of a random
// permutation runs. Nothing else switches, so a launch is a function of its arguments and the seed.
// A barrier opens when every thread that has not ended waits at it; a warp operation when every lane
// named by its mask does, with the same mask and operation. If nobody can go on, that is a deadlock.
//
// Clocks (see Access in internal.h). clocks[t] is thread t's own; opened[t] its clock at the last
// barrier of the block; seen[t][l] how far t has synchronised with lane l of its own warp. Memory of
// another warp can only be ordered by a barrier of the block.
#include "internal.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "cuda_shim.h"

ShimIndices shim_indices;
extern "C" {
extern const ShimEntry* const shim_entries[];
extern const size_t shim_entry_count;
}

namespace shim {
namespace {

constexpr size_t STACK = 64 * 1024;
constexpr size_t REPORTS_OF_A_KIND = 3;

enum class State { Ready, Barrier, Warp, Done };

struct Fibre {
    ucontext_t context;  // enters the fibre for the first time
    jmp_buf resume;      // and every time after: no system call
    std::unique_ptr<char[]> stack;
    bool fresh = true;  // has no context to resume, or must not resume it
    State state = State::Done;
    ShimWarpOp op = SHIM_SYNCWARP;
    unsigned mask = 0, arg = 0, width = 32;
    unsigned long long value = 0, result = 0;
};

std::vector<std::unique_ptr<Fibre>> fibres;  // reused from block to block and launch to launch
std::vector<uint32_t> clocks, opened;
std::vector<uint32_t> seen;  // [thread][lane]
std::vector<std::string> reports;
jmp_buf scheduler;
size_t now = SIZE_MAX;  // the running fibre
size_t threads = 0, block_number = 0;
const ShimEntry* entry = nullptr;
void** arguments = nullptr;
uint64_t random_state = 0;

uint32_t random_below(uint32_t n)  // splitmix64, its bias does not matter
{
    uint64_t z = (random_state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (uint32_t)((z >> 33) % n);
}

template <typename T> void permute(std::vector<T>& list)
{
    for (size_t i = list.size(); i > 1; --i) {
        std::swap(list[i - 1], list[random_below((uint32_t)i)]);
    }
}

void to_scheduler()
{
    if (_setjmp(fibres[now]->resume) == 0) {
        _longjmp(scheduler, 1);
    }
}

void fibre_main()
{
    for (;;) {
        entry->enter(arguments);
        fibres[now]->state = State::Done;
        to_scheduler();
    }
}

void resume(size_t thread)
{
    Fibre& fibre = *fibres[thread];
    if (fibre.fresh) {
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.get();
        fibre.context.uc_stack.ss_size = STACK;
        fibre.context.uc_link = nullptr;
        makecontext(&fibre.context, fibre_main, 0);
    }
    const dim3& b = shim_indices.block;
    const unsigned t = (unsigned)thread;
    shim_indices.thread_index = {t % b.x, t / b.x % b.y, t / (b.x * b.y)};
    now = thread;
    if (_setjmp(scheduler) == 0) {
        if (fibre.fresh) {
            fibre.fresh = false;
            setcontext(&fibre.context);
        }
        _longjmp(fibre.resume, 1);
    }
    now = SIZE_MAX;
}

unsigned existing_lanes(size_t warp_begin)
{
    const size_t n = std::min<size_t>(32, threads - warp_begin);
    return n == 32 ? 0xFFFFFFFFu : (1u << n) - 1u;
}

// The lane a shuffle reads from, by the rules of the instruction.
unsigned source_lane(const Fibre& f, unsigned lane)
{
    const unsigned begin = lane & ~(f.width - 1), offset = lane & (f.width - 1);
    switch (f.op) {
    case SHIM_IDX: return begin + (f.arg & (f.width - 1));
    case SHIM_UP: return f.arg > offset ? lane : lane - f.arg;
    case SHIM_DOWN: return offset + f.arg >= f.width ? lane : lane + f.arg;
    case SHIM_XOR: return (lane ^ f.arg) >= begin + f.width ? lane : lane ^ f.arg;
    default: return lane;
    }
}

// Performs the warp operation of `lanes`, all of which wait for it.
void perform(size_t begin, unsigned lanes)
{
    unsigned ballot = 0;
    for (unsigned l = 0; l < 32; ++l) {
        if (lanes >> l & 1u) {
            ballot |= (unsigned)(fibres[begin + l]->value & 1) << l;
        }
    }
    uint32_t joined[32] = {};
    for (unsigned l = 0; l < 32; ++l) {
        if (!(lanes >> l & 1u)) {
            continue;
        }
        Fibre& f = *fibres[begin + l];
        if (f.op == SHIM_SYNCWARP) {
            seen[(begin + l) * 32 + l] = ++clocks[begin + l];
            for (unsigned k = 0; k < 32; ++k) {
                joined[k] = std::max(joined[k], seen[(begin + l) * 32 + k]);
            }
        } else if (f.op == SHIM_BALLOT) {
            f.result = ballot;
        } else {
            const unsigned from = source_lane(f, l);
            if (from < 32 && (lanes >> from & 1u)) {
                f.result = fibres[begin + from]->value;
            } else {
                f.result = 0xA5A5A5A5A5A5A5A5ull;
                report("warp", "shuffle by " + describe(1 + block_number * threads + begin + l) +
                                   " reads lane " + std::to_string(from) +
                                   ", which does not take part");
            }
        }
    }
    for (unsigned l = 0; l < 32; ++l) {
        if (lanes >> l & 1u) {
            Fibre& f = *fibres[begin + l];
            if (f.op == SHIM_SYNCWARP) {
                std::copy(joined, joined + 32, &seen[(begin + l) * 32]);
            }
            f.state = State::Ready;
        }
    }
}

void complete_warp_operations()
{
    for (size_t begin = 0; begin < threads; begin += 32) {
        const unsigned all = existing_lanes(begin);
        for (unsigned l = 0; l < 32 && begin + l < threads; ++l) {
            const Fibre& first = *fibres[begin + l];
            if (first.state != State::Warp) {
                continue;
            }
            const unsigned lanes = first.mask & all;
            bool complete = true;
            for (unsigned k = 0; k < 32; ++k) {
                if (lanes >> k & 1u) {
                    const Fibre& f = *fibres[begin + k];
                    complete &= f.state == State::Warp && f.mask == first.mask && f.op == first.op;
                }
            }
            if (complete) {
                perform(begin, lanes);
            }
        }
    }
}

bool open_barrier()
{
    size_t waiting = 0, done = 0;
    for (size_t t = 0; t < threads; ++t) {
        waiting += fibres[t]->state == State::Barrier;
        done += fibres[t]->state == State::Done;
    }
    if (waiting == 0 || waiting + done != threads) {
        return false;
    }
    for (size_t t = 0; t < threads; ++t) {
        opened[t] = ++clocks[t];
    }
    for (size_t t = 0; t < threads; ++t) {
        for (size_t l = 0; l < 32 && (t & ~size_t(31)) + l < threads; ++l) {
            seen[t * 32 + l] = clocks[(t & ~size_t(31)) + l];
        }
        if (fibres[t]->state == State::Barrier) {
            fibres[t]->state = State::Ready;
        }
    }
    return true;
}

void run_block()
{
    clocks.assign(threads, 1);
    opened.assign(threads, 0);
    seen.assign(threads * 32, 0);
    shadow_next_block();
    for (size_t t = 0; t < threads; ++t) {
        fibres[t]->state = State::Ready;
    }
    std::vector<size_t> ready;
    for (;;) {
        ready.clear();
        for (size_t t = 0; t < threads; ++t) {
            if (fibres[t]->state == State::Ready) {
                ready.push_back(t);
            }
        }
        permute(ready);
        for (const size_t t : ready) {
            resume(t);
        }
        complete_warp_operations();
        if (ready.empty() && !open_barrier()) {
            break;
        }
    }
    size_t barrier = 0, warp = 0;
    for (size_t t = 0; t < threads; ++t) {
        barrier += fibres[t]->state == State::Barrier;
        warp += fibres[t]->state == State::Warp;
        fibres[t]->fresh |= fibres[t]->state != State::Done;  // abandon it where it waits
    }
    if (barrier + warp != 0) {
        report("deadlock", std::to_string(barrier) + " threads at a barrier, " +
                               std::to_string(warp) + " in a warp operation of block " +
                               std::to_string(block_number));
    }
}

}  // namespace

bool running() { return now != SIZE_MAX; }
uint32_t current() { return (uint32_t)(1 + block_number * threads + now); }
uint32_t current_clock() { return clocks[now]; }

bool happened_before(Access past)
{
    const size_t id = past.who - 1;
    if (id / threads != block_number) {
        return false;
    }
    const size_t t = id % threads;
    return t == now || past.clock < opened[t] ||
           (t / 32 == now / 32 && past.clock < seen[now * 32 + t % 32]);
}

bool on_stack(uintptr_t address)
{
    const auto begin = reinterpret_cast<uintptr_t>(fibres[now]->stack.get());
    return address >= begin && address < begin + STACK;
}

void kill_fibre()
{
    fibres[now]->state = State::Done;
    fibres[now]->fresh = true;
    to_scheduler();
    __builtin_unreachable();
}

std::string describe(uint32_t who)
{
    return "thread " + std::to_string((who - 1) % threads) + " of block " +
           std::to_string((who - 1) / threads);
}

// The first few findings of each kind: one fault repeats itself in every thread.
void report(const char* kind, const std::string& text)
{
    const std::string line = std::string(kind) + ": ";
    const auto same = [&](const std::string& r) { return r.compare(0, line.size(), line) == 0; };
    if ((size_t)std::count_if(reports.begin(), reports.end(), same) < REPORTS_OF_A_KIND) {
        reports.push_back(line + text);
    }
}

}  // namespace shim

void shim_barrier()
{
    shim::fibres[shim::now]->state = shim::State::Barrier;
    shim::to_scheduler();
}

unsigned long long shim_warp(ShimWarpOp op, unsigned mask, unsigned long long value, unsigned arg,
                             unsigned width)
{
    shim::Fibre& fibre = *shim::fibres[shim::now];
    if (!(mask >> (shim::now % 32) & 1u)) {
        shim::report("warp", shim::describe(shim::current()) + " is not in its own mask");
        shim::kill_fibre();
    }
    fibre.op = op;
    fibre.mask = mask;
    fibre.value = value;
    fibre.arg = arg;
    fibre.width = width;
    fibre.state = shim::State::Warp;
    shim::to_scheduler();
    return fibre.result;
}

// Runs one launch. Returns the number of findings and writes them to `text`, a line each; -1 where no
// such kernel and variant was compiled, -2 where it has another number of parameters. Not re-entrant.
extern "C" int shim_launch(const char* kernel, const char* variant, const unsigned* grid,
                           const unsigned* block, uint64_t seed, const ShimRegion* regions,
                           size_t region_count, void** params, size_t param_count, char* text,
                           size_t capacity)
{
    using namespace shim;
    entry = nullptr;
    for (size_t i = 0; i < shim_entry_count; ++i) {
        if (!strcmp(shim_entries[i]->kernel, kernel) && !strcmp(shim_entries[i]->variant, variant)) {
            entry = shim_entries[i];
        }
    }
    if (entry == nullptr) {
        return -1;
    }
    if ((size_t)entry->arity != param_count) {
        return -2;
    }
    arguments = params;
    random_state = seed;
    reports.clear();
    shim_indices.grid = {grid[0], grid[1], grid[2]};
    shim_indices.block = {block[0], block[1], block[2]};
    threads = (size_t)block[0] * block[1] * block[2];
    shadow_begin(regions, region_count);
    while (fibres.size() < threads) {
        fibres.emplace_back(new Fibre);
        fibres.back()->stack.reset(new char[STACK]);
    }
    std::vector<uint32_t> order((size_t)grid[0] * grid[1] * grid[2]);
    for (size_t i = 0; i < order.size(); ++i) {
        order[i] = (uint32_t)i;
    }
    permute(order);
    for (const uint32_t number : order) {
        block_number = number;
        shim_indices.block_index = {number % grid[0], number / grid[0] % grid[1],
                                    number / (grid[0] * grid[1])};
        run_block();
    }
    std::string all;
    for (const std::string& line : reports) {
        all += line + "\n";
    }
    snprintf(text, capacity, "%s", all.c_str());
    return (int)reports.size();
}
