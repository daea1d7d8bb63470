// Verification of drafted chains against the law they were drawn from: token by token, or the whole block.
//
//     token   accept x_i with probability p_i(x_i) / q_i(x_i); the first that fails is replaced by a draw from (p_i - q_i)+
//     block   P_i = min(1, P_{i-1} p(x_i) / q(x_i)), Z_i = sum (P_i p - q)+ over the row behind i drafts,
//             h_i = Z_i / (Z_i + 1 - P_i); keep the longest i that passes a test of h_i; the next token is a draw from
//             (P_i p - q)+
//
// Twins: the verifiers `token` and `block` of trivium_spec. Tests, residual draws and their noise are the same in the
// same order; sums of a row are of blocks of 256 tokens in order, so they differ from the CPU's in the last bits of
// f64 and a decision only where its uniform lies that near to a boundary. The residual is drawn by inverse CDF with the
// counter-addressed scalar of purpose 3, as on the CPU: one number a draw, and the host's tokens.
//
// Idea: one thread block a request walks its chain. A row is read for its largest logit, then for the sum of its
// weights (both from L2 the second time); a warp weighs 256 tokens as in cdf.cu. `block` adds one read of p and q for
// Z_i, and only where the first test, of P_i, passed and P_i < 1. The row where the walk stops is read once more for
// the residual, and 256 tokens of it again. The target's own draw, for the token behind a chain and for a residual
// without mass, comes from the launches before (cdf.cu, race.cu).
//
// Invariants:
// * control flow is the same in all threads: it depends on shared memory and on kernel parameters only;
// * a request's nodes are a chain in order: node i + 1 is the child of node i (the caller's promise);
// * outputs of a request begin at cu_nodes[b], and are written by thread 0 alone.
#include "asked.cuh"

constexpr u32 BLOCK = 256u;
constexpr u32 EACH = BLOCK / 32u;
constexpr u32 THREADS = 256u;
constexpr u32 WARPS = THREADS / 32u;
static_assert(THREADS == BLOCK, "a thread weighs a token of the block that is drawn from");
constexpr double LAW_TOLERANCE = 1e-3;

constexpr u32 RULE_BLOCK = 1u;  // else token by token

// What a walk met, besides the bits of rows.cuh.
constexpr u32 STATUS_Q = 16u;     // a row of q is no law
constexpr u32 STATUS_MASS = 32u;  // a drafted token has no mass under q
constexpr u32 STATUS_TARGET = 64u;  // the target's own draw was asked for, and there is none

// One row of the target with its law: p(t) = weight * scale.
template <typename E> struct Law {
    ScaledRow<E> row;
    AskedRow p;
    u64 floor;
    float max;
    u32 argmax;
    double scale;
    float ln_total;

    // The mask stands here and not in the row, and is read without a branch of its own: the compiler places the minus
    // infinity of two ways to be forbidden by chance, and the PTX must be the same at every build.
    const u32* mask;
    u32 mask_words;

    __device__ __forceinline__ float at(u32 token, u32& wrong) const
    {
        const u32 w = token >> 5;
        u32 word = 0xFFFFFFFFu;
        if (mask != nullptr) {
            word = w < mask_words ? mask[w] : 0u;
        }
        const bool allowed = ((word >> (token & 31u)) & 1u) != 0u;
        const float x = allowed ? row.at(token, p, wrong) : neg_infinity();
        return floor != 0 && x > neg_infinity() && pack(x, token) < floor ? neg_infinity() : x;
    }
    __device__ __forceinline__ float mass(u32 token) const
    {
        u32 unused = 0u;
        if (p.factor == 0.0f) {
            return token == argmax ? 1.0f : 0.0f;
        }
        return weight(at(token, unused) - max);
    }
    // ln p(t); of a token with mass.
    __device__ __forceinline__ float log_prob(u32 token) const
    {
        u32 unused = 0u;
        return p.factor == 0.0f ? 0.0f : (at(token, unused) - max) - ln_total;
    }
};

