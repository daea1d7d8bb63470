// What policies and schedules ask of a row, in one read: largest and second largest logit with their ids,
// ln of the sum of exponentials, entropy. Over z = factor * logit where the mask allows.
//
// Twin: trivium_core::simd::moments and a scan for the two best; ids equal, sums within 1e-5 (below).
//
// Idea: the one-pass softmax. A thread keeps M = max z, S = sum e^(z-M), W = sum (z-M) e^(z-M) and rescales
// when M grows; two such states merge by
//     S = Sa a + Sb b,  W = a (Wa + (Ma - M) Sa) + b (Wb + (Mb - M) Sb),  a = e^(Ma-M), b = e^(Mb-M).
// A thread adds f32 (at most TILE / THREADS = 64 terms of one sign a tile and split: 4e-6 relative), states merge
// in f64. Entropy is ln S - W / S. Order of merging is fixed, so a result is a function of the row and the grid.
//
// Invariants: as in race.cu for tiles, masks and parts; -inf contributes nothing, not even 0 * -inf.
#include "rows.cuh"

constexpr u32 TILE = 16384u;
constexpr u32 THREADS = 256u;
constexpr u32 WARPS = THREADS / 32u;

// Of a part of a row; trivium_cuda::row_stat::PART_BYTES.
struct RowPart {
    double sum;       // S
    double weighted;  // W
    u64 first;        // packed (logit, id), rows.cuh; 0: nothing allowed
    u64 second;
    u64 wrong;        // status bits
};

__device__ __forceinline__ void merge(RowPart& a, const RowPart& b)
{
    const u64 wrong = a.wrong | b.wrong;
    a.wrong = wrong;
    if (b.first == 0) {
        return;
    }
    if (a.first == 0) {
        a = b;
        a.wrong = wrong;
        return;
    }
    const float ma = packed_key(a.first), mb = packed_key(b.first);
    const float m = ma > mb ? ma : mb;
    const double da = (double)(ma - m), db = (double)(mb - m);
    const double ea = (double)exp_neg(ma - m), eb = (double)exp_neg(mb - m);
    // Where the weight is 0, so is the product: the difference may be beyond f32.
    const double wa = ea > 0.0 ? ea * (a.weighted + da * a.sum) : 0.0;
    const double wb = eb > 0.0 ? eb * (b.weighted + db * b.sum) : 0.0;
    a.sum = a.sum * ea + b.sum * eb;
    a.weighted = wa + wb;
    const u64 low = a.first < b.first ? a.first : b.first;
    a.first = max64(a.first, b.first);
    a.second = max64(low, max64(a.second, b.second));
}

template <typename E>
__device__ __forceinline__ void
row_stat_rows(const typename E::Bits* __restrict__ logits, const int* __restrict__ row_indices,
              const u32* __restrict__ mask, const float* __restrict__ factors,
              RowPart* __restrict__ parts, u64 stride, u32 rows, u32 vocab, u32 logits_rows,
              u32 mask_words)
{
    constexpr u32 G = PER<E>;
    __shared__ RowPart warps[WARPS];

    for (u32 r = blockIdx.y; r < rows; r += gridDim.y) {
        const u32 source = row_indices == nullptr ? r : (u32)row_indices[r];
        float max = neg_infinity(), sum = 0.0f, weighted = 0.0f;
        u64 first_two[2] = {0, 0};
        RowPart mine = {0.0, 0.0, 0, 0, 0};
        u32 wrong = 0u;
        if (source < logits_rows) {
            const typename E::Bits* row = logits + (u64)source * stride;
            const u32* allowed_row = mask == nullptr ? nullptr : mask + (u64)r * mask_words;
            const bool aligned = ((u64)row & 15u) == 0u;
            const float factor = factors == nullptr ? 1.0f : factors[r];
            for (u64 tile = (u64)blockIdx.x * TILE; tile < vocab; tile += (u64)gridDim.x * TILE) {
                // f32 within a tile, f64 from tile to tile: the error does not grow with the row.
                max = neg_infinity();
                sum = 0.0f;
                weighted = 0.0f;
                first_two[0] = 0;
                first_two[1] = 0;
                for (u32 g = threadIdx.x * G; g < TILE; g += THREADS * G) {
                    const u32 first = (u32)tile + g;
                    if (first >= vocab) {
                        break;
                    }
                    const u32 count = vocab - first < G ? vocab - first : G;
                    float x[G];
                    load_group<E>(row, first, count, aligned, x);
                    const u32 allowed = load_allowed<E>(allowed_row, mask_words, first);
                    float top = neg_infinity();
#pragma unroll
                    for (u32 i = 0; i < G; ++i) {
                        const bool in = i < count && ((allowed >> i) & 1u) != 0u;
                        x[i] = in ? x[i] : neg_infinity();
                        wrong |= is_bad(x[i]) ? STATUS_BAD : 0u;
                        x[i] = factor == 1.0f ? x[i] : x[i] * factor;
                        wrong |= is_bad(x[i]) ? STATUS_OVERFLOW : 0u;
                        top = x[i] > top ? x[i] : top;
                    }
                    if (top > max) {
                        const float e = exp_neg(max - top);
                        weighted = e > 0.0f ? e * (weighted + (max - top) * sum) : 0.0f;
                        sum *= e;
                        max = top;
                    }
#pragma unroll
                    for (u32 i = 0; i < G; ++i) {
                        if (x[i] > neg_infinity()) {
                            const float d = x[i] - max;
                            const float e = exp_neg(d);
                            sum += e;
                            weighted += e > 0.0f ? e * d : 0.0f;
                            u64 p = pack(x[i], first + i);
                            const u64 low = p < first_two[0] ? p : first_two[0];
                            first_two[0] = max64(p, first_two[0]);
                            first_two[1] = max64(low, first_two[1]);
                        }
                    }
                }
                const RowPart here = {(double)sum, (double)weighted, first_two[0], first_two[1], 0};
                merge(mine, here);
            }
        } else {
            wrong = STATUS_INDEX;
        }
        mine.wrong = warp_or(wrong);
#pragma unroll
        for (int d = 16; d > 0; d >>= 1) {
            RowPart other;
            other.sum = __shfl_down_sync(0xFFFFFFFFu, mine.sum, d);
            other.weighted = __shfl_down_sync(0xFFFFFFFFu, mine.weighted, d);
            other.first = __shfl_down_sync(0xFFFFFFFFu, mine.first, d);
            other.second = __shfl_down_sync(0xFFFFFFFFu, mine.second, d);
            other.wrong = 0;  // every lane has the warp's
            if ((threadIdx.x & 31u) + (u32)d < 32u) {
                merge(mine, other);
            }
        }
        if ((threadIdx.x & 31u) == 0u) {
            warps[threadIdx.x >> 5] = mine;
        }
        __syncthreads();
        if (threadIdx.x == 0u) {
            for (u32 w = 1; w < WARPS; ++w) {
                merge(mine, warps[w]);
            }
            parts[(u64)r * gridDim.x + blockIdx.x] = mine;
        }
        __syncthreads();  // read before the next row writes
    }
}

