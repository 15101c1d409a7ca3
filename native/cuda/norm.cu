// RMSNorm and LayerNorm over the last axis. Zhang & Sennrich 2019, arXiv:1910.07467; Ba et al. 2016, arXiv:1607.06450.
//   forward   y = xhat * w (+ b),  xhat = (x - mean) * rstd
//             rms:   mean = 0,            rstd = 1 / sqrt(mean_c(x^2) + epsilon)            (epsilon inside the root, as LLaMA expects)
//             layer: mean = mean_c(x),    rstd = 1 / sqrt(mean_c((x - mean)^2) + epsilon)   (two passes: no cancellation)
//   backward  g = dy * w
//             rms:   dx = beta * dx + rstd * (g - xhat * mean_c(g * xhat))
//             layer: dx = beta * dx + rstd * (g - mean_c(g) - xhat * mean_c(g * xhat))
//             dw += sum_n(dy * xhat),  db += sum_n(dy)
// x, y, dx, dy [N, C] fp32 or bf16 in any mixture, rows ld apart; w, b, dw, db fp32 [C]; mean (layer only), rstd fp32 [N] are
// assigned by forward and read by backward, where xhat is computed again. y assigns; dw and db add. y may be x, dx may be dy or x.
// All sums are fp32. layer: the deviations' own mean corrects the first mean, so that neither a long row nor a large mean costs digits.
//
// Three forms of each kernel. Rows that can be read 16 bytes at a time stay in registers from the first pass to the last: a warp per
// row where it can hold one, else a block of as many warps as it takes. Other rows (too long, odd, not aligned): a block of any length.
// backward: a block takes kChunkRows rows one after the other and keeps its columns' share of dw and db in registers; the shares go to
// scratch, and add_partial_rows adds them in order. Scratch: 2 * ceil(N / kChunkRows) * C floats, only where dw is asked for.
#include "cuda/cuda_backend.h"
#include "cuda/reduce.cuh"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

template <NormKind kKind>
DEVICE float normalized(float x, float mean, float rstd) {
  return kKind == NormKind::layer ? (x - mean) * rstd : x * rstd;
}

// An explicit fmaf leaves the compiler no choice of rounding: forward and recompute agree bit for bit.
template <NormKind kKind>
DEVICE float weighted(float xhat, float w, float b) {
  return kKind == NormKind::layer ? fmaf(xhat, w, b) : xhat * w;
}

// ---- forward ----

constexpr int kForwardItems = 4;       // vectors of a row that a thread keeps
constexpr int kForwardThreads = 256;
constexpr int kForwardWarpColumns = kForwardItems * kVector * kWarp;

struct NormForwardShared {
  float mean[kForwardThreads / kWarp], deviation[kForwardThreads / kWarp], square[kForwardThreads / kWarp];
};

/// From the sums of the deviations of a row from `mean`, and of their squares: its mean and rstd.
template <NormKind kKind>
DEVICE void finish_statistics(float& mean, float& rstd, float sum, float sum_sq, int C, float epsilon) {
  float variance = sum_sq / float(C);
  if constexpr (kKind == NormKind::layer) {
    const float correction = sum / float(C);
    mean += correction;
    variance -= correction * correction;
  }
  rstd = 1.0f / sqrtf(variance + epsilon);
}