// What threads of a block share.
struct Shared {
    u64 tops[WARPS];
    u32 flags[WARPS];
    double total;
    double weights[BLOCK];
};

// Sums `term(token)` over the row: blocks of 256 by warps, the blocks in order by thread 0. All threads get the total.
template <typename Term>
__device__ __forceinline__ double row_sum(Shared& shared, double* sums, u32 vocab, Term term)
{
    const u32 lane = threadIdx.x & 31u, blocks = (vocab + BLOCK - 1u) / BLOCK;
    for (u32 b = threadIdx.x >> 5; b < blocks; b += WARPS) {
        double sum = 0.0;
#pragma unroll
        for (u32 j = 0; j < EACH; ++j) {
            const u32 token = b * BLOCK + j * 32u + lane;
            sum += token < vocab ? term(token) : 0.0;
        }
#pragma unroll
        for (int d = 16; d > 0; d >>= 1) {
            sum += __shfl_down_sync(0xFFFFFFFFu, sum, d);
        }
        if (lane == 0u) {
            sums[b] = sum;
        }
    }
    __syncthreads();
    if (threadIdx.x == 0u) {
        double total = 0.0;
        for (u32 b = 0; b < blocks; ++b) {
            total += sums[b];
        }
        shared.total = total;
    }
    __syncthreads();
    // The next sum writes behind a barrier of its own.
    return shared.total;
}

// Loads row r: its largest logit and the sum of its weights; false where it is no law.
template <typename E>
__device__ __forceinline__ bool load_law(Shared& shared, double* sums, Law<E>& law, bool known,
                                         u32 vocab, u32& status)
{
    u64 best = 0;
    u32 wrong = known ? 0u : STATUS_INDEX;
    for (u32 token = threadIdx.x; known && token < vocab; token += THREADS) {
        const float x = law.at(token, wrong);
        best = x > neg_infinity() ? max64(best, pack(x, token)) : best;
    }
    best = warp_max(best);
    wrong = warp_or(wrong);
    if ((threadIdx.x & 31u) == 0u) {
        shared.tops[threadIdx.x >> 5] = best;
        shared.flags[threadIdx.x >> 5] = wrong;
    }
    __syncthreads();
    for (u32 w = 0; w < WARPS; ++w) {
        best = max64(best, shared.tops[w]);
        wrong |= shared.flags[w];
    }
    __syncthreads();  // read before the next row writes
    status |= row_status(wrong, best == 0);
    if (status != 0u) {
        return false;
    }
    law.max = packed_key(best);
    law.argmax = packed_token(best);
    const double total =
        row_sum(shared, sums, vocab, [&](u32 token) { return (double)law.mass(token); });
    law.scale = 1.0 / total;
    law.ln_total = ln_positive((float)total);
    return true;
}

// 1 / sum of a row that claims to be a law; false where it is none.
__device__ __forceinline__ bool load_q(Shared& shared, double* sums, const float* __restrict__ q,
                                       u32 vocab, double& scale, u32& status)
{
    // A negative or infinite entry spoils the sum, as NaN does.
    const double bad = (double)__uint_as_float(0x7FC00000u);
    const double total = row_sum(shared, sums, vocab, [&](u32 token) {
        const float w = q[token];
        return w >= 0.0f && w < pos_infinity() ? (double)w : bad;
    });
    const double off = total - 1.0;
    if (!(off <= LAW_TOLERANCE && -off <= LAW_TOLERANCE)) {
        status |= STATUS_Q;
        return false;
    }
    scale = 1.0 / total;
    return true;
}

__device__ __forceinline__ double excess(float p, double a, float q, double b)
{
    const double x = (double)p * a - (double)q * b;
    return x > 0.0 ? x : 0.0;
}

