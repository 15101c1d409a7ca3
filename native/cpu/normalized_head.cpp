// Row-normalised output head (Baichuan-2's NormHead, Yang et al. 2023, arXiv:2309.10305): logits are taken with w / |w| row by row.
//   forward   inv_norm = 1 / max(|w|, 1e-12),  w_hat = w * inv_norm       (the floor keeps an all-zero row zero, as PyTorch does)
//   backward  dw = (d_hat - w_hat (w_hat . d_hat)) * inv_norm
// w, w_hat [V, C] fp32 or bf16, rows ld apart; inv_norm fp32 [V] is assigned by forward and read by backward; d_hat, dw fp32 [V, C]
// dense. w_hat and dw assign; dw may be d_hat itself.
#include <math.h>

#include "cpu/cpu_backend.h"
#include "cpu/rows.h"

namespace polypaca::POLYPACA_ISA {

void CpuBackend::normalize_rows(Matrix w_hat, float* inv_norm, Matrix w, int64_t V, int64_t C) {
  with_types(w_hat.dtype, w.dtype, [&]<typename TH, typename TW>(TypeTag<TH>, TypeTag<TW>) {
#pragma omp parallel for schedule(static) if (V * C >= kParallelElements)
    for (int64_t v = 0; v < V; ++v) {
      const TW* in = row_of<TW>(w, v);
      TH* out = row_of<TH>(w_hat, v);
      const double norm = sqrt(blocked_sum(C, [&](int64_t c) { return to_float(in[c]) * to_float(in[c]); }));
      const float factor = float(1.0 / (norm > 1e-12 ? norm : 1e-12));
      inv_norm[v] = factor;
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) store(out + c, to_float(in[c]) * factor);
    }
  });
}

void CpuBackend::normalize_rows_backward(float* dw, const float* d_hat, Matrix w_hat, const float* inv_norm, int64_t V, int64_t C) {
  with_type(w_hat.dtype, [&]<typename T>(TypeTag<T>) {
#pragma omp parallel for schedule(static) if (V * C >= kParallelElements)
    for (int64_t v = 0; v < V; ++v) {
      const T* hat = row_of<T>(w_hat, v);
      const float* d = d_hat + v * C;
      float* out = dw + v * C;
      const float along = float(blocked_sum(C, [&](int64_t c) { return to_float(hat[c]) * d[c]; })), factor = inv_norm[v];
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) out[c] = (d[c] - to_float(hat[c]) * along) * factor;
    }
  });
}

}  // namespace polypaca::POLYPACA_ISA
