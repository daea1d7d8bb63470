// Shadow memory: finds races, stray, misaligned and uninitialised accesses of a kernel.
//
// Rule. Two accesses to one cell, at least one of them a write and not both atomic, by two threads,
// are a race unless a barrier in which both took part lies between. Thread blocks are never ordered.
// The rule does not depend on the order in which fibres happened to run, so one run with any seed
// finds a missing barrier on every cell that was touched. Shuffles synchronise execution but, as in
// CUDA, not memory: only __syncthreads and __syncwarp order accesses.
//
// A cell keeps the last write and all reads since then that are not ordered before a later read of
// the cell; dropping ordered ones is sound because "happened before" is transitive.
//
// Addresses: the fibre's own stack is private and ignored; registered buffers are global memory; the
// program's writable data segment is shared memory (see __shared__ in cuda_shim.h); its read-only
// data are constants; anything else is out of bounds, reported before it is touched, and the thread
// goes no further.
#include "internal.h"

#include <link.h>

#include <algorithm>
#include <unordered_map>

#include "cuda_shim.h"

namespace shim {
namespace {

struct Cell {
    Access write;
    Access read;
};

struct Region {
    ShimRegion at;
    std::vector<Cell> cells;
};

struct Segment {
    uintptr_t begin, end;
    bool writable;
};

std::vector<Region> regions;
std::vector<Segment> segments;
// Shared memory of the running block, one cell a byte; an absent cell was never written.
std::unordered_map<uintptr_t, Cell> shared;
// Reads beyond the one a cell holds.
struct Reads {
    std::vector<Access> list;
    size_t prune_at = 32;
};
std::unordered_map<const Cell*, Reads> more_reads;

int add_segments(dl_phdr_info* info, size_t, void*)
{
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& header = info->dlpi_phdr[i];
        if (header.p_type == PT_LOAD) {
            const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
            segments.push_back({begin, begin + header.p_memsz, (header.p_flags & PF_W) != 0});
        }
    }
    return 0;
}

const char* word(bool write, bool atomic)
{
    return atomic ? "atomic" : write ? "write" : "read";
}

void race(const std::string& where, Access past, bool past_write, bool write, bool atomic)
{
    report("race", std::string(word(write, atomic)) + " of " + where + " by " +
                       describe(current()) + ", not ordered after the " +
                       word(past_write, past.atomic != 0) + " by " + describe(past.who));
}

template <typename Where> void touch(Cell& cell, bool write, bool atomic, const Where& where)
{
    const auto conflicts = [&](const Access& past) {
        return past.who != 0 && !(past.atomic != 0 && atomic) && !happened_before(past);
    };
    if (conflicts(cell.write)) {
        race(where(), cell.write, true, write, atomic);
    }
    Access now;
    now.who = current();
    now.clock = current_clock();
    now.atomic = atomic;
    if (write) {
        if (conflicts(cell.read)) {
            race(where(), cell.read, false, write, atomic);
        }
        const auto more = more_reads.find(&cell);
        if (more != more_reads.end()) {
            for (const Access& past : more->second.list) {
                if (conflicts(past)) {
                    race(where(), past, false, write, atomic);
                    break;
                }
            }
            more_reads.erase(more);
        }
        cell.write = now;
        cell.read = Access();
    } else {
        if (cell.read.who != 0 && !happened_before(cell.read)) {
            Reads& more = more_reads[&cell];
            // Now and then, not at every read: a block in which all threads read a word would take its square.
            if (more.list.size() >= more.prune_at) {
                more.list.erase(
                    std::remove_if(more.list.begin(), more.list.end(), happened_before),
                    more.list.end());
                more.prune_at = 2 * more.list.size() + 32;
            }
            more.list.push_back(cell.read);
        }
        cell.read = now;
    }
}

void check(uintptr_t address, size_t size, bool write, bool atomic, bool aligned)
{
    if (!running() || on_stack(address)) {
        return;
    }
    const uintptr_t indices = reinterpret_cast<uintptr_t>(&shim_indices);
    if (address >= indices && address < indices + sizeof shim_indices) {
        return;  // threadIdx and its kin
    }
    const auto what = [&] {
        return std::string(word(write, atomic)) + " of " + std::to_string(size) + " bytes by " +
               describe(current());
    };
    // Natural alignment is a rule of the device, not of the CPU.
    if (aligned && (size & (size - 1)) == 0 && address % size != 0) {
        report("misaligned", what());
        kill_fibre();
    }
    for (Region& region : regions) {
        const uintptr_t end = region.at.begin + region.at.bytes;
        if (address < region.at.begin || address >= end) {
            continue;
        }
        if (address + size > end || (write && region.at.writable == 0)) {
            report(address + size > end ? "out-of-bounds" : "read-only",
                   what() + " in " + region.at.name);
            kill_fibre();
        }
        const size_t first = (address - region.at.begin) / region.at.granule;
        const size_t last = (address - region.at.begin + size - 1) / region.at.granule;
        for (size_t i = first; region.at.writable != 0 && i <= last; ++i) {
            touch(region.cells[i], write, atomic, [&] {
                return std::string(region.at.name) + "[" + std::to_string(i) + "]";
            });
        }
        return;
    }
    for (const Segment& segment : segments) {
        if (address < segment.begin || address + size > segment.end) {
            continue;
        }
        if (!segment.writable && !write) {
            return;
        }
        for (size_t i = 0; segment.writable && i < size; ++i) {
            const bool known = shared.count(address + i) != 0;
            if (!known && (!write || atomic)) {
                report("uninitialised", what() + " in shared memory");
                return;
            }
            touch(shared[address + i], write, atomic, [] { return std::string("shared memory"); });
        }
        if (segment.writable) {
            return;
        }
    }
    report("out-of-bounds", what());
    kill_fibre();
}

}  // namespace

