// Softmax cross-entropy over the vocabulary, loss and gradient.
//   losses[r] = logsumexp(z[r]) - z[r][t],  t = targets[r]
//   with a gradient: z[r] = (softmax(z[r]) - onehot(t)) * grad_scale, in place and in z's dtype
// logits z [rows, V] fp32 or bf16, rows ld apart; losses fp32 [rows] assign; targets int32 [rows] in [0, V).
// A negative target is the ignored label: loss 0, gradient 0.
// One pass over memory for the row's statistics (softmax_statistics.h), a second one for the gradient.
#include <math.h>

#include "cpu/cpu_backend.h"
#include "cpu/softmax_statistics.h"

namespace polypaca::POLYPACA_ISA {
namespace {

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