template <NormKind kKind, bool kWarpPerRow, typename TY, typename TX>
KERNEL BOUNDS(kForwardThreads, 3) void norm_forward(Rows<TY> y, float* mean, float* rstd, Rows<const TX> x, const float* w, const float* b, int64_t N, int C, float epsilon) {
  NormForwardShared& s = shared_memory<NormForwardShared>();
  const int64_t n = kWarpPerRow ? int64_t(blockIdx.x) * (kForwardThreads / kWarp) + threadIdx.x / kWarp : int64_t(blockIdx.x);
  if (kWarpPerRow && n >= N) return;
  const auto row_sum = [](float v, float* per_warp) { return kWarpPerRow ? warp_sum(v) : block_sum(v, per_warp); };
  const int first = (kWarpPerRow ? threadIdx.x % kWarp : threadIdx.x) * kVector, stride = (kWarpPerRow ? kWarp : blockDim.x) * kVector;

  float values[kForwardItems][kVector];
  for (int i = 0; i < kForwardItems; ++i) {
    const int c = first + i * stride;
    if (c < C) load_elements(values[i], x[n] + c);
  }
  float row_mean = 0.0f;
  if constexpr (kKind == NormKind::layer) {
    float sum = 0.0f;
    for (int i = 0; i < kForwardItems; ++i) {
      if (first + i * stride >= C) break;
      for (int j = 0; j < kVector; ++j) sum += values[i][j];
    }
    row_mean = row_sum(sum, s.mean) / float(C);
  }
  float sum = 0.0f, sum_sq = 0.0f, row_rstd;
  for (int i = 0; i < kForwardItems; ++i) {
    if (first + i * stride >= C) break;
    for (int j = 0; j < kVector; ++j) {
      const float d = kKind == NormKind::layer ? values[i][j] - row_mean : values[i][j];
      if constexpr (kKind == NormKind::layer) sum += d;
      sum_sq += d * d;
    }
  }
  if constexpr (kKind == NormKind::layer) sum = row_sum(sum, s.deviation);
  finish_statistics<kKind>(row_mean, row_rstd, sum, row_sum(sum_sq, s.square), C, epsilon);
  for (int i = 0; i < kForwardItems; ++i) {
    const int c = first + i * stride;
    if (c >= C) break;
    float weight[kVector], bias[kVector] = {}, out[kVector];
    load_elements(weight, w + c);
    if constexpr (kKind == NormKind::layer) load_elements(bias, b + c);
    for (int j = 0; j < kVector; ++j) out[j] = weighted<kKind>(normalized<kKind>(values[i][j], row_mean, row_rstd), weight[j], bias[j]);
    store_elements(y[n] + c, out);
  }
  if (first == 0) {
    rstd[n] = row_rstd;
    if constexpr (kKind == NormKind::layer) mean[n] = row_mean;
  }
}

/// Any length, any alignment.
template <NormKind kKind, typename TY, typename TX>
KERNEL BOUNDS(kForwardThreads, 4) void norm_forward_unaligned(Rows<TY> y, float* mean, float* rstd, Rows<const TX> x, const float* w, const float* b, int C, float epsilon) {
  NormForwardShared& s = shared_memory<NormForwardShared>();
  const int64_t n = blockIdx.x;
  const TX* xn = x[n];
  float row_mean = 0.0f, row_rstd, sum = 0.0f, sum_sq = 0.0f;
  if constexpr (kKind == NormKind::layer) {
    for (int c = threadIdx.x; c < C; c += blockDim.x) sum += to_float(xn[c]);
    row_mean = block_sum(sum, s.mean) / float(C);
    sum = 0.0f;
  }
  for (int c = threadIdx.x; c < C; c += blockDim.x) {
    const float d = kKind == NormKind::layer ? to_float(xn[c]) - row_mean : to_float(xn[c]);
    sum += d;
    sum_sq += d * d;
  }
  if constexpr (kKind == NormKind::layer) sum = block_sum(sum, s.deviation);
  finish_statistics<kKind>(row_mean, row_rstd, sum, block_sum(sum_sq, s.square), C, epsilon);
  for (int c = threadIdx.x; c < C; c += blockDim.x) {
    store(y[n] + c, weighted<kKind>(normalized<kKind>(to_float(xn[c]), row_mean, row_rstd), w[c], kKind == NormKind::layer ? b[c] : 0.0f));
  }
  if (threadIdx.x == 0) {
    rstd[n] = row_rstd;
    if constexpr (kKind == NormKind::layer) mean[n] = row_mean;
  }
}

