// The exponential race over rows of logits: for each row the N tokens with the largest
//     key(t) = scale(penalise(logit(t))) + gumbel(word(t)),
// in one read of the row. N = 1 is the race draw; the first arrivals of a longer race are the drafts whose
// target reads the same noise (shared race), and draws without replacement.
//
// Twins: trivium_core::draw (N = 1), trivium_sample's rules for the penalties; equal in every integer, since
// keys are the same operations in the same order (noise.cuh) and their maximum has no order.
//
// Idea: a thread owns 16 bytes of logits, which is one (f32) or two (halves) Philox blocks, so each noise word
// is computed once. Noise is at most GUMBEL_MAX, so groups whose best logit cannot reach the warp's best key
// are done after the load: on a peaked row almost all. Winners travel as one 64-bit word whose order is the
// order of the race (rows.cuh). A block covers TILE tokens at a time; its winners and what it found wrong go
// to `parts`, and race_merge answers for the row. Which tokens a row has seen is a bitmap of the tile in shared
// memory; the count is looked up for those few that have.
//
// Invariants:
// * TILE is a multiple of 32 and of the tokens that a block loads at once, so all lanes of a warp run the same
//   number of iterations and may shuffle;
// * a row's history is ascending and distinct (the caller's promise); ids beyond the vocabulary are ignored;
// * `floors` is null or what cdf_floor found: tokens below their row's floor do not run;
// * every word of `parts` is written, so neither memory nor atomics need a first launch to clear them.
#include "asked.cuh"

constexpr u32 TILE = 16384u;
constexpr u32 THREADS = 256u;
constexpr u32 WARPS = THREADS / 32u;
// The N best of what a thread saw, best first; 0 is nothing.
template <u32 N> struct Best {
    u64 at[N];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (u32 i = 0; i < N; ++i) {
            at[i] = 0;
        }
    }
    __device__ __forceinline__ void insert(u64 x)
    {
#pragma unroll
        for (u32 i = 0; i < N; ++i) {
            const u64 larger = max64(at[i], x);
            x = at[i] < x ? at[i] : x;
            at[i] = larger;
        }
    }
    __device__ __forceinline__ void pop()
    {
#pragma unroll
        for (u32 i = 0; i + 1u < N; ++i) {
            at[i] = at[i + 1u];
        }
        at[N - 1u] = 0;
    }
};

// Writes the N best of the block and, behind them, what went wrong. All threads take part.
template <u32 N>
__device__ __forceinline__ void block_best(Best<N>& best, u32 wrong, u64* __restrict__ out)
{
    __shared__ u64 heads[WARPS];
    __shared__ u32 flags[WARPS];
    wrong = warp_or(wrong);
    if ((threadIdx.x & 31u) == 0u) {
        flags[threadIdx.x >> 5] = wrong;
    }
    for (u32 round = 0; round < N; ++round) {
        const u64 mine = warp_max(best.at[0]);
        if ((threadIdx.x & 31u) == 0u) {
            heads[threadIdx.x >> 5] = mine;
        }
        __syncthreads();
        u64 winner = 0;
#pragma unroll
        for (u32 w = 0; w < WARPS; ++w) {
            winner = max64(winner, heads[w]);
        }
        // Words are distinct, so exactly one thread holds the winner.
        if (winner != 0 && best.at[0] == winner) {
            best.pop();
        }
        if (threadIdx.x == 0u) {
            out[round] = winner;
            if (round == 0u) {
                for (u32 w = 1; w < WARPS; ++w) {
                    wrong |= flags[w];
                }
                out[N] = wrong;
            }
        }
        __syncthreads();  // heads are read before the next round writes them
    }
}

