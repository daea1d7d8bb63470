// Draft trees on the device: the walk that verifies them from one sampled id a node, and the mask that the
// host's attention needs. Trees are CSR: request b owns nodes cu_nodes[b] .. cu_nodes[b + 1], parents are local
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

// tokens_out: the accepted drafts and one more. kv_gather: the nodes whose cache entries stay, node 0 first.
// counts: accepted drafts; -1 with status where the walk met a row that was not sampled.
extern "C" __global__ void __launch_bounds__(32)
    tree_walk(const int* __restrict__ tokens, const int* __restrict__ parents,
              const int* __restrict__ cu_nodes, const int* __restrict__ sampled,
              int* __restrict__ tokens_out, int* __restrict__ kv_gather, int* __restrict__ counts,
              u32* __restrict__ status, u32 requests)
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
