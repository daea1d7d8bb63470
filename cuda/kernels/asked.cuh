// What the rows of a launch ask for, and the scaled logit of a token under it.
#pragma once
#include "rows.cuh"

// 48 bytes; trivium_cuda::asked::AskedRow.
struct AskedRow {
    u64 seed;
    u32 index;
    u32 branch;
    float factor;  // 1 / temperature; 0 is greedy
    float repetition;
    float frequency;
    float presence;
    u32 top_k;     // 0 keeps all
    float top_p;   // 1 keeps all
    float ln_min_p;  // -inf keeps all
    u32 reserved;
};

constexpr float MAX_FLOAT = 3.40282346638528859811704183484516925e38f;

__device__ __forceinline__ float clamp_finite(float x)
{
    return x > MAX_FLOAT ? MAX_FLOAT : x < -MAX_FLOAT ? -MAX_FLOAT : x;
}

// The first place in [begin, end) whose token is at least `token`.
__device__ __forceinline__ u32 lower_bound(const int* __restrict__ tokens, u32 begin, u32 end,
                                           u32 token)
{
    while (begin < end) {
        const u32 middle = begin + (end - begin) / 2u;
        if ((u32)tokens[middle] < token) {
            begin = middle + 1u;
        } else {
            end = middle;
        }
    }
    return begin;
}

// Of a count in the history: the repetition penalty passes this token by. What is left is how often the frequency
// penalty counts it, which may be never: the two rules may look at different parts of a text.
constexpr u32 NOT_REPEATED = 0x40000000u;

// Repetition, then frequency and presence, on the finite logit of `token`, if the history [begin, end) holds it.
// A call: rare and long.
__device__ __noinline__ float penalise(float z, u32 token, const int* __restrict__ tokens,
                                       const int* __restrict__ counts, u32 begin, u32 end,
                                       float repetition, float frequency, float presence)
{
    const u32 at = lower_bound(tokens, begin, end, token);
    if (at == end || (u32)tokens[at] != token) {
        return z;
    }
    const u32 word = (u32)counts[at], count = word & ~NOT_REPEATED;
    if (repetition != 1.0f && (word & NOT_REPEATED) == 0u) {
        z = clamp_finite(z < 0.0f ? z * repetition : z / repetition);
    }
    if (count != 0u && (frequency != 0.0f || presence != 0.0f)) {
        z = clamp_finite(z - ((float)count * frequency + presence));
    }
    return z;
}

// One row of a launch with all that acts on it before a truncation.
template <typename E> struct ScaledRow {
    const typename E::Bits* logits;
    const u32* mask;
    const int* seen_tokens;
    const int* seen_counts;
    u32 mask_words, seen_begin, seen_end;

    // The scaled logit of `token` < vocab; -inf where it is removed. What is wrong is or-ed into `wrong`.
    __device__ __forceinline__ float at(u32 token, const AskedRow& p, u32& wrong) const
    {
        const u32 w = token >> 5;
        if (mask != nullptr && (w >= mask_words || ((mask[w] >> (token & 31u)) & 1u) == 0u)) {
            return neg_infinity();
        }
        float x = E::widen(logits[token]);
        if (is_bad(x)) {
            wrong |= STATUS_BAD;
        } else if (seen_begin < seen_end && x > neg_infinity()) {
            x = penalise(x, token, seen_tokens, seen_counts, seen_begin, seen_end, p.repetition,
                         p.frequency, p.presence);
        }
        x = p.factor == 0.0f || p.factor == 1.0f ? x : x * p.factor;
        wrong |= is_bad(x) ? STATUS_OVERFLOW : 0u;
        return x;
    }
};

// Row r of the launch; false where its index lies outside the logits.
template <typename E>
__device__ __forceinline__ bool scaled_row(const typename E::Bits* __restrict__ logits,
                                           const int* __restrict__ row_indices,
                                           const u32* __restrict__ mask,
                                           const int* __restrict__ seen_starts,
                                           const int* __restrict__ seen_tokens,
                                           const int* __restrict__ seen_counts, u64 stride, u32 r,
                                           u32 logits_rows, u32 mask_words, ScaledRow<E>& row)
{
    const u32 source = row_indices == nullptr ? r : (u32)row_indices[r];
    row.logits = logits + (u64)source * stride;
    row.mask = mask == nullptr ? nullptr : mask + (u64)r * mask_words;
    row.mask_words = mask_words;
    row.seen_tokens = seen_tokens;
    row.seen_counts = seen_counts;
    row.seen_begin = seen_starts == nullptr ? 0u : (u32)seen_starts[r];
    row.seen_end = seen_starts == nullptr ? 0u : (u32)seen_starts[r + 1u];
    return source < logits_rows;
}

// The parameters of every kernel over asked rows, and their names.
#define ROW_PARAMETERS(E)                                                                          \
    const E::Bits *__restrict__ logits, const int *__restrict__ row_indices,                       \
        const u32 *__restrict__ mask, const AskedRow *__restrict__ asked,                          \
        const int *__restrict__ seen_starts, const int *__restrict__ seen_tokens,                  \
        const int *__restrict__ seen_counts, u64 stride, u32 rows, u32 vocab, u32 logits_rows,     \
        u32 mask_words
#define ROW_PARAMETERS_OF_T                                                                        \
    const typename E::Bits *__restrict__ logits, const int *__restrict__ row_indices,              \
        const u32 *__restrict__ mask, const AskedRow *__restrict__ asked,                          \
        const int *__restrict__ seen_starts, const int *__restrict__ seen_tokens,                  \
        const int *__restrict__ seen_counts, u64 stride, u32 rows, u32 vocab, u32 logits_rows,     \
        u32 mask_words
#define ROW_ARGUMENTS                                                                              \
    logits, row_indices, mask, asked, seen_starts, seen_tokens, seen_counts, stride, rows, vocab,  \
        logits_rows, mask_words