template <typename E, u32 N>
__device__ __forceinline__ void race_rows(const typename E::Bits* __restrict__ logits,
                                          const int* __restrict__ row_indices,
                                          const u32* __restrict__ mask,
                                          const AskedRow* __restrict__ asked,
                                          const int* __restrict__ seen_starts,
                                          const int* __restrict__ seen_tokens,
                                          const int* __restrict__ seen_counts,
                                          u64* __restrict__ parts, u64 stride, u32 rows,
                                          u32 vocab, u32 logits_rows, u32 mask_words,
                                          const u64* __restrict__ floors)
{
    constexpr u32 G = PER<E>;
    __shared__ u32 seen[TILE / 32u];

    for (u32 r = blockIdx.y; r < rows; r += gridDim.y) {
        const u32 source = row_indices == nullptr ? r : (u32)row_indices[r];
        Best<N> best;
        best.clear();
        u32 wrong = 0u;
        if (source < logits_rows) {
            const typename E::Bits* row = logits + (u64)source * stride;
            const u32* allowed_row = mask == nullptr ? nullptr : mask + (u64)r * mask_words;
            const bool aligned = ((u64)row & 15u) == 0u;
            const AskedRow p = asked[r];
            const u64 floor = floors == nullptr ? 0 : floors[r];
            const u32 h0 = seen_starts == nullptr ? 0u : (u32)seen_starts[r];
            const u32 h1 = seen_starts == nullptr ? 0u : (u32)seen_starts[r + 1u];
            float bound = neg_infinity();  // a key that some token of the warp has

            for (u64 tile = (u64)blockIdx.x * TILE; tile < vocab; tile += (u64)gridDim.x * TILE) {
                const u32 base = (u32)tile;
                if (h1 > h0) {
                    for (u32 i = threadIdx.x; i < TILE / 32u; i += THREADS) {
                        seen[i] = 0u;
                    }
                    __syncthreads();
                    for (u32 i = h0 + threadIdx.x; i < h1; i += THREADS) {
                        const u32 at = (u32)seen_tokens[i] - base;
                        if (at < TILE) {
                            atomicOr(&seen[at >> 5], 1u << (at & 31u));
                        }
                    }
                    __syncthreads();
                }
                for (u32 g = threadIdx.x * G; g < TILE; g += THREADS * G) {
                    const u32 first = base + g;
                    const u32 left = first < vocab ? vocab - first : 0u;
                    const u32 count = left < G ? left : G;
                    float x[G];
                    load_group<E>(row, first, count, aligned, x);
                    const u32 allowed = load_allowed<E>(allowed_row, mask_words, first);
                    const u32 known = h1 > h0 ? (seen[g >> 5] >> (g & 31u)) & ((1u << G) - 1u) : 0u;
                    float top = neg_infinity();
#pragma unroll
                    for (u32 i = 0; i < G; ++i) {
                        const bool runs = i < count && ((allowed >> i) & 1u) != 0u;
                        x[i] = runs ? x[i] : neg_infinity();
                        wrong |= is_bad(x[i]) ? STATUS_BAD : 0u;
                        if (((known >> i) & 1u) != 0u && x[i] > neg_infinity() && !is_bad(x[i])) {
                            x[i] = penalise(x[i], first + i, seen_tokens, seen_counts, h0, h1,
                                            p.repetition, p.frequency, p.presence);
                        }
                        x[i] = p.factor == 0.0f || p.factor == 1.0f ? x[i] : x[i] * p.factor;
                        wrong |= is_bad(x[i]) ? STATUS_OVERFLOW : 0u;
                        if (floor != 0 && x[i] > neg_infinity() && pack(x[i], first + i) < floor) {
                            x[i] = neg_infinity();
                        }
                        top = x[i] > top ? x[i] : top;
                    }
                    if (top > neg_infinity() && !(top + GUMBEL_MAX < bound)) {
#pragma unroll
                        for (u32 j = 0; j < G; j += 4u) {
                            const float4 g4 =
                                p.factor == 0.0f
                                    ? make_float4(0.0f, 0.0f, 0.0f, 0.0f)
                                    : race_noise(p.seed, (first + j) >> 2, p.index, p.branch);
                            const float noise[4] = {g4.x, g4.y, g4.z, g4.w};
#pragma unroll
                            for (u32 i = 0; i < 4u; ++i) {
                                if (x[j + i] > neg_infinity()) {
                                    best.insert(pack(x[j + i] + noise[i], first + j + i));
                                }
                            }
                        }
                    }
                    // With N = 1 the best of the warp bounds what is worth its noise. Every lane is here.
                    if (N == 1u) {
                        bound = best.at[0] == 0 ? neg_infinity() : packed_key(best.at[0]);
#pragma unroll
                        for (int d = 16; d > 0; d >>= 1) {
                            const float other = __shfl_xor_sync(0xFFFFFFFFu, bound, d);
                            bound = other > bound ? other : bound;
                        }
                    } else if (best.at[N - 1u] != 0) {
                        bound = packed_key(best.at[N - 1u]);
                    }
                }
                if (h1 > h0) {
                    __syncthreads();  // the tile is read before the next one clears it
                }
            }
        } else {
            wrong = STATUS_INDEX;
        }
        block_best(best, wrong, parts + ((u64)r * gridDim.x + blockIdx.x) * (N + 1u));
    }
}

