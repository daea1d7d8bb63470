// Rows of logits in device memory: how an element becomes an f32, and which bits of the mask are its own.
#pragma once
#include "noise.cuh"

// Element types, by their bits: NVRTC is given no header, so halves are widened here.
struct F32 {
    typedef u32 Bits;
    __device__ __forceinline__ static float widen(u32 bits) { return __uint_as_float(bits); }
};

struct Bf16 {
    typedef u16 Bits;
    __device__ __forceinline__ static float widen(u32 bits) { return __uint_as_float(bits << 16); }
};

struct F16 {
    typedef u16 Bits;
    // Exact, subnormal numbers, infinities and NaN included.
    __device__ __forceinline__ static float widen(u32 bits)
    {
        const u32 sign = (bits & 0x8000u) << 16, rest = bits & 0x7FFFu;
        if (rest >= 0x7C00u) {
            return __uint_as_float(sign | 0x7F800000u | ((rest & 0x3FFu) << 13));
        }
        // 2^-24 times an integer of at most 10 bits: exact.
        const float tiny = (float)(int)rest * (1.0f / 16777216.0f);
        const u32 magnitude =
            rest < 0x400u ? __float_as_uint(tiny) : (rest << 13) + (112u << 23);
        return __uint_as_float(sign | magnitude);
    }
};

// Logits that one thread loads at once: 16 bytes.
template <typename E> constexpr u32 PER = 16u / sizeof(typename E::Bits);

// Reads `count` logits from `first` on as f32; one 16-byte load where the row is aligned.
template <typename E>
__device__ __forceinline__ void load_group(const typename E::Bits* __restrict__ row, u32 first,
                                           u32 count, bool aligned, float (&out)[PER<E>])
{
    constexpr u32 N = PER<E>;
    if (aligned && count == N) {
        const uint4 v = *(const uint4*)(row + first);
        const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (u32 i = 0; i < N; ++i) {
            const u32 bits = N == 4u ? words[i] : (words[i >> 1] >> (16u * (i & 1u))) & 0xFFFFu;
            out[i] = E::widen(bits);
        }
        return;
    }
#pragma unroll
    for (u32 i = 0; i < N; ++i) {
        out[i] = i < count ? E::widen(row[first + i]) : neg_infinity();
    }
}

// The mask bits of PER<E> logits from `first` on; a null mask allows all, and what lies beyond a mask is
// forbidden. PER<E> divides 32, so the bits lie in one word.
template <typename E>
__device__ __forceinline__ u32 load_allowed(const u32* __restrict__ mask, u32 mask_words, u32 first)
{
    constexpr u32 ALL = (1u << PER<E>) - 1u;
    if (mask == nullptr) {
        return ALL;
    }
    const u32 w = first >> 5;
    return ((w < mask_words ? mask[w] : 0u) >> (first & 31u)) & ALL;
}

// Neither finite nor -inf.
__device__ __forceinline__ bool is_bad(float x) { return !(x < pos_infinity()); }

// What went wrong in a row.
constexpr u32 STATUS_EMPTY = 1u;  // nothing is allowed
constexpr u32 STATUS_BAD = 2u;    // an allowed logit is NaN or +inf
constexpr u32 STATUS_INDEX = 4u;  // the row's index lies outside the logits
constexpr u32 STATUS_OVERFLOW = 8u;  // the temperature carries a logit beyond f32

// (key, token) as one word whose order is: larger key first, then the lower token. -0 counts as +0.
__device__ __forceinline__ u64 pack(float key, u32 token)
{
    const u32 bits = __float_as_uint(key + 0.0f);
    const u32 ordered = (bits >> 31) != 0u ? ~bits : bits | 0x80000000u;
    return ((u64)ordered << 32) | (u64)(~token);
}
__device__ __forceinline__ u32 packed_token(u64 p) { return ~(u32)p; }
__device__ __forceinline__ float packed_key(u64 p)
{
    const u32 ordered = (u32)(p >> 32);
    return __uint_as_float((ordered >> 31) != 0u ? ordered & 0x7FFFFFFFu : ~ordered);
}

__device__ __forceinline__ u64 max64(u64 a, u64 b) { return a > b ? a : b; }

// Largest value of a warp, in every lane; all 32 lanes take part.
__device__ __forceinline__ u64 warp_max(u64 x)
{
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) {
        x = max64(x, __shfl_xor_sync(0xFFFFFFFFu, x, d));
    }
    return x;
}

// Bits set in any lane of a warp; all 32 lanes take part.
__device__ __forceinline__ u32 warp_or(u32 x)
{
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) {
        x |= __shfl_xor_sync(0xFFFFFFFFu, x, d);
    }
    return x;
}

// The status of a row from the bits that its parts saw: NaN and +inf survive a temperature and would count twice.
__device__ __forceinline__ u32 row_status(u32 wrong, bool empty)
{
    if ((wrong & STATUS_INDEX) != 0u) {
        return STATUS_INDEX;
    }
    if ((wrong & STATUS_BAD) != 0u) {
        return STATUS_BAD;
    }
    return wrong != 0u ? wrong : empty ? STATUS_EMPTY : 0u;
}
