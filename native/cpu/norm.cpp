// RMSNorm and LayerNorm over the last axis. Zhang & Sennrich 2019, arXiv:1910.07467; Ba et al. 2016, arXiv:1607.06450.
//   forward   y = xhat * w (+ b),  xhat = (x - mean) * rstd
//             rms:   mean = 0,            rstd = 1 / sqrt(mean_c(x^2) + epsilon)            (epsilon inside the root, as LLaMA expects)
//             layer: mean = mean_c(x),    rstd = 1 / sqrt(mean_c((x - mean)^2) + epsilon)   (two passes: no cancellation)
//   backward  g = dy * w
//             rms:   dx = beta * dx + rstd * (g - xhat * mean_c(g * xhat))
//             layer: dx = beta * dx + rstd * (g - mean_c(g) - xhat * mean_c(g * xhat))
//             dw += sum_n(dy * xhat),  db += sum_n(dy)
// x, y, dx, dy [N, C] fp32 or bf16 in any mixture, rows ld apart; w, b, dw, db fp32 [C]; mean (layer only), rstd fp32 [N] are
// assigned by forward and read by backward, where xhat is computed again. y assigns; dw and db add. dx may be dy itself.
// Statistics: fp32 lanes in blocks whose sums join a double. dw, db: every column is summed by one thread, over fixed blocks of
// tokens in order, so that the result does not depend on the number of threads.
#include <math.h>

#include "cpu/cpu_backend.h"
#include "cpu/rows.h"

namespace polypaca::POLYPACA_ISA {
namespace {

template <NormKind kKind>
POLYPACA_INLINE float centred(float x, float mean) {
  return kKind == NormKind::layer ? x - mean : x;
}

// Out of line, so that forward and recompute run the same instructions and agree bit for bit.
template <NormKind kKind, typename TY, typename TX>
__attribute__((noinline)) void normalize_row(TY* y, const TX* x, float mean, float rstd, const float* w, const float* b, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) {
    const float scaled = centred<kKind>(to_float(x[c]), mean) * rstd * w[c];
    store(y + c, kKind == NormKind::layer ? scaled + b[c] : scaled);
  }
}

template <NormKind kKind, typename TX>
POLYPACA_INLINE void row_statistics(float& mean, float& rstd, const TX* x, int64_t C, float epsilon) {
  mean = kKind == NormKind::layer ? float(blocked_sum(C, [&](int64_t c) { return to_float(x[c]); }) / double(C)) : 0.0f;
  const float centre = mean;
  const double sum_sq = blocked_sum(C, [&](int64_t c) {
    const float d = centred<kKind>(to_float(x[c]), centre);
    return d * d;
  });
  rstd = float(1.0 / sqrt(sum_sq / double(C) + double(epsilon)));
}

template <NormKind kKind, typename TY, typename TX>
void forward(Matrix y, float* mean, float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C, float epsilon) {
#pragma omp parallel for schedule(static) if (N * C >= kParallelElements)
  for (int64_t n = 0; n < N; ++n) {
    float row_mean;
    row_statistics<kKind>(row_mean, rstd[n], row_of<TX>(x, n), C, epsilon);
    if (kKind == NormKind::layer) mean[n] = row_mean;
    normalize_row<kKind>(row_of<TY>(y, n), row_of<TX>(x, n), row_mean, rstd[n], w, b, C);
  }
}

template <NormKind kKind, typename TY, typename TX>
void recompute(Matrix y, const float* mean, const float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C) {
#pragma omp parallel for schedule(static) if (N * C >= kParallelElements)
  for (int64_t n = 0; n < N; ++n) {
    normalize_row<kKind>(row_of<TY>(y, n), row_of<TX>(x, n), kKind == NormKind::layer ? mean[n] : 0.0f, rstd[n], w, b, C);
  }
}

template <NormKind kKind, typename TDX, typename TDY, typename TX>
POLYPACA_INLINE void backward_row(TDX* dx, bool adds, const TDY* dy, const TX* x, float mean, float rstd, const float* w, int64_t C) {
  double sum_g = 0.0, sum_gx = 0.0;
  for (int64_t begin = 0; begin < C; begin += kSumBlock) {
    const int64_t end = smaller(begin + kSumBlock, C);
    float part_g = 0.0f, part_gx = 0.0f;
#pragma omp simd reduction(+ : part_g, part_gx)
    for (int64_t c = begin; c < end; ++c) {
      const float g = to_float(dy[c]) * w[c];
      part_g += g;
      part_gx += g * (centred<kKind>(to_float(x[c]), mean) * rstd);
    }
    sum_g += part_g;
    sum_gx += part_gx;
  }
  const float mean_g = kKind == NormKind::layer ? float(sum_g / double(C)) : 0.0f, mean_gx = float(sum_gx / double(C));
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) {
    const float xhat = centred<kKind>(to_float(x[c]), mean) * rstd;
    const float d = rstd * (to_float(dy[c]) * w[c] - mean_g - xhat * mean_gx);
    store(dx + c, adds ? to_float(dx[c]) + d : d);
  }
}

