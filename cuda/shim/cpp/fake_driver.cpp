// A stand-in for the CUDA driver library, for tests only: the calls that trivium-cuda and its device
// test make, with "device memory" on the heap and launches run by the shim.
//
// It proves the host side of a launch on a machine without a GPU: that the library is found and
// initialised, the PTX reaches the driver and holds the kernels asked for, a context is current where
// the driver needs one, the parameter array matches the kernel, and the right stream is named. It says
// nothing about the PTX's instructions: launches run the compiled source.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "internal.h"

extern "C" int shim_launch(const char*, const char*, const unsigned*, const unsigned*, uint64_t,
                           const ShimRegion*, size_t, void**, size_t, char*, size_t);

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, UNSUPPORTED_PTX = 222, INVALID_CONTEXT = 201, INVALID_PTX = 218, NOT_FOUND = 500,
       INVALID_HANDLE = 400, INVALID_DEVICE = 101, LAUNCH_FAILED = 719 };

struct Function { std::string name; size_t params; };

int the_context;                      // its address is the handle
thread_local void* current = nullptr;
std::map<uintptr_t, size_t> memory;   // begin, bytes
std::map<void*, int> streams;
uint64_t launches = 0;

// What a test asks about afterwards: a line a launch, "kernel gx gy stream".
std::vector<std::string> launched;
// Streams that have work behind their last synchronisation.
std::map<void*, int> pending;

bool in_context() { return current == &the_context; }

// The legacy default stream by its two names, the per-thread one, or one that was made.
bool is_stream(void* stream)
{
    return reinterpret_cast<uintptr_t>(stream) <= 2 || streams.count(stream) != 0;
}

// How a test wants the driver to fail: TRIVIUM_STAND_IN = "old" refuses the PTX, "full" has no memory left,
// "launch" fails every launch.
bool fails(const char* how)
{
    const char* wanted = getenv("TRIVIUM_STAND_IN");
    return wanted != nullptr && strcmp(wanted, how) == 0;
}

// The range of `bytes` from `p` on lies in one allocation.
bool owned(uintptr_t p, size_t bytes)
{
    auto after = memory.upper_bound(p);
    if (after == memory.begin()) {
        return false;
    }
    --after;
    return p + bytes <= after->first + after->second;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* version) { *version = 12000; return SUCCESS; }
int cuGetErrorString(int code, const char** text)
{
    *text = code == LAUNCH_FAILED     ? "launch failed"
            : code == INVALID_DEVICE  ? "invalid device ordinal"
            : code == INVALID_CONTEXT ? "invalid device context"
            : code == OUT_OF_MEMORY   ? "out of memory"
            : code == UNSUPPORTED_PTX ? "the provided PTX was compiled with an unsupported toolchain"
                                      : "error of the stand-in driver";
    return SUCCESS;
}
int cuDeviceGetCount(int* count) { *count = 1; return SUCCESS; }
int cuDeviceGet(int* device, int ordinal)
{
    *device = 0;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}
int cuDeviceGetName(char* name, int size, int)
{
    snprintf(name, (size_t)size, "stand-in (CPU shim)");
    return SUCCESS;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = size_t(1) << 30; return SUCCESS; }