void shadow_begin(const ShimRegion* list, size_t count)
{
    if (segments.empty()) {
        dl_iterate_phdr(add_segments, nullptr);
    }
    regions.clear();
    for (size_t i = 0; i < count; ++i) {
        // Nobody can write what is not writable, so its reads need no cells.
        const size_t cells =
            list[i].writable != 0 ? (list[i].bytes + list[i].granule - 1) / list[i].granule : 0;
        regions.push_back({list[i], std::vector<Cell>(cells)});
    }
    more_reads.clear();
    shared.clear();
}

void shadow_next_block()
{
    for (const auto& cell : shared) {
        more_reads.erase(&cell.second);
    }
    shared.clear();
}

}  // namespace shim

void shim_atomic(const void* address, unsigned size)
{
    shim::check(reinterpret_cast<uintptr_t>(address), size, true, true, true);
}

// ---- what -fsanitize=thread calls ---------------------------------------------------------------------

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define HOOK(SIZE)                                                                                 \
    void __tsan_read##SIZE(void* p) { shim::check((uintptr_t)p, SIZE, false, false, true); }       \
    void __tsan_write##SIZE(void* p) { shim::check((uintptr_t)p, SIZE, true, false, true); }       \
    void __tsan_volatile_read##SIZE(void* p) { __tsan_read##SIZE(p); }                             \
    void __tsan_volatile_write##SIZE(void* p) { __tsan_write##SIZE(p); }                           \
    void __tsan_unaligned_read##SIZE(void* p) { shim::check((uintptr_t)p, SIZE, false, false, true); } \
    void __tsan_unaligned_write##SIZE(void* p) { shim::check((uintptr_t)p, SIZE, true, false, true); } \
    void __tsan_unaligned_volatile_read##SIZE(void* p) { __tsan_unaligned_read##SIZE(p); }         \
    void __tsan_unaligned_volatile_write##SIZE(void* p) { __tsan_unaligned_write##SIZE(p); }       \
    void __tsan_read_write##SIZE(void* p)                                                          \
    {                                                                                              \
        __tsan_read##SIZE(p);                                                                      \
        __tsan_write##SIZE(p);                                                                     \
    }                                                                                              \
    void __tsan_unaligned_read_write##SIZE(void* p) { __tsan_read_write##SIZE(p); }
HOOK(1)
HOOK(2)
HOOK(4)
HOOK(8)
HOOK(16)

void __tsan_read_range(void* p, unsigned long n)
{
    shim::check((uintptr_t)p, n, false, false, false);
}
void __tsan_write_range(void* p, unsigned long n)
{
    shim::check((uintptr_t)p, n, true, false, false);
}
}
