// Shared between the scheduler (sched.cpp) and the memory checker (shadow.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// A buffer that a launch may touch, as Rust passes it (shim/src/lib.rs has the same layout).
struct ShimRegion {
    uintptr_t begin;
    size_t bytes;
    uint32_t granule;  // bytes one shadow cell covers: the element size
    uint32_t writable;
    const char* name;
};

namespace shim {

// One remembered access: who (1 + thread number in the grid, 0 = nobody) and at which tick of that
// thread's clock. A clock ticks when its thread takes part in a __syncthreads or __syncwarp.
struct Access {
    uint32_t who = 0;
    uint32_t clock : 31;
    uint32_t atomic : 1;
    Access() : clock(0), atomic(0) {}
};

// ---- scheduler, as the checker sees it ----
bool running();                      // a fibre is on
uint32_t current();                  // 1 + its number in the grid
uint32_t current_clock();
bool happened_before(Access past);   // ordered before the running fibre's next step
bool on_stack(uintptr_t address);    // of the running fibre
[[noreturn]] void kill_fibre();      // never returns to the kernel
std::string describe(uint32_t who);  // "thread 3 of block 0"
void report(const char* kind, const std::string& text);

// ---- checker, as the scheduler sees it ----
void shadow_begin(const ShimRegion* regions, size_t count);
void shadow_next_block();  // shared memory becomes uninitialised again

}  // namespace shim