// One entry a logit type and N; all take the same parameters (cuda/src/race.rs packs them).
#define RACE(NAME, E, N)                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
        NAME(const E::Bits* __restrict__ logits, const int* __restrict__ row_indices,              \
             const u32* __restrict__ mask, const AskedRow* __restrict__ asked,                      \
             const int* __restrict__ seen_starts, const int* __restrict__ seen_tokens,             \
             const int* __restrict__ seen_counts, u64* __restrict__ parts, u64 stride, u32 rows,   \
             u32 vocab, u32 logits_rows, u32 mask_words, const u64* __restrict__ floors)           \
    {                                                                                              \
        race_rows<E, N>(logits, row_indices, mask, asked, seen_starts, seen_tokens, seen_counts,   \
                        parts, stride, rows, vocab, logits_rows, mask_words, floors);              \
    }

RACE(race_1_f32, F32, 1)
RACE(race_1_f16, F16, 1)
RACE(race_1_bf16, Bf16, 1)
RACE(race_8_f32, F32, 8)
RACE(race_8_f16, F16, 8)
RACE(race_8_bf16, Bf16, 8)

// The `wanted` best of each row from the parts of `blocks` blocks, `kept` winners and a word of flags each: one
// warp a row. Tokens that do not exist are -1 with key -inf; so are all of an unsound row, which status tells.
extern "C" __global__ void __launch_bounds__(32)
    race_merge(const u64* __restrict__ parts, int* __restrict__ tokens, float* __restrict__ keys,
               u32* __restrict__ status, u32 rows, u32 blocks, u32 kept, u32 wanted)
{
    const u32 each = kept + 1u;
    for (u32 r = blockIdx.x; r < rows; r += gridDim.x) {
        const u64* words = parts + (u64)r * blocks * each;
        u32 wrong = 0u;
        for (u32 b = threadIdx.x; b < blocks; b += 32u) {
            wrong |= (u32)words[(u64)b * each + kept];
        }
        wrong = warp_or(wrong);
        u64 below = 0;  // the winner before
        for (u32 k = 0; k < wanted; ++k) {
            u64 best = 0;
            for (u32 i = threadIdx.x; i < blocks * each; i += 32u) {
                const u64 x = i % each == kept ? 0 : words[i];
                best = k == 0u || x < below ? max64(best, x) : best;
            }
            best = warp_max(best);
            below = best;
            if (threadIdx.x == 0u) {
                const u32 state = row_status(wrong, k == 0u && best == 0);
                const bool found = best != 0 && wrong == 0u;
                tokens[(u64)r * wanted + k] = found ? (int)packed_token(best) : -1;
                keys[(u64)r * wanted + k] = found ? packed_key(best) : neg_infinity();
                if (k == 0u) {
                    status[r] = state;
                }
            }
        }
    }
}
