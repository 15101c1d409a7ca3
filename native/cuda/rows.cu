// Rows copied, converted, selected and added up.
//   convert        dst = src                                          scaled_copy    dst = scale * src
//   join_halves    dst = the fp32 values that bf16 values and remainders make (core/dtype.h)
//   gather_rows    y[i] = x[indices[i]]
//   scatter_rows   x[indices[i]] = y[i], every other of x's N rows is 0; indices ascend
//   linear_backward_bias   db[c] += sum_n(dy[n, c])
// Matrices fp32 or bf16 in any mixture, rows ld apart; db fp32; all but db assign. The copies have one thread per eight elements.
// linear_backward_bias: a block adds kBiasRows rows of 256 columns and leaves its sums (fp32) in scratch, add_partial_rows adds those
// in order, so that the result depends on no schedule. Scratch: ceil(N / kBiasRows) * rows floats.
#include "cuda/cuda_backend.h"
#include "cuda/reduce.cuh"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

template <bool kAligned, typename D, typename S>
KERNEL BOUNDS(ElementGrid::kMostThreads, 4) void copy_rows(Rows<D> dst, Rows<const S> src, int64_t C, float scale, uint32_t slices) {
  const Slot at = slot_of_thread(slices);
  const int64_t left = C - at.column;
  if (left <= 0) return;
  float v[kVector];
  load_elements<kAligned>(v, src[at.row] + at.column, left);
  for (int i = 0; i < kVector; ++i) v[i] *= scale;
  store_elements<kAligned>(dst[at.row] + at.column, v, left);
}

template <bool kAligned>
KERNEL BOUNDS(ElementGrid::kMostThreads, 4) void join_halves(float* dst, const bf16* value, const int16_t* remainder, int64_t count) {
  const int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kVector, left = count - i;
  if (left <= 0) return;
  float v[kVector];
  load_halves<kAligned>(v, value + i, remainder + i, left);
  store_elements<kAligned>(dst + i, v, left);
}

template <bool kAligned, typename TY, typename TX>
KERNEL BOUNDS(ElementGrid::kMostThreads, 4) void gather_rows(Rows<TY> y, Rows<const TX> x, const int32_t* indices, int64_t C, uint32_t slices) {
  const Slot at = slot_of_thread(slices);
  const int64_t left = C - at.column;
  if (left <= 0) return;
  float v[kVector];
  load_elements<kAligned>(v, x[indices[at.row]] + at.column, left);
  store_elements<kAligned>(y[at.row] + at.column, v, left);
}

/// Number of the n ascending indices that are below `row`. A whole warp searches, 32 places at a time: two reads for a thousand rows,
/// three for 32 thousand.
DEVICE int64_t count_below(const int32_t* indices, int64_t n, int64_t row) {
  const int lane = threadIdx.x % kWarp;
  int64_t low = 0, high = n;  // what is below `low` is below row, what is from `high` on is not
  while (low < high) {
    const int64_t step = (high - low + kWarp - 1) / kWarp, at = low + lane * step;
    // The lanes ascend: those whose index is below are the first ones.
    const int votes = int(warp_sum(at < high && indices[at] < row ? 1.0f : 0.0f));
    if (votes == 0) break;
    high = smaller(high, low + votes * step);
    low += (votes - 1) * step + 1;
  }
  return low;
}

template <bool kAligned, typename TX, typename TY>
KERNEL BOUNDS(ElementGrid::kMostThreads, 4) void scatter_rows(Rows<TX> x, Rows<const TY> y, const int32_t* indices, int64_t n, int64_t C, uint32_t slices) {
  const Slot at = slot_of_thread(slices);
  const int64_t left = C - at.column, i = count_below(indices, n, at.row);
  if (left <= 0) return;
  float v[kVector] = {};
  if (i < n && indices[i] == at.row) load_elements<kAligned>(v, y[i] + at.column, left);
  store_elements<kAligned>(x[at.row] + at.column, v, left);
}

constexpr int kBiasRows = 64, kBiasWarps = 8, kBiasColumns = kWarp * kVector;

struct BiasShared {
  float sum[kBiasWarps][kBiasColumns];
};

