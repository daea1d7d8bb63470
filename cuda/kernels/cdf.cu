// Draws by inverse CDF, with and without top-k, top-p and min-p: the smallest token whose cumulative weight
// exceeds u * total, tokens in the order of their ids, u the counter-addressed scalar of the row.
//
// Twins: trivium_core::ScaledRow::draw_cdf and the rules top_k, top_p, min_p of trivium_sample; tokens and status
// equal, always: the CPU's sums are defined block by block and lane by lane (numerics::block_sum), a warp
// adds in that very order, and the masses of top-p are integers.
//
// Idea. A warp weighs a block of 256 tokens: lane l holds tokens l, l + 32, ..., whose weights relative to the
// block's largest it adds in f64, and the lanes halve the sum: one read of the row leaves 12 bytes a block
// (cdf_weigh). One warp a row then turns block sums into masses, finds the block that crosses u * total, and
// reads that block again (cdf_pick).
// A truncated row first finds its floor (cdf_floor), a word in the order of rows.cuh below which tokens are
// removed: top-k by counts, top-p by fixed-point masses, each a radix select from the top, which reads the row
// once for 11 bits. Logits of a row stay in L2 between these reads.
//
// Invariants:
// * BLOCK and the order of sums are frozen under rng = 1;
// * floor 0 removes nothing; a floor is a word of the row or between two of them, never above the largest.
#include "asked.cuh"

constexpr u32 BLOCK = 256u;
constexpr u32 EACH = BLOCK / 32u;
constexpr u32 WEIGH_THREADS = 256u;
constexpr u32 WEIGH_WARPS = WEIGH_THREADS / 32u;
constexpr u32 FLOOR_THREADS = 512u;
constexpr u32 FLOOR_WARPS = FLOOR_THREADS / 32u;
constexpr u32 DIGIT = 11u;
constexpr u32 BINS = 1u << DIGIT;
constexpr double FIXED = 4398046511104.0;  // 2^42, one in fixed point
constexpr float REACH = 30.0f;             // nats below the best that top-p looks at

// What a block of tokens leaves; 16 bytes.
struct BlockPart {
    double sum;  // of weight(x - top)
    float top;   // largest scaled logit that is left; -inf: none
    u32 wrong;
};

__device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) {
        const float other = __shfl_xor_sync(0xFFFFFFFFu, x, d);
        x = other > x ? other : x;
    }
    return x;
}

// The scaled logits of block b that are left, as lanes hold them; -inf beyond the vocabulary.
template <typename E>
__device__ __forceinline__ void load_block(const ScaledRow<E>& row, const AskedRow& p, u32 b,
                                           u32 vocab, u64 floor, float (&x)[EACH], u32& wrong)
{
    const u32 lane = threadIdx.x & 31u;
#pragma unroll
    for (u32 j = 0; j < EACH; ++j) {
        const u32 token = b * BLOCK + j * 32u + lane;
        x[j] = token < vocab ? row.at(token, p, wrong) : neg_infinity();
        if (floor != 0 && x[j] > neg_infinity() && pack(x[j], token) < floor) {
            x[j] = neg_infinity();
        }
    }
}

// One warp weighs block b; all lanes get the part.
template <typename E>
__device__ __forceinline__ BlockPart weigh_block(const ScaledRow<E>& row, const AskedRow& p, u32 b,
                                                 u32 vocab, u64 floor)
{
    BlockPart part;
    float x[EACH];
    u32 wrong = 0u;
    load_block(row, p, b, vocab, floor, x, wrong);
    float top = neg_infinity();
#pragma unroll
    for (u32 j = 0; j < EACH; ++j) {
        top = x[j] > top ? x[j] : top;
    }
    top = warp_max(top);
    const float reference = top == neg_infinity() ? 0.0f : top;
    double sum = 0.0;
#pragma unroll
    for (u32 j = 0; j < EACH; ++j) {
        sum += (double)weight(x[j] - reference);
    }
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) {
        sum += __shfl_down_sync(0xFFFFFFFFu, sum, d);
    }
    part.sum = __shfl_sync(0xFFFFFFFFu, sum, 0);
    part.top = top;
    part.wrong = warp_or(wrong);
    return part;
}