// A draw from (a p - q)+; vocab where it has no mass. `a` and `b` carry the scales.
template <typename E>
__device__ __forceinline__ u32 draw_excess(Shared& shared, double* sums, const Law<E>& law,
                                           double a, const float* __restrict__ q, double b,
                                           u32 vocab)
{
    const double total = row_sum(shared, sums, vocab, [&](u32 token) {
        return excess(law.mass(token), a, q[token], b);
    });
    if (!(total > 0.0)) {
        return vocab;
    }
    const u32 blocks = (vocab + BLOCK - 1u) / BLOCK;
    const double target =
        uniform(law.p.seed, law.p.index, law.p.branch, PURPOSE_RESIDUAL, 0u) * total;
    // The first block that crosses the target, or the last with mass where rounding kept all of them below it. Every
    // thread finds the same one.
    u32 block = 0u;
    double before = 0.0, kept = 0.0;
    for (u32 i = 0; i < blocks; ++i) {
        const double sum = sums[i];
        if (sum > 0.0) {
            block = i;
            kept = before;
            if (before + sum > target) {
                break;
            }
            before += sum;
        }
    }
    const u32 mine = block * BLOCK + threadIdx.x;
    shared.weights[threadIdx.x] = mine < vocab ? excess(law.mass(mine), a, q[mine], b) : 0.0;
    __syncthreads();
    double cumulative = kept;
    u32 last = vocab;
    for (u32 i = 0; i < BLOCK; ++i) {
        const double w = shared.weights[i];
        if (w > 0.0) {
            cumulative += w;
            last = block * BLOCK + i;
            if (cumulative > target) {
                break;
            }
        }
    }
    __syncthreads();  // read before the next draw writes
    return last;
}

#define CHAIN_PARAMETERS                                                                           \
    const u64 *__restrict__ floors, const float *__restrict__ q, u64 q_stride,                     \
        const int *__restrict__ tokens, const int *__restrict__ cu_nodes,                          \
        const int *__restrict__ targets, const float *__restrict__ target_log_probs,               \
        double *__restrict__ all_sums, int *__restrict__ tokens_out,                               \
        float *__restrict__ log_probs_out, int *__restrict__ counts, u32 *__restrict__ status,     \
        u32 requests, u32 rule
#define CHAIN_ARGUMENTS                                                                            \
    floors, q, q_stride, tokens, cu_nodes, targets, target_log_probs, all_sums, tokens_out,        \
        log_probs_out, counts, status, requests, rule