/// partial[chunk][c] = sum of the chunk's rows. Warp w adds rows w, w + 8, ...; then the warps' sums are added in order.
template <bool kAligned, typename T>
KERNEL BOUNDS(kBiasWarps * kWarp, 4) void column_sums(float* partial, Rows<const T> dy, int64_t N, int64_t C) {
  BiasShared& s = shared_memory<BiasShared>();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t begin = int64_t(blockIdx.y) * kBiasRows, end = smaller<int64_t>(begin + kBiasRows, N);
  const int64_t first = int64_t(blockIdx.x) * kBiasColumns, left = C - first - lane * kVector;
  float sum[kVector] = {};
  for (int64_t n = begin + warp; n < end; n += kBiasWarps) {
    float v[kVector] = {};
    if (left > 0) load_elements<kAligned>(v, dy[n] + first + lane * kVector, left);
    for (int i = 0; i < kVector; ++i) sum[i] += v[i];
  }
  for (int part = 0; part < kVector; part += 4) {
    store_16(s.sum[warp] + lane * kVector + part, {{bits_of(sum[part]), bits_of(sum[part + 1]), bits_of(sum[part + 2]), bits_of(sum[part + 3])}});
  }
  sync_threads();
  const int64_t c = first + threadIdx.x;
  if (c >= C) return;
  float total = 0.0f;
  for (int w = 0; w < kBiasWarps; ++w) total += s.sum[w][threadIdx.x];
  partial[blockIdx.y * C + c] = total;
}

}  // namespace

void CudaBackend::convert(Matrix dst, Matrix src, int64_t rows, int64_t cols) { scaled_copy(dst, src, rows, cols, 1.0f); }

void CudaBackend::scaled_copy(Matrix dst, Matrix src, int64_t rows, int64_t cols, float scale) {
  if (dst.ld == cols && src.ld == cols) cols *= rows, rows = 1;  // dense: one row, so that narrow matrices fill their blocks
  if (rows == 0 || cols == 0) return;
  const ElementGrid e(rows, cols);
  with_types(dst.dtype, src.dtype, [&]<typename D, typename S>(TypeTag<D>, TypeTag<S>) {
    with_flag(takes_vectors(cols, dst, src), [&]<bool kAligned>(std::bool_constant<kAligned>) {
      launch(copy_rows<kAligned, D, S>, e.blocks(), e.threads, 0, stream(), rows_of<D>(dst), rows_of<const S>(src), cols, scale, e.slices);
    });
  });
}

void CudaBackend::join_halves(float* dst, const bf16* value, const int16_t* remainder, int64_t count) {
  if (count == 0) return;
  const ElementGrid e(1, count);
  with_flag(takes_vectors(count, dst, value, remainder), [&]<bool kAligned>(std::bool_constant<kAligned>) {
    launch(POLYPACA_CUDA::join_halves<kAligned>, e.blocks(), e.threads, 0, stream(), dst, value, remainder, count);
  });
}

void CudaBackend::gather_rows(Matrix y, Matrix x, const int32_t* indices, int64_t n, int64_t C) {
  if (n == 0 || C == 0) return;
  const ElementGrid e(n, C);
  with_types(y.dtype, x.dtype, [&]<typename TY, typename TX>(TypeTag<TY>, TypeTag<TX>) {
    with_flag(takes_vectors(C, y, x), [&]<bool kAligned>(std::bool_constant<kAligned>) {
      launch(POLYPACA_CUDA::gather_rows<kAligned, TY, TX>, e.blocks(), e.threads, 0, stream(), rows_of<TY>(y), rows_of<const TX>(x), indices, C, e.slices);
    });
  });
}

void CudaBackend::scatter_rows(Matrix x, int64_t N, Matrix y, const int32_t* indices, int64_t n, int64_t C) {
  if (N == 0 || C == 0) return;
  const ElementGrid e(N, C);
  with_types(x.dtype, y.dtype, [&]<typename TX, typename TY>(TypeTag<TX>, TypeTag<TY>) {
    with_flag(takes_vectors(C, x, y), [&]<bool kAligned>(std::bool_constant<kAligned>) {
      launch(POLYPACA_CUDA::scatter_rows<kAligned, TX, TY>, e.blocks(), e.threads, 0, stream(), rows_of<TX>(x), rows_of<const TY>(y), indices, n, C, e.slices);
    });
  });
}

int64_t CudaBackend::bias_scratch_bytes(int64_t N, int64_t rows) { return ceil_divide(N, kBiasRows) * rows * int64_t(sizeof(float)); }

void CudaBackend::linear_backward_bias(float* db, Matrix dy, int64_t N, int64_t rows) {
  if (N == 0 || rows == 0) return;
  const int64_t chunks = ceil_divide(N, kBiasRows);
  float* partial = static_cast<float*>(scratch(bias_scratch_bytes(N, rows)));
  with_type(dy.dtype, [&]<typename T>(TypeTag<T>) {
    with_flag(takes_vectors(rows, dy), [&]<bool kAligned>(std::bool_constant<kAligned>) {
      launch(column_sums<kAligned, T>, Grid(ceil_divide(rows, kBiasColumns), chunks), kBiasWarps * kWarp, sizeof(BiasShared), stream(), partial, rows_of<const T>(dy), N, rows);
    });
  });
  add_partial_rows(db, partial, chunks, rows, stream());
}

}  // namespace polypaca::POLYPACA_CUDA