// ---- weighing -------------------------------------------------------------------------------------

template <typename E>
__device__ __forceinline__ void weigh_rows(ROW_PARAMETERS_OF_T, const u64* __restrict__ floors,
                                           BlockPart* __restrict__ parts)
{
    const u32 blocks = (vocab + BLOCK - 1u) / BLOCK;
    const u32 warp = blockIdx.x * WEIGH_WARPS + (threadIdx.x >> 5);
    for (u32 r = blockIdx.y; r < rows; r += gridDim.y) {
        ScaledRow<E> row;
        const bool known = scaled_row<E>(logits, row_indices, mask, seen_starts, seen_tokens,
                                         seen_counts, stride, r, logits_rows, mask_words, row);
        const AskedRow p = asked[r];
        const u64 floor = floors == nullptr ? 0 : floors[r];
        for (u32 b = warp; b < blocks; b += gridDim.x * WEIGH_WARPS) {
            BlockPart part = {0.0, neg_infinity(), STATUS_INDEX};
            if (known) {
                part = weigh_block(row, p, b, vocab, floor);
            }
            if ((threadIdx.x & 31u) == 0u) {
                parts[(u64)r * blocks + b] = part;
            }
        }
    }
}

#define WEIGH(NAME, E)                                                                             \
    extern "C" __global__ void __launch_bounds__(WEIGH_THREADS)                                    \
        NAME(ROW_PARAMETERS(E), const u64* __restrict__ floors, BlockPart* __restrict__ parts)     \
    {                                                                                              \
        weigh_rows<E>(ROW_ARGUMENTS, floors, parts);                                               \
    }
WEIGH(cdf_weigh_f32, F32)
WEIGH(cdf_weigh_f16, F16)
WEIGH(cdf_weigh_bf16, Bf16)

// ---- drawing --------------------------------------------------------------------------------------

// Largest top of a row's blocks, and what went wrong in any.
__device__ __forceinline__ float row_max(const BlockPart* __restrict__ parts, u32 blocks,
                                         u32& wrong)
{
    float max = neg_infinity();
    u32 flags = 0u;
    for (u32 b = threadIdx.x & 31u; b < blocks; b += 32u) {
        max = parts[b].top > max ? parts[b].top : max;
        flags |= parts[b].wrong;
    }
    wrong = warp_or(flags);
    return warp_max(max);
}

// The mass of block b relative to the row's maximum; 0 beyond the last block.
__device__ __forceinline__ double mass_of(const BlockPart* __restrict__ parts, u32 b, u32 blocks,
                                          float max)
{
    return b < blocks ? parts[b].sum * (double)weight(parts[b].top - max) : 0.0;
}

// Sum of the masses in the order of the blocks, by one warp; all lanes get it.
__device__ __forceinline__ double row_total(const BlockPart* __restrict__ parts, u32 blocks,
                                            float max)
{
    double total = 0.0;
    for (u32 from = 0; from < blocks; from += 32u) {
        const double mass = mass_of(parts, from + (threadIdx.x & 31u), blocks, max);
#pragma unroll 1
        for (int l = 0; l < 32; ++l) {
            total += __shfl_sync(0xFFFFFFFFu, mass, l);  // beyond the last block: + 0
        }
    }
    return total;
}

// Natural logarithm of x > 0, to f32's precision.
__device__ __forceinline__ float ln_of(double x) { return ln_positive((float)x); }