#define ROW_STAT(NAME, E)                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
        NAME(const E::Bits* __restrict__ logits, const int* __restrict__ row_indices,              \
             const u32* __restrict__ mask, const float* __restrict__ factors,                      \
             RowPart* __restrict__ parts, u64 stride, u32 rows, u32 vocab, u32 logits_rows,        \
             u32 mask_words)                                                                       \
    {                                                                                              \
        row_stat_rows<E>(logits, row_indices, mask, factors, parts, stride, rows, vocab,           \
                         logits_rows, mask_words);                                                 \
    }

ROW_STAT(row_stat_f32, F32)
ROW_STAT(row_stat_f16, F16)
ROW_STAT(row_stat_bf16, Bf16)

// Natural logarithm of x >= 1: the exponent in f64, the mantissa by ln_positive.
__device__ __forceinline__ double ln_from_one(double x)
{
    float scale = 0.0f;
    while (x > 1.0e30) {  // never in practice: a row has fewer tokens
        x *= 1.0e-30;
        scale += 1.0f;
    }
    return (double)ln_positive((float)x) + (double)scale * 69.077552789821370520;
}

// Merges the parts of each row in their order: one thread a row. ids: the two best, -1 where there is none.
// values: z of the two best, ln sum e^(z - max), entropy in nats.
extern "C" __global__ void __launch_bounds__(128)
    row_stat_merge(const RowPart* __restrict__ parts, int* __restrict__ ids,
                   float* __restrict__ values, u32* __restrict__ status, u32 rows, u32 blocks)
{
    for (u32 r = blockIdx.x * blockDim.x + threadIdx.x; r < rows; r += gridDim.x * blockDim.x) {
        RowPart all = {0.0, 0.0, 0, 0, 0};
        for (u32 i = 0; i < blocks; ++i) {
            merge(all, parts[(u64)r * blocks + i]);
        }
        const bool sound = all.wrong == 0;
        status[r] = row_status((u32)all.wrong, all.first == 0);
        const bool one = sound && all.first != 0, two = sound && all.second != 0;
        ids[2u * r] = one ? (int)packed_token(all.first) : -1;
        ids[2u * r + 1u] = two ? (int)packed_token(all.second) : -1;
        const double ln_sum = one ? ln_from_one(all.sum) : 0.0;
        values[4u * r] = one ? packed_key(all.first) : neg_infinity();
        values[4u * r + 1u] = two ? packed_key(all.second) : neg_infinity();
        values[4u * r + 2u] = (float)ln_sum;
        values[4u * r + 3u] = one ? (float)(ln_sum - all.weighted / all.sum) : 0.0f;
    }
}