template <NormKind kKind, bool kAligned, typename TY, typename TX>
KERNEL BOUNDS(256, 4) void norm_recompute(Rows<TY> y, const float* mean, const float* rstd, Rows<const TX> x, const float* w, const float* b, int64_t C, uint32_t slices) {
  const Slot at = slot_of_thread(slices);
  const int64_t left = C - at.column;
  if (left <= 0) return;
  const float row_mean = kKind == NormKind::layer ? mean[at.row] : 0.0f, row_rstd = rstd[at.row];
  float values[kVector], weight[kVector], bias[kVector] = {};
  load_elements<kAligned>(values, x[at.row] + at.column, left);
  load_elements<kAligned>(weight, w + at.column, left);
  if constexpr (kKind == NormKind::layer) load_elements<kAligned>(bias, b + at.column, left);
  for (int j = 0; j < kVector; ++j) values[j] = weighted<kKind>(normalized<kKind>(values[j], row_mean, row_rstd), weight[j], bias[j]);
  store_elements<kAligned>(y[at.row] + at.column, values, left);
}

// ---- backward ----

constexpr int kChunkRows = 32;         // of one block
constexpr int kBackwardThreads = 512;  // at most

struct NormBackwardShared {
  float sum_g[2][kBackwardThreads / kWarp], sum_gx[2][kBackwardThreads / kWarp];
};

/// mean_c(g) (layer only) and mean_c(g * xhat) from the threads' sums. `parity` alternates from call to call, see block_sum().
template <NormKind kKind>
DEVICE void row_means(float& mean_g, float& mean_gx, float sum_g, float sum_gx, NormBackwardShared& s, int parity, int C) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  sum_gx = warp_sum(sum_gx);
  if constexpr (kKind == NormKind::layer) sum_g = warp_sum(sum_g);
  if (lane == 0) {
    s.sum_gx[parity][warp] = sum_gx;
    if constexpr (kKind == NormKind::layer) s.sum_g[parity][warp] = sum_g;
  }
  sync_threads();
  mean_g = mean_gx = 0.0f;
  for (int i = 0; i < int(blockDim.x) / kWarp; ++i) {
    mean_gx += s.sum_gx[parity][i];
    if constexpr (kKind == NormKind::layer) mean_g += s.sum_g[parity][i];
  }
  mean_gx /= float(C);
  mean_g /= float(C);
}

/// kItems vectors of a row per thread. partial_w, partial_b [blocks, C]: null where frozen.
template <NormKind kKind, int kItems, typename TDX, typename TDY, typename TX>
KERNEL BOUNDS(kBackwardThreads / 2 * kItems, 1) void norm_backward(Rows<TDX> dx, bool adds, float* partial_w, float* partial_b, Rows<const TDY> dy, Rows<const TX> x, const float* mean, const float* rstd, const float* w, int64_t N, int C) {
  NormBackwardShared& s = shared_memory<NormBackwardShared>();
  const int64_t begin = int64_t(blockIdx.x) * kChunkRows, end = begin + kChunkRows < N ? begin + kChunkRows : N;
  const int first = threadIdx.x * kVector, stride = blockDim.x * kVector;

  float sum_w[kItems][kVector] = {}, sum_b[kItems][kVector] = {};
  Packed<TX> next_x[kItems];
  Packed<TDY> next_dy[kItems];
  const auto fetch = [&](int64_t n) {
    for (int i = 0; i < kItems; ++i) {
      const int c = first + i * stride;
      if (c < C) next_x[i] = load_packed(x[n] + c), next_dy[i] = load_packed(dy[n] + c);
    }
  };
  fetch(begin);
  for (int64_t n = begin; n < end; ++n) {
    const float row_mean = kKind == NormKind::layer ? mean[n] : 0.0f, row_rstd = rstd[n];
    float xhat[kItems][kVector], g[kItems][kVector], sum_g = 0.0f, sum_gx = 0.0f;
    for (int i = 0; i < kItems; ++i) {
      const int c = first + i * stride;
      if (c >= C) break;
      float weight[kVector];
      unpack(xhat[i], next_x[i]);
      unpack(g[i], next_dy[i]);
      load_elements(weight, w + c);
      for (int j = 0; j < kVector; ++j) {
        xhat[i][j] = normalized<kKind>(xhat[i][j], row_mean, row_rstd);
        sum_w[i][j] += g[i][j] * xhat[i][j];
        if constexpr (kKind == NormKind::layer) sum_b[i][j] += g[i][j];
        g[i][j] *= weight[j];
        sum_g += g[i][j];
        sum_gx += g[i][j] * xhat[i][j];
      }
    }
    if (n + 1 < end) fetch(n + 1);  // on its way while this row's sums meet
    float mean_g, mean_gx;
    row_means<kKind>(mean_g, mean_gx, sum_g, sum_gx, s, int(n % 2), C);
    for (int i = 0; i < kItems; ++i) {
      const int c = first + i * stride;
      if (c >= C) break;
      float out[kVector] = {};
      if (adds) load_elements(out, dx[n] + c);
      for (int j = 0; j < kVector; ++j) out[j] += row_rstd * (g[i][j] - mean_g - xhat[i][j] * mean_gx);
      store_elements(dx[n] + c, out);
    }
  }
  for (int i = 0; i < kItems; ++i) {
    const int c = first + i * stride;
    if (c >= C) break;
    if (partial_w) store_elements(partial_w + int64_t(blockIdx.x) * C + c, sum_w[i]);
    if (kKind == NormKind::layer && partial_b) store_elements(partial_b + int64_t(blockIdx.x) * C + c, sum_b[i]);
  }
}