template <typename E>
__device__ __forceinline__ void pick_rows(ROW_PARAMETERS_OF_T, const u64* __restrict__ floors,
                                          const BlockPart* __restrict__ all_parts,
                                          int* __restrict__ tokens, float* __restrict__ log_probs,
                                          u32* __restrict__ status)
{
    const u32 lane = threadIdx.x & 31u;
    const u32 blocks = (vocab + BLOCK - 1u) / BLOCK;
    for (u32 r = blockIdx.x; r < rows; r += gridDim.x) {
        const BlockPart* parts = all_parts + (u64)r * blocks;
        ScaledRow<E> row;
        const bool known = scaled_row<E>(logits, row_indices, mask, seen_starts, seen_tokens,
                                         seen_counts, stride, r, logits_rows, mask_words, row);
        const AskedRow p = asked[r];
        const u64 floor = floors == nullptr ? 0 : floors[r];
        u32 wrong = 0u;
        const float max = row_max(parts, blocks, wrong);
        wrong |= known ? 0u : STATUS_INDEX;
        const u32 state = row_status(wrong, max == neg_infinity());
        if (state != 0u) {
            if (lane == 0u) {
                tokens[r] = -1;
                log_probs[r] = neg_infinity();
                status[r] = state;
            }
            continue;
        }
        const double total = row_total(parts, blocks, max);
        const double target = uniform(p.seed, p.index, p.branch, PURPOSE_CDF, 0u) * total;

        // The block: greedy rows want the first that holds the maximum, others the first that crosses the
        // target, or the last with mass where rounding kept all of them below it.
        u32 block = 0u;
        bool crosses = false;
        double before = 0.0;
        for (u32 from = 0; from < blocks && !crosses; from += 32u) {
            const u32 b = from + lane;
            const double mass = mass_of(parts, b, blocks, max);
            if (p.factor == 0.0f) {
                const u32 hits = __ballot_sync(0xFFFFFFFFu, b < blocks && parts[b].top == max);
                crosses = hits != 0u;
                block = crosses ? from + (u32)__ffs((int)hits) - 1u : block;
                continue;
            }
#pragma unroll 1
            for (int l = 0; l < 32; ++l) {
                const double m = __shfl_sync(0xFFFFFFFFu, mass, l);
                if (m > 0.0 && !crosses) {
                    block = from + (u32)l;
                    crosses = before + m > target;
                    before = crosses ? before : before + m;
                }
            }
        }

        float x[EACH];
        load_block(row, p, block, vocab, floor, x, wrong);
        const float top = parts[block].top;
        const double factor = (double)weight(top - max);
        int chosen = -1;
        float chosen_x = neg_infinity();
        double cumulative = before;
        bool done = false;
#pragma unroll
        for (u32 j = 0; j < EACH; ++j) {
            const float w = weight(x[j] - top);
#pragma unroll 1
            for (int l = 0; l < 32; ++l) {
                const float wl = __shfl_sync(0xFFFFFFFFu, w, l);
                const float xl = __shfl_sync(0xFFFFFFFFu, x[j], l);
                const int token = (int)(block * BLOCK + j * 32u) + l;
                if (p.factor == 0.0f) {
                    if (!done && xl == max) {
                        chosen = token;
                        chosen_x = xl;
                        done = true;
                    }
                } else if (!done && wl > 0.0f) {
                    chosen = token;
                    chosen_x = xl;
                    cumulative += (double)wl * factor;
                    // Where no block crosses, the last token with weight is the answer.
                    done = crosses && cumulative > target;
                }
            }
        }
        if (lane == 0u) {
            tokens[r] = chosen;
            log_probs[r] = p.factor == 0.0f ? 0.0f : (chosen_x - max) - ln_of(total);
            status[r] = 0u;
        }
    }
}

#define PICK(NAME, E)                                                                              \
    extern "C" __global__ void __launch_bounds__(32)                                               \
        NAME(ROW_PARAMETERS(E), const u64* __restrict__ floors,                                    \
             const BlockPart* __restrict__ parts, int* __restrict__ tokens,                        \
             float* __restrict__ log_probs, u32* __restrict__ status)                              \
    {                                                                                              \
        pick_rows<E>(ROW_ARGUMENTS, floors, parts, tokens, log_probs, status);                     \
    }
PICK(cdf_pick_f32, F32)
PICK(cdf_pick_f16, F16)
PICK(cdf_pick_bf16, Bf16)

// ---- the log-probability of tokens that were chosen otherwise ---------------------------------------

