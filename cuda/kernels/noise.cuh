// The noise and the arithmetic that all machines share: Philox4x32-10 at trivium's addresses, and f32
// functions written as plain operations in one order.
//
// Twins: trivium_core::rng and trivium_core::numerics, equal bit for bit. That needs a compiler which
// neither fuses nor reorders: NVRTC runs with --fmad=false, the CPU run with -ffp-contract=off.
#pragma once

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;
typedef unsigned long long u64;

__device__ __forceinline__ float neg_infinity() { return __uint_as_float(0xFF800000u); }
__device__ __forceinline__ float pos_infinity() { return __uint_as_float(0x7F800000u); }

// Purposes of a random number (trivium_core::rng::Purpose).
constexpr u32 PURPOSE_CDF = 0u;
constexpr u32 PURPOSE_RACE = 1u;
constexpr u32 PURPOSE_ACCEPT = 2u;
constexpr u32 PURPOSE_RESIDUAL = 3u;

// One block of Philox4x32-10 (Salmon et al., SC 2011).
__device__ __forceinline__ uint4 philox(uint4 ctr, u32 k0, u32 k1)
{
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u32 hi0 = __umulhi(ctr.x, 0xD2511F53u), lo0 = ctr.x * 0xD2511F53u;
        const u32 hi1 = __umulhi(ctr.z, 0xCD9E8D57u), lo1 = ctr.z * 0xCD9E8D57u;
        ctr = make_uint4(hi1 ^ ctr.y ^ k0, lo1, hi0 ^ ctr.w ^ k1, lo0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return ctr;
}

// Scalar draw number `draw` of a purpose: 53 bits in [0, 1).
__device__ __forceinline__ double uniform(u64 seed, u32 index, u32 branch, u32 purpose, u32 draw)
{
    const uint4 w =
        philox(make_uint4(draw >> 1, index, purpose, branch), (u32)seed, (u32)(seed >> 32));
    const u32 high = (draw & 1u) != 0u ? w.z : w.x, low = (draw & 1u) != 0u ? w.w : w.y;
    const u64 bits = ((u64)(high >> 5) << 26) | (u64)(low >> 6);
    return (double)bits * (1.0 / 9007199254740992.0);
}

// 2 atanh(s), |s| <= 1/3.
__device__ __forceinline__ float atanh2(float s)
{
    const float w = s * s;
    float p = 2.0f / 13.0f;
    p = p * w + 2.0f / 11.0f;
    p = p * w + 2.0f / 9.0f;
    p = p * w + 2.0f / 7.0f;
    p = p * w + 2.0f / 5.0f;
    p = p * w + 2.0f / 3.0f;
    return s * (w * p) + 2.0f * s;
}

// ln x of a positive normal number.
__device__ __forceinline__ float ln_positive(float x)
{
    const u32 bits = __float_as_uint(x) - 0x3F3504F3u;
    const int e = (int)bits >> 23;
    const float f = __uint_as_float((bits & 0x007FFFFFu) + 0x3F3504F3u);
    const float lnf = atanh2((f - 1.0f) / (f + 1.0f));
    const float n = (float)e;
    return n * -2.1219444e-4f + lnf + n * 0.6933594f;
}

// Gumbel noise of a race word.
__device__ __forceinline__ float gumbel(u32 word)
{
    const float scale = 1.0f / 8589934592.0f;
    float e;
    if (word < 0x80000000u) {
        e = -ln_positive((float)(2u * word + 1u) * scale);
    } else {
        const float x = (float)(2u * (0xFFFFFFFFu - word) + 1u) * scale;
        e = atanh2(x / (2.0f - x));
    }
    return -ln_positive(e);
}

// The race noise of tokens 4 * block to 4 * block + 3. A call: long, and seldom needed (race.cu).
__device__ __noinline__ float4 race_noise(u64 seed, u32 block, u32 index, u32 branch)
{
    const uint4 w =
        philox(make_uint4(block, index, PURPOSE_RACE, branch), (u32)seed, (u32)(seed >> 32));
    return make_float4(gumbel(w.x), gumbel(w.y), gumbel(w.z), gumbel(w.w));
}

// At least every value of gumbel().
constexpr float GUMBEL_MAX = 22.9f;

// e^x, x <= 0; 0 below -87.
__device__ __forceinline__ float exp_neg(float x)
{
    const float magic = 12582912.0f;
    const float y = x > -88.0f ? x : -88.0f;
    const float shifted = y * 1.44269504088896340736f + magic;
    const float n = shifted - magic;
    const float r = (y - n * 0.6933594f) - n * -2.1219444e-4f;
    float p = 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const float scale = __uint_as_float((__float_as_uint(shifted) - (0x4B400000u - 127u)) << 23);
    return x < -87.0f ? 0.0f : p * scale;
}

// e^d, d <= 0: the weight of every sum (numerics::weight).
__device__ __forceinline__ float weight(float d)
{
    const float y = -88.0f > d ? -88.0f : d;
    const float magic = 12583039.0f;
    const float shifted = __fmaf_rn(y, 1.44269504088896340736f, magic);
    const float n = shifted - magic;
    const float r = __fmaf_rn(n, -0.69314718055994530942f, y);
    float p = 0.008312467f;
    p = __fmaf_rn(p, r, 0.04189065f);
    p = __fmaf_rn(p, r, 0.16667117f);
    p = __fmaf_rn(p, r, 0.49999228f);
    p = __fmaf_rn(p, r, 1.0f);
    p = __fmaf_rn(p, r, 1.0f);
    return p * __uint_as_float(__float_as_uint(shifted) << 23);
}
