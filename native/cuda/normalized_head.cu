// Row-normalised output head (Baichuan-2's NormHead, Yang et al. 2023, arXiv:2309.10305): logits are taken with w / |w| row by row.
//   forward   inv_norm = 1 / max(|w|, 1e-12),  w_hat = w * inv_norm       (the floor keeps an all-zero row zero, as PyTorch does)
//   backward  dw = (d_hat - w_hat (w_hat . d_hat)) * inv_norm
// w, w_hat [V, C] fp32 or bf16, rows ld apart; inv_norm fp32 [V] is assigned by forward and read by backward; d_hat, dw fp32 [V, C]
// dense. w_hat and dw assign; w_hat may be w, dw may be d_hat. Sums are fp32. One block per row; the second pass finds the row in L1.
#include "cuda/cuda_backend.h"
#include "cuda/reduce.cuh"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kThreads = 256;

struct HeadShared {
  float sum[kThreads / kWarp];
};

template <bool kAligned, typename TH, typename TW>
KERNEL BOUNDS(kThreads, 4) void normalize_rows(Rows<TH> w_hat, float* inv_norm, Rows<const TW> w, int64_t C) {
  HeadShared& s = shared_memory<HeadShared>();
  const int64_t v = blockIdx.x;
  float sum = 0.0f, x[kVector];
  for (int64_t c = threadIdx.x * kVector; c < C; c += kThreads * kVector) {
    load_elements<kAligned>(x, w[v] + c, C - c);
    for (int i = 0; i < kVector; ++i) sum += x[i] * x[i];
  }
  const float norm = sqrtf(block_sum(sum, s.sum)), factor = norm > 1e-12f ? 1.0f / norm : 1e12f;
  for (int64_t c = threadIdx.x * kVector; c < C; c += kThreads * kVector) {
    load_elements<kAligned>(x, w[v] + c, C - c);
    for (int i = 0; i < kVector; ++i) x[i] *= factor;
    store_elements<kAligned>(w_hat[v] + c, x, C - c);
  }
  if (threadIdx.x == 0) inv_norm[v] = factor;
}

template <bool kAligned, typename T>
KERNEL BOUNDS(kThreads, 4) void normalize_rows_backward(float* dw, const float* d_hat, Rows<const T> w_hat, const float* inv_norm, int64_t C) {
  HeadShared& s = shared_memory<HeadShared>();
  const int64_t v = blockIdx.x;
  float sum = 0.0f, hat[kVector], d[kVector];
  for (int64_t c = threadIdx.x * kVector; c < C; c += kThreads * kVector) {
    load_elements<kAligned>(hat, w_hat[v] + c, C - c);
    load_elements<kAligned>(d, d_hat + v * C + c, C - c);
    for (int i = 0; i < kVector; ++i) sum += hat[i] * d[i];
  }
  const float along = block_sum(sum, s.sum), factor = inv_norm[v];
  for (int64_t c = threadIdx.x * kVector; c < C; c += kThreads * kVector) {
    load_elements<kAligned>(hat, w_hat[v] + c, C - c);
    load_elements<kAligned>(d, d_hat + v * C + c, C - c);
    for (int i = 0; i < kVector; ++i) d[i] = (d[i] - hat[i] * along) * factor;
    store_elements<kAligned>(dw + v * C + c, d, C - c);
  }
}

}  // namespace

void CudaBackend::normalize_rows(Matrix w_hat, float* inv_norm, Matrix w, int64_t V, int64_t C) {
  if (V == 0) return;
  with_types(w_hat.dtype, w.dtype, [&]<typename TH, typename TW>(TypeTag<TH>, TypeTag<TW>) {
    with_flag(takes_vectors(C, w_hat, w), [&]<bool kAligned>(std::bool_constant<kAligned>) {
      launch(POLYPACA_CUDA::normalize_rows<kAligned, TH, TW>, Grid(V), kThreads, sizeof(HeadShared), stream(), rows_of<TH>(w_hat), inv_norm, rows_of<const TW>(w), C);
    });
  });
}

void CudaBackend::normalize_rows_backward(float* dw, const float* d_hat, Matrix w_hat, const float* inv_norm, int64_t V, int64_t C) {
  if (V == 0) return;
  with_type(w_hat.dtype, [&]<typename T>(TypeTag<T>) {
    with_flag(takes_vectors(C, w_hat, dw, d_hat), [&]<bool kAligned>(std::bool_constant<kAligned>) {
      launch(POLYPACA_CUDA::normalize_rows_backward<kAligned, T>, Grid(V), kThreads, sizeof(HeadShared), stream(), dw, d_hat, rows_of<const T>(w_hat), inv_norm, C);
    });
  });
}

}  // namespace polypaca::POLYPACA_CUDA
