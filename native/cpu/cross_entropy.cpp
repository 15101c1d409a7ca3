// Softmax cross-entropy over the vocabulary, loss and gradient.
//   losses[r] = logsumexp(z[r]) - z[r][t],  t = targets[r]
//   with_gradient: z[r] = (softmax(z[r]) - onehot(t)) * grad_scale, in place and in z's dtype
// logits z [rows, V] fp32 or bf16, rows ld apart; losses fp32 [rows] assign; targets int32 [rows] in [0, V).
// A negative target is the ignored label: loss 0, gradient 0.
// The maximum and the sum are taken in one pass over memory (online softmax, Milakov & Gimelshein 2018, arXiv:1805.02867), a block
// of the row at a time: the block stays in the first-level cache for its two readings, and a new maximum rescales the sum once per
// block and not once per element. The gradient is the second pass. Sums: fp32 lanes in short blocks, then double.
#include <math.h>

#include "cpu/cpu_backend.h"
#include "cpu/math.h"
#include "cpu/rows.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr int64_t kBlock = 2048;

struct SoftmaxStatistics {
  float max;
  double sum;  // of exp(z - max)
};

template <typename T>
POLYPACA_INLINE SoftmaxStatistics softmax_statistics(const T* z, int64_t V) {
  SoftmaxStatistics s{-INFINITY, 0.0};
  for (int64_t begin = 0; begin < V; begin += kBlock) {
    const int64_t end = smaller(begin + kBlock, V);
    float block_max = -INFINITY;
#pragma omp simd reduction(max : block_max)
    for (int64_t v = begin; v < end; ++v) {
      const float x = to_float(z[v]);
      block_max = x > block_max ? x : block_max;
    }
    if (block_max > s.max) {
      s.sum *= exp(double(s.max) - double(block_max));
      s.max = block_max;
    }
    const float max = s.max;
    s.sum += blocked_sum(end - begin, [&](int64_t v) { return fast_exp(to_float(z[begin + v]) - max); });
  }
  return s;
}

template <typename T>
void cross_entropy_row(T* z, float* loss, int32_t target, int64_t V, float grad_scale, bool with_gradient) {
  if (target < 0) {
    *loss = 0.0f;
    if (with_gradient) {
      for (int64_t v = 0; v < V; ++v) store(z + v, 0.0f);
    }
    return;
  }
  const float target_logit = to_float(z[target]);
  const SoftmaxStatistics s = softmax_statistics(z, V);
  *loss = float(log(s.sum) + (double(s.max) - double(target_logit)));
  if (!with_gradient) return;
  const float max = s.max, factor = float(double(grad_scale) / s.sum);
#pragma omp simd
  for (int64_t v = 0; v < V; ++v) store(z + v, fast_exp(to_float(z[v]) - max) * factor);
  const double probability = exp(double(target_logit) - double(max)) / s.sum;
  store(z + target, float((probability - 1.0) * double(grad_scale)));
}

}  // namespace

void CpuBackend::cross_entropy(Matrix logits, float* losses, const int32_t* targets, int64_t rows, int64_t V, float grad_scale, bool with_gradient) {
  with_type(logits.dtype, [&]<typename T>(TypeTag<T>) {
#pragma omp parallel for schedule(static) if (rows * V >= kParallelElements)
    for (int64_t r = 0; r < rows; ++r) cross_entropy_row(row_of<T>(logits, r), losses + r, targets[r], V, grad_scale, with_gradient);
  });
}

}  // namespace polypaca::POLYPACA_ISA