/// Any length, any alignment. The chunk's columns first, then its rows: dx may be dy, and a thread writes only what it alone has read.
template <NormKind kKind, typename TDX, typename TDY, typename TX>
KERNEL BOUNDS(256, 4) void norm_backward_unaligned(Rows<TDX> dx, bool adds, float* partial_w, float* partial_b, Rows<const TDY> dy, Rows<const TX> x, const float* mean, const float* rstd, const float* w, int64_t N, int C) {
  NormBackwardShared& s = shared_memory<NormBackwardShared>();
  const int64_t begin = int64_t(blockIdx.x) * kChunkRows, end = begin + kChunkRows < N ? begin + kChunkRows : N;
  const auto xhat_at = [&](int64_t n, int c) { return normalized<kKind>(to_float(x[n][c]), kKind == NormKind::layer ? mean[n] : 0.0f, rstd[n]); };
  for (int c = threadIdx.x; c < C && partial_w; c += blockDim.x) {
    float sum_w = 0.0f, sum_b = 0.0f;
    for (int64_t n = begin; n < end; ++n) {
      sum_w += to_float(dy[n][c]) * xhat_at(n, c);
      sum_b += to_float(dy[n][c]);
    }
    partial_w[int64_t(blockIdx.x) * C + c] = sum_w;
    if (kKind == NormKind::layer && partial_b) partial_b[int64_t(blockIdx.x) * C + c] = sum_b;
  }
  for (int64_t n = begin; n < end; ++n) {
    float sum_g = 0.0f, sum_gx = 0.0f;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
      const float g = to_float(dy[n][c]) * w[c];
      sum_g += g;
      sum_gx += g * xhat_at(n, c);
    }
    float mean_g, mean_gx;
    row_means<kKind>(mean_g, mean_gx, sum_g, sum_gx, s, int(n % 2), C);
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
      const float d = rstd[n] * (to_float(dy[n][c]) * w[c] - mean_g - xhat_at(n, c) * mean_gx);
      store(dx[n] + c, adds ? to_float(dx[n][c]) + d : d);
    }
  }
}

}  // namespace

// ---- launchers ----

namespace {

template <typename F>
void with_kind(NormKind kind, F&& f) {
  if (kind == NormKind::rms) {
    f(std::integral_constant<NormKind, NormKind::rms>{});
  } else {
    f(std::integral_constant<NormKind, NormKind::layer>{});
  }
}

/// Threads of a block that holds C columns, `items` vectors each.
int row_threads(int64_t C, int items) { return int(ceil_divide(C, int64_t(items) * kVector * kWarp) * kWarp); }

}  // namespace