template <typename E>
__device__ __forceinline__ void reject_chains(ROW_PARAMETERS_OF_T, CHAIN_PARAMETERS)
{
    __shared__ Shared shared;
    const u32 blocks = (vocab + BLOCK - 1u) / BLOCK;
    double* sums = all_sums + (u64)blockIdx.x * blocks;
    for (u32 b = blockIdx.x; b < requests; b += gridDim.x) {
        const u32 first = (u32)cu_nodes[b], nodes = (u32)cu_nodes[b + 1u] - first;
        const u32 drafts = nodes == 0u ? 0u : nodes - 1u;
        u32 state = nodes == 0u ? STATUS_INDEX : 0u;
        u32 tau = 0u, seen = 0u, draws = 0u;
        double weight_of_path = 1.0, kept = 1.0;
        bool stopped = false;
        Law<E> law;
        double q_scale = 0.0;

        // Row i of the request, and the row that draft i + 1 was drawn from.
        const auto load = [&](u32 i) -> const float* {
            const u32 r = first + i;
            const bool known = scaled_row<E>(logits, row_indices, mask, seen_starts, seen_tokens,
                                             seen_counts, stride, r, logits_rows, mask_words,
                                             law.row) && r < rows;
            law.mask = law.row.mask;
            law.mask_words = mask_words;
            law.row.mask = nullptr;
            law.p = asked[r];
            law.floor = floors == nullptr ? 0 : floors[r];
            const float* row = q + (u64)r * q_stride;
            if (!load_law(shared, sums, law, known, vocab, state) ||
                !load_q(shared, sums, row, vocab, q_scale, state)) {
                return nullptr;
            }
            return row;
        };
        // Tests of a block read the noise of the first undecided position, counting up.
        const AskedRow start = asked[first];
        const auto accept = [&](double num, double den) {
            if (den <= 0.0) {
                return true;
            }
            const double u = uniform(start.seed, start.index, start.branch, PURPOSE_ACCEPT, draws);
            ++draws;
            return u * den < num;
        };

        for (u32 i = 0; i < drafts && !stopped; ++i) {
            const float* row = load(i);
            if (row == nullptr) {
                break;
            }
            if (rule == RULE_BLOCK && i > 0u) {
                bool keep = weight_of_path >= 1.0;
                if (!keep && accept(weight_of_path, 1.0)) {
                    const double z = row_sum(shared, sums, vocab, [&](u32 token) {
                        return excess(law.mass(token), weight_of_path * law.scale, row[token], q_scale);
                    });
                    keep = accept(z, (z + (1.0 - weight_of_path)) * weight_of_path);
                }
                if (keep) {
                    tau = i;
                    kept = weight_of_path;
                }
            }
            const u32 x = (u32)tokens[first + i + 1u];
            const float qx = x < vocab ? row[x] : 0.0f;
            if (!(qx > 0.0f)) {
                state |= STATUS_MASS;
                break;
            }
            const double px = (double)law.mass(x) * law.scale, qd = (double)qx * q_scale;
            if (threadIdx.x == 0u) {
                tokens_out[first + i] = (int)x;
                log_probs_out[first + i] = px > 0.0 ? law.log_prob(x) : neg_infinity();
            }
            if (rule == RULE_BLOCK) {
                const double grown = weight_of_path * (px / qd);
                weight_of_path = grown < 1.0 ? grown : 1.0;
                ++seen;
                stopped = weight_of_path <= 0.0;
                continue;
            }
            const double u =
                uniform(law.p.seed, law.p.index, law.p.branch, PURPOSE_ACCEPT, 0u);
            stopped = !(u * qd < px);
            tau = stopped ? tau : i + 1u;
        }
        if (rule == RULE_BLOCK && state == 0u && drafts > 0u && seen == drafts && !stopped &&
            accept(weight_of_path, 1.0)) {
            tau = drafts;
            kept = weight_of_path;
        }
        // The token behind what was kept.
        u32 last = vocab;
        float log_prob = 0.0f;
        if (state == 0u && tau < drafts) {
            const float* row = load(tau);
            if (row != nullptr) {
                last = draw_excess(shared, sums, law, kept * law.scale, row, q_scale, vocab);
                if (last < vocab) {
                    log_prob = law.log_prob(last);
                }
            }
        }
        if (threadIdx.x == 0u) {
            if (state == 0u && last >= vocab) {
                last = (u32)targets[first + tau];
                log_prob = target_log_probs[first + tau];
                state |= last < vocab ? 0u : STATUS_TARGET;
            }
            if (nodes > 0u) {
                tokens_out[first + tau] = state == 0u ? (int)last : -1;
                log_probs_out[first + tau] = state == 0u ? log_prob : neg_infinity();
            }
            counts[b] = state == 0u ? (int)tau : -1;
            status[b] = state;
        }
    }
}

#define REJECT(NAME, E)                                                                            \
    extern "C" __global__ void __launch_bounds__(THREADS)                                          \
        NAME(ROW_PARAMETERS(E), CHAIN_PARAMETERS)                                                  \
    {                                                                                              \
        reject_chains<E>(ROW_ARGUMENTS, CHAIN_ARGUMENTS);                                          \
    }
REJECT(reject_chains_f32, F32)
REJECT(reject_chains_f16, F16)
REJECT(reject_chains_bf16, Bf16)
