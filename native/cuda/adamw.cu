// AdamW: Adam (Kingma & Ba 2015, arXiv:1412.6980) with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).
//   g = clip * grad;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   p = p (1 - lr * weight_decay) - lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)
// m, v, grad fp32 [count]; p as MasterValues says: fp32, fp32 with a bf16 copy, or halves. p, m, v are updated in place, grad is only
// read: one pass, each byte read once. clip, lr and the corrections are the step's (StepState, device memory); where it does not apply nothing is written.
// One thread per eight elements, whole 16-byte accesses where all pointers allow; elements do not meet.
#include "cuda/adamw_update.cuh"
#include "cuda/cuda_backend.h"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kThreads = 256;

template <bool kAligned>
DEVICE void update(const AdamWRange& r, const AdamWCoefficients& a, int64_t i, int64_t left) {
  float p[kVector], m[kVector], v[kVector], g[kVector];
  load_masters<kAligned>(p, r.master, i, left);
  load_elements<kAligned>(m, r.m + i, left);
  load_elements<kAligned>(v, r.v + i, left);
  load_elements<kAligned>(g, r.grad + i, left);
  for (int j = 0; j < kVector; ++j) adamw_update(p[j], m[j], v[j], g[j], a);
  store_elements<kAligned>(r.m + i, m, left);
  store_elements<kAligned>(r.v + i, v, left);
  store_masters<kAligned>(r.master, i, p, left);
}

template <bool kAligned>
KERNEL BOUNDS(kThreads, 3) void adamw(AdamWRange r, AdamWConstants constants, const StepState* state) {
  const int64_t i = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kVector, left = r.count - i;
  if (left <= 0 || !state->applies) return;
  const AdamWCoefficients a(constants, *state);
  if (kAligned && left >= kVector) {
    update<true>(r, a, i, left);
  } else {
    update<false>(r, a, i, left);
  }
}

}  // namespace

void CudaBackend::adamw(const AdamWRange& range, const AdamWOptions& options) {
  if (range.count == 0) return;
  const bool aligned = is_aligned(range.master) && is_aligned(range.m) && is_aligned(range.v) && is_aligned(range.grad);
  with_flag(aligned, [&]<bool kAligned>(std::bool_constant<kAligned>) {
    launch(POLYPACA_CUDA::adamw<kAligned>, Grid(ceil_divide(range.count, kThreads * kVector)), kThreads, 0, stream(), range, AdamWConstants(options, range.weight_decay), options.state);
  });
}

}  // namespace polypaca::POLYPACA_CUDA