constexpr int64_t kColumns = 64;    // of dw that one thread owns: a few cache lines of x and dy
constexpr int64_t kSumRows = 16;    // tokens summed before the partial sum joins dw: fixed, so the order of additions is too
constexpr int64_t kChunkRows = 512;  // a multiple of kSumRows: one barrier each, and what dw's pass read is still in a cache for dx's

/// dw[c] += sum of dy * xhat, db[c] += sum of dy for `columns` columns from `c0` and tokens begin .. end - 1.
/// Inlined with a constant number of columns, the partial sums stay in registers.
template <NormKind kKind, typename TDY, typename TX>
POLYPACA_INLINE void add_parameter_gradients(float* dw, float* db, Matrix dy, Matrix x, const float* mean, const float* rstd, int64_t begin, int64_t end, int64_t c0, int64_t columns) {
  for (int64_t block = begin; block < end; block += kSumRows) {
    float part_w[kColumns] = {}, part_b[kColumns] = {};
    for (int64_t n = block; n < smaller(block + kSumRows, end); ++n) {
      const TDY* dyn = row_of<TDY>(dy, n) + c0;
      const TX* xn = row_of<TX>(x, n) + c0;
      const float row_mean = kKind == NormKind::layer ? mean[n] : 0.0f, row_rstd = rstd[n];
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) {
        const float d = to_float(dyn[j]);
        part_w[j] += d * (centred<kKind>(to_float(xn[j]), row_mean) * row_rstd);
        if constexpr (kKind == NormKind::layer) part_b[j] += d;
      }
    }
#pragma omp simd
    for (int64_t j = 0; j < columns; ++j) dw[c0 + j] += part_w[j];
    if (kKind == NormKind::layer && db) {
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) db[c0 + j] += part_b[j];
    }
  }
}

template <NormKind kKind, typename TDX, typename TDY, typename TX>
void backward(Matrix dx, bool adds, float* dw, float* db, Matrix dy, Matrix x, const float* mean, const float* rstd, const float* w, int64_t N, int64_t C) {
#pragma omp parallel if (N * C >= kParallelElements)
  for (int64_t begin = 0; begin < N; begin += kChunkRows) {
    const int64_t end = smaller(begin + kChunkRows, N);
    if (dw) {  // first, and with the barrier at its end: dx may be dy
#pragma omp for schedule(static)
      for (int64_t c0 = 0; c0 < C; c0 += kColumns) {
        if (c0 + kColumns <= C) {
          add_parameter_gradients<kKind, TDY, TX>(dw, db, dy, x, mean, rstd, begin, end, c0, kColumns);
        } else {
          add_parameter_gradients<kKind, TDY, TX>(dw, db, dy, x, mean, rstd, begin, end, c0, C - c0);
        }
      }
    }
#pragma omp for schedule(static) nowait
    for (int64_t n = begin; n < end; ++n) {
      const float row_mean = kKind == NormKind::layer ? mean[n] : 0.0f;
      backward_row<kKind>(row_of<TDX>(dx, n), adds, row_of<TDY>(dy, n), row_of<TX>(x, n), row_mean, rstd[n], w, C);
    }
  }
}

}  // namespace

void CpuBackend::norm_forward(NormKind kind, Matrix y, float* mean, float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C, float epsilon) {
  with_types(y.dtype, x.dtype, [&]<typename TY, typename TX>(TypeTag<TY>, TypeTag<TX>) {
    if (kind == NormKind::rms) {
      forward<NormKind::rms, TY, TX>(y, mean, rstd, x, w, b, N, C, epsilon);
    } else {
      forward<NormKind::layer, TY, TX>(y, mean, rstd, x, w, b, N, C, epsilon);
    }
  });
}

void CpuBackend::norm_recompute(NormKind kind, Matrix y, const float* mean, const float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C) {
  with_types(y.dtype, x.dtype, [&]<typename TY, typename TX>(TypeTag<TY>, TypeTag<TX>) {
    if (kind == NormKind::rms) {
      recompute<NormKind::rms, TY, TX>(y, mean, rstd, x, w, b, N, C);
    } else {
      recompute<NormKind::layer, TY, TX>(y, mean, rstd, x, w, b, N, C);
    }
  });
}

void CpuBackend::norm_backward(NormKind kind, Matrix dx, float beta, float* dw, float* db, Matrix dy, Matrix x, const float* mean, const float* rstd, const float* w, int64_t N, int64_t C) {
  const bool adds = beta != 0.0f;
  with_types(dx.dtype, dy.dtype, x.dtype, [&]<typename TDX, typename TDY, typename TX>(TypeTag<TDX>, TypeTag<TDY>, TypeTag<TX>) {
    if (kind == NormKind::rms) {
      backward<NormKind::rms, TDX, TDY, TX>(dx, adds, dw, db, dy, x, mean, rstd, w, N, C);
    } else {
      backward<NormKind::layer, TDX, TDY, TX>(dx, adds, dw, db, dy, x, mean, rstd, w, N, C);
    }
  });
}

}  // namespace polypaca::POLYPACA_ISA
