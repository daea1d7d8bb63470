// What a .cu source of this repository needs of CUDA, for a C++ compiler and a CPU.
//
// A kernel file is compiled unchanged after this header (shim/build.rs writes the few lines around
// it) with -fsanitize=thread. The compiler then calls __tsan_read4(address) and its sisters before
// every access to memory that others might see; shim.cpp answers those calls with its own race and
// bounds checker, and the sanitizer's runtime is not linked. So kernels carry no annotation.
//
// Each thread of a block is a fibre that runs until it synchronises. Blocks run one after another.
// Not modelled: ordering through atomics and fences (__threadfence), dynamic shared memory, textures,
// clocks, cooperative groups, warps that converge without being told to.
#pragma once

#define __global__
#define __device__  // kernels are compiled inside an unnamed namespace
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))  // no header of the library may follow
#define __launch_bounds__(...)
// One block runs at a time, so a block's shared memory is one static object; shim.cpp finds it in
// the program's data segment and forgets its contents between blocks.
#define __shared__ static

struct uint2 { unsigned x, y; } __attribute__((aligned(8)));
struct uint4 { unsigned x, y, z, w; } __attribute__((aligned(16)));
struct float2 { float x, y; } __attribute__((aligned(8)));
struct float4 { float x, y, z, w; } __attribute__((aligned(16)));
struct dim3 { unsigned x, y, z; };

static inline uint2 make_uint2(unsigned x, unsigned y) { return uint2{x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return uint4{x, y, z, w};
}
static inline float2 make_float2(float x, float y) { return float2{x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }

// The indices of the running fibre; the scheduler sets them before it resumes one.
struct ShimIndices { dim3 grid, block, block_index, thread_index; };
extern ShimIndices shim_indices;
#define gridDim shim_indices.grid
#define blockDim shim_indices.block
#define blockIdx shim_indices.block_index
#define threadIdx shim_indices.thread_index
constexpr int warpSize = 32;

// ---- synchronisation: implemented by the scheduler ------------------------------------------------

enum ShimWarpOp { SHIM_SYNCWARP, SHIM_IDX, SHIM_UP, SHIM_DOWN, SHIM_XOR, SHIM_BALLOT };
void shim_barrier();
unsigned long long shim_warp(ShimWarpOp op, unsigned mask, unsigned long long value, unsigned arg,
                             unsigned width);

static inline void __syncthreads() { shim_barrier(); }
static inline void __syncwarp(unsigned mask = 0xFFFFFFFFu)
{
    shim_warp(SHIM_SYNCWARP, mask, 0, 0, 32);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    return (unsigned)shim_warp(SHIM_BALLOT, mask, predicate != 0, 0, 32);
}
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }

// Values of up to 8 bytes travel as bits.
template <typename T>
static inline T shim_shuffle(ShimWarpOp op, unsigned mask, T value, unsigned arg, int width)
{
    static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
    unsigned long long bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = shim_warp(op, mask, bits, arg, (unsigned)width);
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}
template <typename T> static inline T __shfl_sync(unsigned m, T v, int lane, int width = 32)
{
    return shim_shuffle(SHIM_IDX, m, v, (unsigned)lane, width);
}
template <typename T> static inline T __shfl_up_sync(unsigned m, T v, unsigned d, int width = 32)
{
    return shim_shuffle(SHIM_UP, m, v, d, width);
}
template <typename T> static inline T __shfl_down_sync(unsigned m, T v, unsigned d, int width = 32)
{
    return shim_shuffle(SHIM_DOWN, m, v, d, width);
}
template <typename T> static inline T __shfl_xor_sync(unsigned m, T v, int lanes, int width = 32)
{
    return shim_shuffle(SHIM_XOR, m, v, (unsigned)lanes, width);
}

// ---- atomics: fibres never preempt each other, so a plain update is atomic ------------------------

void shim_atomic(const void* address, unsigned size);

#define SHIM_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#define SHIM_ATOMIC(NAME, EXPRESSION)                                                              \
    template <typename T> SHIM_UNSEEN static T NAME(T* address, T value)                           \
    {                                                                                              \
        shim_atomic(address, sizeof(T));                                                           \
        const T old = *address;                                                                    \
        *address = (EXPRESSION);                                                                   \
        return old;                                                                                \
    }
SHIM_ATOMIC(atomicAdd, old + value)
SHIM_ATOMIC(atomicSub, old - value)
SHIM_ATOMIC(atomicMax, value > old ? value : old)
SHIM_ATOMIC(atomicMin, value < old ? value : old)
SHIM_ATOMIC(atomicAnd, old & value)
SHIM_ATOMIC(atomicOr, old | value)
SHIM_ATOMIC(atomicExch, value)
template <typename T> SHIM_UNSEEN static T atomicCAS(T* address, T expected, T value)
{
    shim_atomic(address, sizeof(T));
    const T old = *address;
    if (old == expected) {
        *address = value;
    }
    return old;
}

// ---- arithmetic -------------------------------------------------------------------------------------

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((unsigned long long)a * b >> 32);
}
static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}
static inline float __uint_as_float(unsigned bits)
{
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
template <typename T> static inline T __ldg(const T* p) { return *p; }

// ---- entry points -----------------------------------------------------------------------------------

// Calls a kernel with the pointer array that cuLaunchKernel takes: params[i] points at argument i.
template <int... I> struct ShimSeq {};
template <int N, int... I> struct ShimMake : ShimMake<N - 1, N - 1, I...> {};
template <int... I> struct ShimMake<0, I...> { typedef ShimSeq<I...> type; };

template <typename... A, int... I>
SHIM_UNSEEN static void shim_apply(void (*kernel)(A...), void** params, ShimSeq<I...>)
{
    kernel(*(A*)params[I]...);
}
template <typename... A>
SHIM_UNSEEN static void shim_call(void (*kernel)(A...), void** params)
{
    shim_apply(kernel, params, typename ShimMake<sizeof...(A)>::type());
}

// Tells the shim how many parameters an entry has, and how to enter it.
template <typename... A> static constexpr int shim_arity(void (*)(A...)) { return sizeof...(A); }
struct ShimEntry {
    const char* kernel;
    const char* variant;
    int arity;
    void (*enter)(void** params);
};