// One warp a row; -inf where the token is negative, beyond the row or removed.
template <typename E>
__device__ __forceinline__ void score_rows(ROW_PARAMETERS_OF_T, const u64* __restrict__ floors,
                                           const BlockPart* __restrict__ all_parts,
                                           const int* __restrict__ tokens,
                                           float* __restrict__ log_probs)
{
    const u32 blocks = (vocab + BLOCK - 1u) / BLOCK;
    for (u32 r = blockIdx.x; r < rows; r += gridDim.x) {
        const BlockPart* parts = all_parts + (u64)r * blocks;
        ScaledRow<E> row;
        const bool known = scaled_row<E>(logits, row_indices, mask, seen_starts, seen_tokens,
                                         seen_counts, stride, r, logits_rows, mask_words, row);
        const AskedRow p = asked[r];
        const u64 floor = floors == nullptr ? 0 : floors[r];
        u32 wrong = 0u;
        const float max = row_max(parts, blocks, wrong);
        const double total = row_total(parts, blocks, max);
        if ((threadIdx.x & 31u) == 0u) {
            const u32 token = (u32)tokens[r];
            float x = neg_infinity();
            if (known && wrong == 0u && token < vocab) {
                x = row.at(token, p, wrong);
                x = floor != 0 && pack(x, token) < floor ? neg_infinity() : x;
            }
            const float ln = p.factor == 0.0f ? 0.0f : (x - max) - ln_of(total);
            log_probs[r] = x > neg_infinity() && (p.factor != 0.0f || x == max) ? ln : neg_infinity();
        }
    }
}

#define SCORE(NAME, E)                                                                             \
    extern "C" __global__ void __launch_bounds__(32)                                               \
        NAME(ROW_PARAMETERS(E), const u64* __restrict__ floors,                                    \
             const BlockPart* __restrict__ parts, const int* __restrict__ tokens,                  \
             float* __restrict__ log_probs)                                                        \
    {                                                                                              \
        score_rows<E>(ROW_ARGUMENTS, floors, parts, tokens, log_probs);                            \
    }
SCORE(cdf_score_f32, F32)
SCORE(cdf_score_f16, F16)
SCORE(cdf_score_bf16, Bf16)

// ---- truncation -----------------------------------------------------------------------------------

// Bits of the order, 11 at a time from the top: three digits of the logit, three of the token.
__device__ __forceinline__ u32 digit_shift(u32 d)
{
    const u32 shifts[6] = {53u, 42u, 32u, 21u, 10u, 0u};
    return shifts[d];
}
__device__ __forceinline__ u32 digit_bits(u32 d) { return d == 2u || d == 5u ? 10u : 11u; }

// The largest word F with sum over words >= F of (masses ? fixed weight : 1) >= target, digits `digits` deep: lower
// bits of F are 0, so that equals at that depth are all in. 0 where all words together stay below the target.
// Only words from `least` on count. The whole block works; `counts` are BINS words of shared memory.
template <typename E>
__device__ __noinline__ u64 select(const ScaledRow<E>& row, const AskedRow& p, u32 vocab,
                                      u64 least, bool masses, float max, u64 target, u32 digits,
                                      u64* counts, u64* found)
{
    u64 prefix = 0;
    u32 wrong = 0u;
#pragma unroll 1
    for (u32 d = 0; d < digits; ++d) {
        const u32 shift = digit_shift(d), bits = digit_bits(d);
        for (u32 i = threadIdx.x; i < BINS; i += FLOOR_THREADS) {
            counts[i] = 0;
        }
        __syncthreads();
#pragma unroll 4
        for (u32 token = threadIdx.x; token < vocab; token += FLOOR_THREADS) {
            const float x = row.at(token, p, wrong);
            if (!(x > neg_infinity())) {
                continue;
            }
            const u64 word = pack(x, token);
            const bool inside = d == 0u || (word >> (shift + bits)) == prefix;
            if (word >= least && inside) {
                const u64 mass =
                    masses ? (u64)((double)exp_neg((x + 0.0f) - max) * FIXED) : 1ull;
                atomicAdd(&counts[(u32)(word >> shift) & ((1u << bits) - 1u)], mass);
            }
        }
        __syncthreads();
        if (threadIdx.x == 0u) {
            u64 sum = 0;
            int bin = (int)(1u << bits) - 1;
            while (bin >= 0 && sum + counts[bin] < target) {
                sum += counts[bin];
                --bin;
            }
            found[0] = bin < 0 ? ~0ull : (u64)bin;
            found[1] = sum;
        }
        __syncthreads();
        // Two barriers stand between this read and the next write.
        const u64 bin = found[0], above = found[1];
        if (bin == ~0ull) {
            return 0;
        }
        prefix = (prefix << bits) | bin;
        target -= above;
    }
    return prefix << digit_shift(digits - 1u);
}

