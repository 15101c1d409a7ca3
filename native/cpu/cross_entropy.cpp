// Softmax cross-entropy over the vocabulary, loss and gradient.
//   losses[r] = logsumexp(z[r]) - z[r][t],  t = targets[r]
//   with a gradient: z[r] = (softmax(z[r]) - onehot(t)) * grad_scale, in place and in z's dtype
// logits z [rows, V] fp32 or bf16, rows ld apart; losses fp32 [rows] assign; targets int32 [rows] in [0, V).
// A negative target is the ignored label: loss 0, gradient 0.
// The maximum and the sum are taken in one pass over memory (online softmax, Milakov & Gimelshein 2018, arXiv:1805.02867), a block
// of the row at a time: the block stays in the first-level cache for its two readings, and a new maximum rescales the sum once per
// block and not once per element. The gradient is the second pass. Sums: fp32 lanes in short blocks, then double.
#include <math.h>

#include "cpu/cpu_backend.h"
#include "cpu/rows.h"
#include "cpu/vector_math.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr int64_t kBlock = 2048;  // values, a multiple of every kLanes

struct SoftmaxStatistics {
  float max;
  double sum;  // of exp(z - max)
};

template <typename T>
POLYPACA_INLINE float largest(const T* z, int64_t count) {
  float max = -INFINITY;
  int64_t v = 0;
  if (count >= kLanes) {
    Floats lanes = load_floats(z);
    for (v = kLanes; v + kLanes <= count; v += kLanes) lanes = larger_of(load_floats(z + v), lanes);
    for (int l = 0; l < kLanes; ++l) max = lanes[l] > max ? lanes[l] : max;
  }
  for (; v < count; ++v) max = to_float(z[v]) > max ? to_float(z[v]) : max;
  return max;
}

/// Sum of exp(z - max). Two vectors of partial sums: an addition waits for the one before it.
template <typename T>
POLYPACA_INLINE double sum_of_exponentials(const T* z, int64_t count, float max) {
  Floats even{}, odd{};
  int64_t v = 0;
  for (; v + 2 * kLanes <= count; v += 2 * kLanes) {
    even += exp_of(load_floats(z + v) - max);
    odd += exp_of(load_floats(z + v + kLanes) - max);
  }
  even += odd;
  double sum = 0.0;
  for (int l = 0; l < kLanes; ++l) sum += double(even[l]);
  for (; v < count; v += kLanes) {
    const Floats last = exp_of(load_floats(z + v, count - v) - max);
    for (int64_t l = 0; l < smaller(kLanes, count - v); ++l) sum += double(last[l]);
  }
  return sum;
}

template <typename T>
POLYPACA_INLINE SoftmaxStatistics softmax_statistics(const T* z, int64_t V) {
  SoftmaxStatistics s{-INFINITY, 0.0};
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t count = smaller(kBlock, V - begin);
    const float block_max = largest(z + begin, count);
    if (block_max > s.max) {
      s.sum *= exp(double(s.max) - double(block_max));
      s.max = block_max;
    }
    s.sum += sum_of_exponentials(z + begin, count, s.max);
  }
  return s;
}

template <typename T>
void cross_entropy_row(T* z, float* loss, int32_t target, int64_t V, const float* grad_scale) {
  if (target < 0) {
    *loss = 0.0f;
    if (grad_scale) {
      for (int64_t v = 0; v < V; ++v) store(z + v, 0.0f);
    }
    return;
  }
  const float target_logit = to_float(z[target]);
  const SoftmaxStatistics s = softmax_statistics(z, V);
  *loss = float(log(s.sum) + (double(s.max) - double(target_logit)));
  if (!grad_scale) return;
  const float max = s.max, factor = float(double(*grad_scale) / s.sum);
  for (int64_t v = 0; v < V; v += kLanes) store_floats(z + v, exp_of(load_floats(z + v, V - v) - max) * factor, V - v);
  const double probability = exp(double(target_logit) - double(max)) / s.sum;
  store(z + target, float((probability - 1.0) * double(*grad_scale)));
}

}  // namespace

void CpuBackend::cross_entropy(Matrix logits, float* losses, const int32_t* targets, int64_t rows, int64_t V, const float* grad_scale) {
  with_type(logits.dtype, [&]<typename T>(TypeTag<T>) {
#pragma omp parallel for schedule(static) if (rows * V >= kParallelElements)
    for (int64_t r = 0; r < rows; ++r) cross_entropy_row(row_of<T>(logits, r), losses + r, targets[r], V, grad_scale);
  });
}

void CpuBackend::add_losses(double* sum, const float* losses, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r) *sum += double(losses[r]);
}

}  // namespace polypaca::POLYPACA_ISA
