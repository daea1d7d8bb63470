// Writes minus infinity into every logit that a packed token mask forbids, in place.
//
// Mask row r is `mask_words` words; token t is bit t & 31 of word t >> 5, 1 = allowed. It applies
// to logits row row_indices[r], or to row r where row_indices is null. Logits are `vocab` wide and
// `stride` elements apart; what lies between vocab and stride is never touched. Tokens beyond the
// mask are forbidden. CPU twin: trivium_core::mask::apply, equal bit for bit.
//
// Idea: one thread owns the 16 bytes of logits that one store instruction can write (4 f32 or 8
// half-sized logits), so a warp writes whole cache lines. Logits are never read; the only read is
// the mask word, which 8 (4) neighbouring threads share and the cache serves once. Nothing is
// written where every bit is 1, one 16-byte store where every bit is 0 and the row is aligned, single
// elements elsewhere. Threads never communicate: no shared memory, no barrier.
//
// Invariants:
// * 16 / sizeof(T) divides 32, so one thread's logits never straddle two mask words;
// * distinct mask rows must address distinct logits rows (the caller's promise);
// * a row index outside [0, logits_rows) is skipped: indices live on the device, where the host
//   cannot look at them without waiting, and a stray one must not become a stray store;
// * vocab < 2^31 and the launch has at most 2^30 threads along x, so no 32-bit sum wraps.
//
// No header is included: the three logit types are handled as bit patterns.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

// Minus infinity of T, once for a single store and once as 32 bits for a 16-byte one.
template <typename T, T NEG_INF, u32 NEG_INF_WORD>
__device__ __forceinline__ void apply_mask_rows(T* __restrict__ logits,
                                                const u32* __restrict__ mask,
                                                const int* __restrict__ row_indices, u32 rows,
                                                u32 vocab, u64 stride, u32 logits_rows,
                                                u32 mask_words)
{
    constexpr u32 PER = 16 / sizeof(T);
    constexpr u32 ALL = (1u << PER) - 1u;
    const u32 chunks = (vocab + PER - 1u) / PER;
    const uint4 forbidden = make_uint4(NEG_INF_WORD, NEG_INF_WORD, NEG_INF_WORD, NEG_INF_WORD);

    for (u32 r = blockIdx.y; r < rows; r += gridDim.y) {
        u32 target = r;
        if (row_indices != nullptr) {
            target = (u32)row_indices[r];  // a negative index wraps above logits_rows
        }
        if (target >= logits_rows) {
            continue;
        }
        T* row = logits + (u64)target * stride;
        const u32* words = mask + (u64)r * mask_words;
        const bool aligned = ((u64)row & 15u) == 0;

        for (u32 c = blockIdx.x * blockDim.x + threadIdx.x; c < chunks;
             c += gridDim.x * blockDim.x) {
            const u32 first = c * PER;
            const u32 w = first >> 5;
            const u32 word = w < mask_words ? words[w] : 0u;
            const u32 allowed = (word >> (first & 31u)) & ALL;
            if (allowed == ALL) {
                continue;
            }
            const u32 count = vocab - first < PER ? vocab - first : PER;
            if (allowed == 0u && count == PER && aligned) {
                *(uint4*)(row + first) = forbidden;
                continue;
            }
#pragma unroll
            for (u32 i = 0; i < PER; ++i) {
                if (i < count && ((allowed >> i) & 1u) == 0u) {
                    row[first + i] = NEG_INF;
                }
            }
        }
    }
}

// One entry a logit type; all take the same eight parameters (cuda/src/apply_mask.rs packs them).
#define APPLY_MASK(NAME, T, NEG_INF, NEG_INF_WORD)                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                              \
        NAME(T* __restrict__ logits, const u32* __restrict__ mask,                                 \
             const int* __restrict__ row_indices, u32 rows, u32 vocab, u64 stride,                 \
             u32 logits_rows, u32 mask_words)                                                      \
    {                                                                                              \
        apply_mask_rows<T, NEG_INF, NEG_INF_WORD>(logits, mask, row_indices, rows, vocab, stride,  \
                                                  logits_rows, mask_words);                        \
    }

APPLY_MASK(apply_mask_f32, u32, 0xFF800000u, 0xFF800000u)
APPLY_MASK(apply_mask_f16, u16, 0xFC00u, 0xFC00FC00u)
APPLY_MASK(apply_mask_bf16, u16, 0xFF80u, 0xFF80FF80u)