int cuDeviceGetAttribute(int* value, int attribute, int)
{
    *value = attribute == 75 ? 8 : 0;  // compute capability 8.0
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void** context, int) { *context = &the_context; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxGetCurrent(void** context) { *context = current; return SUCCESS; }
int cuCtxSetCurrent(void* context) { current = context; return SUCCESS; }

int cuModuleLoadData(void** module, const void* image)
{
    if (!in_context()) {
        return INVALID_CONTEXT;
    }
    if (fails("old")) {
        return UNSUPPORTED_PTX;
    }
    auto* text = new std::string(static_cast<const char*>(image));
    *module = text;
    return text->find("\n.version ") != std::string::npos ? SUCCESS : INVALID_PTX;
}
int cuModuleGetFunction(void** function, void* module, const char* name)
{
    const std::string& text = *static_cast<std::string*>(module);
    const size_t begin = text.find(".entry " + std::string(name) + "(");
    if (begin == std::string::npos) {
        return NOT_FOUND;
    }
    size_t params = 0;
    const size_t end = text.find(')', begin);
    for (size_t at = begin; (at = text.find(".param", at + 1)) < end;) {
        ++params;
    }
    *function = new Function{name, params};
    return SUCCESS;
}

int cuMemAlloc_v2(uintptr_t* p, size_t bytes)
{
    if (fails("full")) {
        return OUT_OF_MEMORY;
    }
    *p = reinterpret_cast<uintptr_t>(aligned_alloc(256, (bytes + 255) / 256 * 256));
    memory[*p] = bytes;
    return in_context() ? SUCCESS : INVALID_CONTEXT;
}
int cuMemFree_v2(uintptr_t p)
{
    free(reinterpret_cast<void*>(p));
    return memory.erase(p) == 1 ? SUCCESS : INVALID_VALUE;
}
int cuMemcpyHtoD_v2(uintptr_t to, const void* from, size_t bytes)
{
    if (!in_context() || !owned(to, bytes)) {
        return INVALID_VALUE;
    }
    memcpy(reinterpret_cast<void*>(to), from, bytes);
    return SUCCESS;
}
int cuMemcpyDtoH_v2(void* to, uintptr_t from, size_t bytes)
{
    if (!in_context() || !owned(from, bytes)) {
        return INVALID_VALUE;
    }
    memcpy(to, reinterpret_cast<void*>(from), bytes);
    return SUCCESS;
}
int cuStreamCreate(void** stream, unsigned)
{
    *stream = new int;
    streams[*stream] = 1;
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, void* stream)
{
    pending[stream] = 1;
    return is_stream(stream) ? cuMemcpyHtoD_v2(to, from, bytes) : INVALID_HANDLE;
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, void* stream)
{
    pending[stream] = 1;
    return is_stream(stream) ? cuMemcpyDtoH_v2(to, from, bytes) : INVALID_HANDLE;
}
// Of the attributes only the device's ordinal.
int cuPointerGetAttribute(void* value, int attribute, uintptr_t p)
{
    if (!in_context() || attribute != 9 || !owned(p, 1)) {
        return INVALID_VALUE;
    }
    *static_cast<int*>(value) = 0;
    return SUCCESS;
}
int cuStreamSynchronize(void* stream)
{
    pending.erase(stream);
    return is_stream(stream) ? SUCCESS : INVALID_HANDLE;
}
int cuStreamDestroy_v2(void* stream) { return streams.erase(stream) ? SUCCESS : INVALID_HANDLE; }

int cuLaunchKernel(void* handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned, void* stream, void** params, void**)
{
    if (!in_context()) {
        return INVALID_CONTEXT;
    }
    if (!is_stream(stream)) {
        return INVALID_HANDLE;
    }
    if (fails("launch")) {
        return LAUNCH_FAILED;
    }
    pending[stream] = 1;
    std::vector<ShimRegion> regions;
    for (const auto& block : memory) {
        // Byte by byte: of what type memory is, a driver does not know.
        regions.push_back({block.first, block.second, 1, 1, "device memory"});
    }
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    const Function& function = *static_cast<Function*>(handle);
    launched.push_back(function.name + " " + std::to_string(gx) + " " + std::to_string(gy) + " " +
                       std::to_string(reinterpret_cast<uintptr_t>(stream)));
    char text[4096];
    const int findings =
        shim_launch(function.name.c_str(), "", grid, block, ++launches, regions.data(),
                    regions.size(), params, function.params, text, sizeof text);
    if (findings > 0) {
        fprintf(stderr, "%s: %s", function.name.c_str(), text);
    }
    return findings == 0 ? SUCCESS : LAUNCH_FAILED;
}

// ---- what tests ask ---------------------------------------------------------------------------------

// Launches so far, and the line of one.
size_t stand_in_launches() { return launched.size(); }
const char* stand_in_launch(size_t i) { return launched[i].c_str(); }
// Streams with work that nobody waited for.
size_t stand_in_pending() { return pending.size(); }
// Allocations that are alive.
size_t stand_in_allocations() { return memory.size(); }

}  // extern "C"