void CudaBackend::norm_forward(NormKind kind, Matrix y, float* mean, float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C, float epsilon) {
  if (N == 0) return;
  const bool vectors = takes_vectors(C, x, y, w, b) && C <= kForwardWarpColumns * (kForwardThreads / kWarp);
  with_kind(kind, [&]<NormKind kKind>(std::integral_constant<NormKind, kKind>) {
    with_types(y.dtype, x.dtype, [&]<typename TY, typename TX>(TypeTag<TY>, TypeTag<TX>) {
      const Rows<TY> to = rows_of<TY>(y);
      const Rows<const TX> from = rows_of<const TX>(x);
      if (!vectors) {
        launch(norm_forward_unaligned<kKind, TY, TX>, Grid(N), kForwardThreads, sizeof(NormForwardShared), stream(), to, mean, rstd, from, w, b, int(C), epsilon);
      } else if (C <= kForwardWarpColumns) {
        const Grid grid(ceil_divide(N, kForwardThreads / kWarp));
        launch(POLYPACA_CUDA::norm_forward<kKind, true, TY, TX>, grid, kForwardThreads, sizeof(NormForwardShared), stream(), to, mean, rstd, from, w, b, N, int(C), epsilon);
      } else {
        const int threads = row_threads(C, kForwardItems);
        launch(POLYPACA_CUDA::norm_forward<kKind, false, TY, TX>, Grid(N), threads, sizeof(NormForwardShared), stream(), to, mean, rstd, from, w, b, N, int(C), epsilon);
      }
    });
  });
}

void CudaBackend::norm_recompute(NormKind kind, Matrix y, const float* mean, const float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C) {
  if (N == 0) return;
  const ElementGrid e(N, C);
  with_kind(kind, [&]<NormKind kKind>(std::integral_constant<NormKind, kKind>) {
    with_types(y.dtype, x.dtype, [&]<typename TY, typename TX>(TypeTag<TY>, TypeTag<TX>) {
      with_flag(takes_vectors(C, x, y, w, b), [&]<bool kAligned>(std::bool_constant<kAligned>) {
        launch(POLYPACA_CUDA::norm_recompute<kKind, kAligned, TY, TX>, e.blocks(), e.threads, 0, stream(), rows_of<TY>(y), mean, rstd, rows_of<const TX>(x), w, b, C, e.slices);
      });
    });
  });
}

int64_t CudaBackend::norm_scratch_bytes(int64_t N, int64_t C) { return 2 * ceil_divide(N, kChunkRows) * C * int64_t(sizeof(float)); }

void CudaBackend::norm_backward(NormKind kind, Matrix dx, float beta, float* dw, float* db, Matrix dy, Matrix x, const float* mean, const float* rstd, const float* w, int64_t N, int64_t C) {
  if (N == 0) return;
  const bool adds = beta != 0.0f;
  const int64_t chunks = ceil_divide(N, kChunkRows);
  const Grid grid(chunks);
  float* partial_w = dw ? static_cast<float*>(scratch(norm_scratch_bytes(N, C))) : nullptr;
  float* partial_b = db ? partial_w + chunks * C : nullptr;
  const bool vectors = takes_vectors(C, dx, dy, x, w) && C <= int64_t(kBackwardThreads) * 2 * kVector;
  with_kind(kind, [&]<NormKind kKind>(std::integral_constant<NormKind, kKind>) {
    with_types(dx.dtype, dy.dtype, x.dtype, [&]<typename TDX, typename TDY, typename TX>(TypeTag<TDX>, TypeTag<TDY>, TypeTag<TX>) {
      const auto run = [&](auto kernel, int threads) {
        launch(kernel, grid, threads, sizeof(NormBackwardShared), stream(), rows_of<TDX>(dx), adds, partial_w, partial_b, rows_of<const TDY>(dy), rows_of<const TX>(x), mean, rstd, w, N, int(C));
      };
      if (!vectors) {
        run(norm_backward_unaligned<kKind, TDX, TDY, TX>, 256);
      } else if (C <= kBackwardThreads / 2 * kVector) {
        run(POLYPACA_CUDA::norm_backward<kKind, 1, TDX, TDY, TX>, row_threads(C, 1));
      } else {
        run(POLYPACA_CUDA::norm_backward<kKind, 2, TDX, TDY, TX>, row_threads(C, 2));
      }
    });
  });
  if (dw) add_partial_rows(dw, partial_w, chunks, C, stream());
  if (db) add_partial_rows(db, partial_b, chunks, C, stream());
}

}  // namespace polypaca::POLYPACA_CUDA
