// Small kernels that use what apply_mask.cu does not: barriers, shuffles, atomics, shared memory.
// They test the shim: each is right as it stands, and each variant that shim/build.rs makes of it (by
// -D or by replacing a piece of text) has one fault that the shim must name.

#ifdef NO_BARRIER
#define BARRIER()
#else
#define BARRIER() __syncthreads()
#endif
#ifdef NO_SYNCWARP
#define SYNCWARP()
#else
#define SYNCWARP() __syncwarp()
#endif

// out[block] = sum of in over the block, by halving in shared memory. Block of 128 threads.
extern "C" __global__ void block_sum(const unsigned* in, unsigned* out, unsigned n)
{
    __shared__ unsigned part[128];
    const unsigned t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    part[t] = i < n ? in[i] : 0u;
    for (unsigned half = 64; half > 0; half /= 2) {
        BARRIER();
        if (t < half) {
            part[t] += part[t + half];
        }
    }
    if (t == 0) {
        out[blockIdx.x] = part[0];
    }
}

// The same by shuffles; warps meet in shared memory.
extern "C" __global__ void shuffle_sum(const unsigned* in, unsigned* out, unsigned n)
{
    __shared__ unsigned part[4];
    const unsigned t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    unsigned x = i < n ? in[i] : 0u;
    for (int step = 16; step > 0; step /= 2) {
        x += __shfl_xor_sync(0xFFFFFFFFu, x, step);
    }
    if ((t & 31u) == 0u) {
        part[t >> 5] = x;
    }
    BARRIER();
    if (t < 4) {
        x = part[t];
        x += __shfl_down_sync(0xFu, x, 2, 4);
        x += __shfl_down_sync(0xFu, x, 1, 4);
        if (t == 0) {
            out[blockIdx.x] = x;
        }
    }
}

// Each lane hands its word to its neighbour through shared memory; a shuffle between would not do.
extern "C" __global__ void rotate(const unsigned* in, unsigned* out, unsigned n)
{
    __shared__ unsigned slot[128];
    const unsigned t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    slot[t] = i < n ? in[i] : 0u;
    SYNCWARP();
    const unsigned any = __ballot_sync(0xFFFFFFFFu, slot[t] != 0u);
    const unsigned next = slot[(t & ~31u) | ((t + 1u) & 31u)];
    if (i < n) {
        out[i] = any != 0u ? next : 0u;
    }
}

// out[v] = how often v < 8 occurs.
extern "C" __global__ void histogram(const unsigned* in, unsigned* out, unsigned n)
{
    __shared__ unsigned count[8];
    const unsigned t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    if (t < 8) {
        count[t] = 0;
    }
    __syncthreads();
    if (i < n) {
        atomicAdd(&count[in[i] & 7u], 1u);
    }
    __syncthreads();
    if (t < 8) {
        atomicAdd(&out[t], count[t]);
    }
}
