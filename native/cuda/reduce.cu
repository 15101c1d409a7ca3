// The second half of sums over rows (reduce.cuh), and the step's sums, in double, with what follows from them. All stay in device
// memory: the host need not wait for them.
//   add_squares   *sum += sum_i(x[i]^2)                  x fp32 [count]; a gradient of 1e-25 must not vanish, hence double throughout
//   add_losses    *sum += sum_r(losses[r])               losses fp32 [rows]
//   finish_norm   clip = min(1, max_grad_norm / (norm + 1e-6)), applies = loss and norm are finite
// Deterministic: a block adds a chunk of fixed size, one block adds the chunks' sums, both by halves. Scratch of add_squares:
// ceil(count / kChunk) doubles.
#include "cuda/cuda_backend.h"
#include "cuda/reduce.cuh"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kChunk = int64_t(1) << 15;

struct SumShared {
  double sum[kThreads];
};

template <bool kAligned>
KERNEL BOUNDS(kThreads, 4) void chunk_squares(double* partial, const float* x, int64_t count) {
  SumShared& s = shared_memory<SumShared>();
  const int64_t begin = int64_t(blockIdx.x) * kChunk, end = smaller(begin + kChunk, count);
  double sum = 0.0;
  for (int64_t i = begin + threadIdx.x * kVector; i < end; i += kThreads * kVector) {
    float v[kVector];
    if (kAligned && end - i >= kVector) {
      load_elements(v, x + i);
    } else {
      load_elements<false>(v, x + i, end - i);
    }
    for (int j = 0; j < kVector; ++j) sum += double(v[j]) * double(v[j]);
  }
  sum = block_sum(sum, s.sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

template <typename T>
KERNEL BOUNDS(kThreads, 1) void add_up(double* total, const T* values, int64_t count) {
  SumShared& s = shared_memory<SumShared>();
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += double(values[i]);
  sum = block_sum(sum, s.sum);
  if (threadIdx.x == 0) *total += sum;
}

struct AddPartialShared {
  static constexpr int kRows = 128;
  float tile[kRows][kWarp];
};

/// One block per 32 columns: all its threads read, one per column adds.
KERNEL BOUNDS(kThreads, 4) void add_partial_tiles(float* out, const float* partial, int64_t rows, int64_t cols) {
  AddPartialShared& s = shared_memory<AddPartialShared>();
  const int lane = threadIdx.x % kWarp;
  const int64_t c = int64_t(blockIdx.x) * kWarp + lane;
  const bool adds = threadIdx.x < kWarp && c < cols;
  float sum = adds ? out[c] : 0.0f;
  for (int64_t first = 0; first < rows; first += s.kRows) {
    const int count = int(smaller<int64_t>(rows - first, s.kRows));
    for (int r = threadIdx.x / kWarp; r < count; r += kThreads / kWarp) {
      if (c < cols) s.tile[r][lane] = partial[(first + r) * cols + c];
    }
    sync_threads();
    if (adds) {
      for (int r = 0; r < count; ++r) sum += s.tile[r][lane];
    }
    sync_threads();  // before the tile is written again
  }
  if (adds) out[c] = sum;
}

DEVICE bool is_finite(double x) { return x - x == 0.0; }

KERNEL BOUNDS(32, 1) void finish_norm(StepState* state) {
  if (threadIdx.x != 0) return;
  const double norm = sqrt(state->sum_of_squares), limit = double(state->max_grad_norm);
  state->clip = limit > 0.0 && limit / (norm + 1e-6) < 1.0 ? float(limit / (norm + 1e-6)) : 1.0f;
  state->applies = is_finite(norm) && is_finite(state->loss_sum) ? 1 : 0;
}

}  // namespace

void add_partial_rows(float* out, const float* partial, int64_t rows, int64_t cols, const Stream& stream) {
  launch(add_partial_tiles, Grid(ceil_divide(cols, kWarp)), kThreads, sizeof(AddPartialShared), stream, out, partial, rows, cols);
}

int64_t CudaBackend::squares_scratch_bytes(int64_t count) { return ceil_divide(count, kChunk) * int64_t(sizeof(double)); }

void CudaBackend::add_squares(double* sum, const float* x, int64_t count) {
  if (count == 0) return;
  const int64_t chunks = ceil_divide(count, kChunk);
  double* partial = static_cast<double*>(scratch(squares_scratch_bytes(count)));
  with_flag(is_aligned(x), [&]<bool kAligned>(std::bool_constant<kAligned>) {
    launch(chunk_squares<kAligned>, Grid(chunks), kThreads, sizeof(SumShared), stream(), partial, x, count);
  });
  launch(add_up<double>, Grid(1), kThreads, sizeof(SumShared), stream(), sum, partial, chunks);
}

void CudaBackend::add_losses(double* sum, const float* losses, int64_t rows) {
  if (rows == 0) return;
  launch(add_up<float>, Grid(1), kThreads, sizeof(SumShared), stream(), sum, losses, rows);
}

void CudaBackend::finish_norm(StepState* state) { launch(POLYPACA_CUDA::finish_norm, Grid(1), kWarp, 0, stream(), state); }

}  // namespace polypaca::POLYPACA_CUDA
