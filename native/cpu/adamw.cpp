// AdamW: Adam (Kingma & Ba 2015, arXiv:1412.6980) with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101),
// and the global gradient norm.
//   g = clip * grad;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   p = p (1 - lr * weight_decay) - lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)
// m, v, grad fp32 [count]; p as MasterValues says. p, m, v are updated in place, grad is only read: one pass, each byte read once.
// Elements do not meet, so threads change nothing. The sum of squares is double throughout (a gradient of 1e-25 must not vanish), over
// fixed chunks added in order: the same for any number of threads.
#include <math.h>

#include "cpu/adamw_coefficients.h"
#include "cpu/cpu_backend.h"
#include "cpu/rows.h"

namespace polypaca::POLYPACA_ISA {
namespace {

template <typename Master>
POLYPACA_INLINE void update(const AdamWRange& r, const Coefficients& k, int64_t begin, int64_t end) {
  const Master p(r.master);
  float *m = r.m, *v = r.v;
  const float* grad = r.grad;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const float g = k.clip * grad[i];
    const float mi = k.beta1 * m[i] + k.one_minus_beta1 * g;
    const float vi = k.beta2 * v[i] + k.one_minus_beta2 * (g * g);
    p.store(i, p.load(i) * k.keep - k.step_size * (mi / (sqrtf(vi) * k.inv_sqrt_correction2 + k.epsilon)));
    m[i] = mi;
    v[i] = vi;
  }
}

/// Halves are put together and taken apart in loops of their own: with both widths in one loop GCC vectorises none of it.
void update_halves(const AdamWRange& r, const Coefficients& k, int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 512;
  float values[kBlock];
  for (int64_t first = begin; first < end; first += kBlock) {
    const int64_t n = smaller(kBlock, end - first);
    bf16* copy = r.master.copy + first;
    int16_t* remainder = r.master.remainder + first;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) values[i] = join(copy[i], remainder[i]);
    const AdamWRange block{{values, nullptr, nullptr}, r.m + first, r.v + first, r.grad + first, n, r.weight_decay};
    update<Fp32Master>(block, k, 0, n);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) copy[i] = split(values[i]).value;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) remainder[i] = split(values[i]).remainder;
  }
}

}  // namespace

void CpuBackend::adamw(const AdamWRange& range, const AdamWOptions& options) {
  if (!options.state->applies) return;
  constexpr int64_t kChunk = int64_t(1) << 13;
  const Coefficients k = coefficients(options, range.weight_decay);
#pragma omp parallel for schedule(static) if (range.count >= kParallelElements)
  for (int64_t begin = 0; begin < range.count; begin += kChunk) {
    const int64_t end = smaller(begin + kChunk, range.count);
    if (range.master.remainder) {
      update_halves(range, k, begin, end);
    } else {
      with_master(range.master, [&]<typename Master>(MasterTag<Master>) { update<Master>(range, k, begin, end); });
    }
  }
}

void CpuBackend::add_squares(double* total, const float* x, int64_t count) {
  constexpr int64_t kChunk = int64_t(1) << 14, kChunks = 256;
  double partial[kChunks];
  for (int64_t first = 0; first < count; first += kChunk * kChunks) {
    const int64_t left = count - first, chunks = smaller((left + kChunk - 1) / kChunk, kChunks);
#pragma omp parallel for schedule(static) if (left >= kParallelElements)
    for (int64_t i = 0; i < chunks; ++i) {
      const int64_t begin = first + i * kChunk, end = smaller(begin + kChunk, count);
      double sum = 0.0;
#pragma omp simd reduction(+ : sum)
      for (int64_t j = begin; j < end; ++j) sum += double(x[j]) * double(x[j]);
      partial[i] = sum;
    }
    for (int64_t i = 0; i < chunks; ++i) *total += partial[i];
  }
}

void CpuBackend::finish_norm(StepState* state) {
  const double norm = sqrt(state->sum_of_squares);
  state->applies = isfinite(state->loss_sum) && isfinite(norm);
  const double limit = double(state->max_grad_norm) / (norm + 1e-6);
  state->clip = state->max_grad_norm > 0 && limit < 1.0 ? float(limit) : 1.0f;
}

}  // namespace polypaca::POLYPACA_ISA
