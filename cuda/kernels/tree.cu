// Draft trees on the device: the walk that verifies them from one sampled id a node, its answers without gaps, and
// the mask that the host's attention needs. Trees are CSR: request b owns nodes cu_nodes[b] .. cu_nodes[b + 1], parents are local
// to the request, node 0 is the last committed token.
//
// Twins: trivium_spec's sampled-verify walk and TreeBatch::attention_mask, equal in every integer.
//
// Idea: one warp a request walks its tree. At a node the lanes look at 32 nodes at a time for the lowest one
// that is a child and carries the sampled id; a ballot says which. Trees have at most a few hundred nodes, so
// the walk is bound by latency, and requests run side by side.
//
// Invariants:
// * parents are smaller than their children (topological order, checked where batches are made); a walk then
//   only ever looks forward and ends;
// * outputs of a request begin at cu_nodes[b]: a path has at most as many nodes as the tree.
#include "noise.cuh"

// What a walk met; as in rows.cuh, other bits.
constexpr u32 WALK_UNSAMPLED = 1u;  // it came to a row without a sampled id (negative)

// log_probs, which may be null: of each node's sampled id. tokens_out: the accepted drafts and one more. kv_gather: the nodes whose cache entries stay, node 0 first.
// counts: accepted drafts; -1 with status where the walk met a row that was not sampled.
extern "C" __global__ void __launch_bounds__(32)
    tree_walk(const int* __restrict__ tokens, const int* __restrict__ parents,
              const int* __restrict__ cu_nodes, const int* __restrict__ sampled,
              const float* __restrict__ log_probs, int* __restrict__ tokens_out,
              int* __restrict__ kv_gather, float* __restrict__ log_probs_out,
              int* __restrict__ counts, u32* __restrict__ status, u32 requests)
{
    for (u32 b = blockIdx.x; b < requests; b += gridDim.x) {
        const int begin = cu_nodes[b], end = cu_nodes[b + 1u];
        int node = 0, accepted = 0;
        bool sampled_all = end > begin;
        while (sampled_all) {
            const int token = sampled[begin + node];
            if (threadIdx.x == 0u) {
                kv_gather[begin + accepted] = node;
                tokens_out[begin + accepted] = token;
                if (log_probs != nullptr) {
                    log_probs_out[begin + accepted] = log_probs[begin + node];
                }
            }
            if (token < 0) {
                sampled_all = false;
                break;
            }
            int next = -1;
            for (int from = node + 1; from < end - begin; from += 32) {
                const int i = from + (int)threadIdx.x;
                const bool hit =
                    i < end - begin && parents[begin + i] == node && tokens[begin + i] == token;
                const u32 hits = __ballot_sync(0xFFFFFFFFu, hit);
                if (hits != 0u) {
                    next = from + __ffs((int)hits) - 1;
                    break;
                }
            }
            if (next < 0) {
                break;
            }
            node = next;
            ++accepted;
        }
        if (threadIdx.x == 0u) {
            counts[b] = sampled_all ? accepted : -1;
            status[b] = sampled_all ? 0u : WALK_UNSAMPLED;
        }
    }
}

// What the walks left (of tree_walk or reject_chains), packed as the host reads it: offsets of the requests' tokens, then
// tokens, log-probabilities, local nodes and global rows whose cache entries stay, request after request. A request
// without an answer (count -1) has none. One block: offsets by scans of PACK requests, then a warp a request. Null
// outputs are left out; without `gather` node i of a path is i, as in a chain.
constexpr u32 PACK = 256u;

extern "C" __global__ void __launch_bounds__(PACK)
    tree_pack(const int* __restrict__ cu_nodes, const int* __restrict__ counts,
              const int* __restrict__ tokens, const int* __restrict__ gather,
              const float* __restrict__ log_probs, int* __restrict__ cu_tokens,
              int* __restrict__ tokens_out, int* __restrict__ gather_out,
              int* __restrict__ rows_out, float* __restrict__ log_probs_out, u32 requests)
{
    __shared__ u32 sums[PACK / 32u];
    const u32 lane = threadIdx.x & 31u, warp = threadIdx.x >> 5;
    u32 before = 0u;  // tokens of the requests before this round
    if (threadIdx.x == 0u) {
        cu_tokens[0] = 0;
    }
    for (u32 from = 0; from < requests; from += PACK) {
        const u32 b = from + threadIdx.x;
        const u32 mine = b < requests && counts[b] >= 0 ? (u32)counts[b] + 1u : 0u;
        u32 sum = mine;
#pragma unroll
        for (u32 d = 1u; d < 32u; d <<= 1) {
            const u32 other = __shfl_up_sync(0xFFFFFFFFu, sum, d);
            sum += lane >= d ? other : 0u;
        }
        if (lane == 31u) {
            sums[warp] = sum;
        }
        __syncthreads();
        u32 all = 0u;
        for (u32 w = 0; w < PACK / 32u; ++w) {
            sum += w < warp ? sums[w] : 0u;
            all += sums[w];
        }
        if (b < requests) {
            cu_tokens[b + 1u] = (int)(before + sum);
        }
        before += all;
        __syncthreads();  // sums are read before the next round writes them
    }
    for (u32 b = warp; b < requests; b += PACK / 32u) {
        const u32 count = counts[b] >= 0 ? (u32)counts[b] + 1u : 0u;
        const u32 to = (u32)cu_tokens[b], begin = (u32)cu_nodes[b];
        for (u32 i = lane; i < count; i += 32u) {
            const int node = gather == nullptr ? (int)i : gather[begin + i];
            tokens_out[to + i] = tokens[begin + i];
            if (gather_out != nullptr) {
                gather_out[to + i] = node;
            }
            if (rows_out != nullptr) {
                rows_out[to + i] = (int)begin + node;
            }
            if (log_probs_out != nullptr) {
                log_probs_out[to + i] = log_probs[begin + i];
            }
        }
    }
}

// Which nodes each node attends to: its ancestors and itself, a bool of `width` columns a node. One thread a
// node clears its row and climbs.
extern "C" __global__ void __launch_bounds__(128)
    tree_mask(const int* __restrict__ parents, const int* __restrict__ cu_nodes,
              u8* __restrict__ out, u32 requests, u32 width)
{
    for (u32 b = blockIdx.y; b < requests; b += gridDim.y) {
        const u32 begin = (u32)cu_nodes[b], count = (u32)cu_nodes[b + 1u] - begin;
        for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
             i += gridDim.x * blockDim.x) {
            u8* row = out + (u64)(begin + i) * width;
            for (u32 j = 0; j < width; ++j) {
                row[j] = 0;
            }
            int at = (int)i;
            while (at >= 0) {
                if ((u32)at < width) {
                    row[at] = 1;
                }
                const int up = parents[begin + (u32)at];
                at = up < at ? up : -1;  // a tree that is none must not hang the device
            }
        }
    }
}