template <typename E>
__device__ __forceinline__ void floor_rows(ROW_PARAMETERS_OF_T, BlockPart* __restrict__ all_parts,
                                           u64* __restrict__ floors)
{
    __shared__ u64 counts[BINS];
    __shared__ u64 found[2];
    __shared__ float tops[FLOOR_WARPS];
    __shared__ double sum_of_row;
    const u32 blocks = (vocab + BLOCK - 1u) / BLOCK, warp = threadIdx.x >> 5;

    for (u32 r = blockIdx.x; r < rows; r += gridDim.x) {
        BlockPart* parts = all_parts + (u64)r * blocks;
        ScaledRow<E> row;
        const bool known = scaled_row<E>(logits, row_indices, mask, seen_starts, seen_tokens,
                                         seen_counts, stride, r, logits_rows, mask_words, row);
        const AskedRow p = asked[r];
        u64 floor = 0;
        // An unsound row keeps floor 0 here or any other: cdf_pick refuses it. Greedy rows keep their best.
        if (known && p.factor != 0.0f &&
            (p.top_k != 0u || p.top_p < 1.0f || p.ln_min_p > neg_infinity())) {
            u32 wrong = 0u;
            float max = neg_infinity();
            for (u32 token = threadIdx.x; token < vocab; token += FLOOR_THREADS) {
                const float x = row.at(token, p, wrong);
                max = x > max ? x : max;
            }
            max = warp_max(max);
            if ((threadIdx.x & 31u) == 0u) {
                tops[warp] = max;
            }
            __syncthreads();
            for (u32 w = 0; w < FLOOR_WARPS; ++w) {
                max = tops[w] > max ? tops[w] : max;
            }
            __syncthreads();  // read before the next row writes
            if (max > neg_infinity() && !is_bad(max)) {
                if (p.top_k != 0u && p.top_k < vocab) {
                    floor = select(row, p, vocab, 0, false, max, p.top_k, 3u, counts, found);
                }
                if (p.top_p < 1.0f) {
                    for (u32 b = warp; b < blocks; b += FLOOR_WARPS) {
                        const BlockPart part = weigh_block(row, p, b, vocab, floor);
                        if ((threadIdx.x & 31u) == 0u) {
                            parts[b] = part;
                        }
                    }
                    __syncthreads();
                    if (warp == 0u) {
                        const double total = row_total(parts, blocks, max);
                        if (threadIdx.x == 0u) {
                            sum_of_row = total;
                        }
                    }
                    __syncthreads();
                    const double wanted = (double)(p.top_p > 0.0f ? p.top_p : 0.0f) * sum_of_row * FIXED;
                    u64 target = (u64)wanted;
                    target += (double)target < wanted ? 1ull : 0ull;  // ceil
                    target = target == 0 ? 1ull : target;
                    float depth = max - REACH;
                    depth = depth > -MAX_FLOAT ? depth : -MAX_FLOAT;
                    const u64 reach = pack(depth, 0xFFFFFFFFu);
                    const u64 least = max64(floor, reach);
                    floor = max64(floor, select(row, p, vocab, least, true, max, target, 6u, counts, found));
                    __syncthreads();  // sum_of_row is read before the next row writes it
                }
                if (p.ln_min_p > neg_infinity()) {
                    float least = max + p.ln_min_p;
                    least = least > -MAX_FLOAT ? least : -MAX_FLOAT;
                    least = least < max ? least : max;
                    floor = max64(floor, pack(least, 0xFFFFFFFFu));
                }
            }
        }
        if (threadIdx.x == 0u) {
            floors[r] = floor;
        }
    }
}

#define FLOOR(NAME, E)                                                                             \
    extern "C" __global__ void __launch_bounds__(FLOOR_THREADS)                                    \
        NAME(ROW_PARAMETERS(E), BlockPart* __restrict__ parts, u64* __restrict__ floors)           \
    {                                                                                              \
        floor_rows<E>(ROW_ARGUMENTS, parts, floors);                                               \
    }
FLOOR(cdf_floor_f32, F32)
FLOOR(cdf_floor_f16, F16)
FLOOR(cdf_floor_bf16, Bf16)
