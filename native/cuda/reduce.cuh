// Sums over a block, and the second half of every deterministic sum over rows: kernels leave one partial sum per fixed chunk of rows,
// add_partial_rows() adds them in order. No result depends on when a block runs.
#pragma once
#include "cuda/device.h"
#include "cuda/runtime.h"

namespace polypaca::POLYPACA_CUDA {

/// Sum of v over the block, the same in every thread: within warps first, then over warps in order.
/// per_warp: shared, one place per warp. Two calls with the same place need a barrier (or a call with another) between them.
DEVICE float block_sum(float v, float* per_warp) {
  v = warp_sum(v);
  if (threadIdx.x % kWarp == 0) per_warp[threadIdx.x / kWarp] = v;
  sync_threads();
  float sum = 0.0f;
  for (int i = 0; i < int(blockDim.x) / kWarp; ++i) sum += per_warp[i];
  return sum;
}

/// The same for double, by halves. per_thread: shared, one place per thread; blockDim.x is a power of two.
DEVICE double block_sum(double v, double* per_thread) {
  per_thread[threadIdx.x] = v;
  sync_threads();
  for (int half = int(blockDim.x) / 2; half > 0; half /= 2) {
    if (int(threadIdx.x) < half) per_thread[threadIdx.x] += per_thread[threadIdx.x + half];
    sync_threads();
  }
  return per_thread[0];
}

/// out[c] += partial[0][c], then partial[1][c], ... for partial [rows, cols]: in order, so that a batch cut between two chunks gives
/// the same bits. On the host; the kernel is in reduce.cu.
void add_partial_rows(float* out, const float* partial, int64_t rows, int64_t cols, const Stream& stream);

}  // namespace polypaca::POLYPACA_CUDA
