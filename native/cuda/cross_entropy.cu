// Softmax cross-entropy over the vocabulary, loss and gradient.
//   losses[r] = logsumexp(z[r]) - z[r][t],  t = targets[r]
//   unless grad_scale is null: z[r] = (softmax(z[r]) - onehot(t)) * *grad_scale, in place and in z's dtype
// logits z [rows, V] fp32 or bf16, rows ld apart, V and ld of any parity; losses fp32 [rows] assign; targets int32 [rows] in [0, V).
// A negative target is the ignored label: loss 0, gradient 0. grad_scale lies in device memory.
// One block per row (softmax_rows.cuh): one read for the statistics; the gradient reads the row again, by then from L2: a block of 1,024
// threads leaves a multiprocessor room for one row, so that the rows in flight fit it.
#include "cuda/cuda_backend.h"
#include "cuda/row_launch.h"
#include "cuda/softmax_rows.cuh"

namespace polypaca::POLYPACA_CUDA {
namespace {

template <typename T>
DEVICE void clear_row(T* z, int64_t V) {
  const RowCut<T> cut(z, V);
  T* body = z + cut.head;
  if (threadIdx.x < cut.head) store(z + threadIdx.x, 0.0f);
  for (int64_t i = threadIdx.x; i < cut.vectors; i += blockDim.x) store_16(body + i * kPerAccess<T>, Vec16{});
  if (threadIdx.x < cut.tail) store(body + cut.vectors * kPerAccess<T> + threadIdx.x, 0.0f);
}

template <typename T>
KERNEL BOUNDS(kMostRowThreads, 1) void cross_entropy(Rows<T> logits, float* losses, const int32_t* targets, int64_t V, const float* grad_scale) {
  SoftmaxShared& s = shared_memory<SoftmaxShared>();
  const int64_t r = blockIdx.x;
  const int32_t target = targets[r];
  T* z = logits[r];
  if (target < 0) {
    if (threadIdx.x == 0) losses[r] = 0.0f;
    if (grad_scale) clear_row(z, V);
    return;
  }
  const float target_logit = to_float(z[target]);  // before the row becomes its gradient: merged() has the barrier
  Softmax own{kLowest, 0.0f};
  visit_row(
      z, V, [&](T*, const float(&v)[kPerAccess<T>]) { absorb(own, v); },
      [&](T* p) {
        const float v[1] = {to_float(*p)};
        absorb(own, v);
      });
  const Softmax row = merged(own, s);
  const float loss = logf(row.sum) + (row.max - target_logit);
  if (threadIdx.x == 0) losses[r] = loss;
  if (!grad_scale) return;

  const float scale = *grad_scale, factor = scale / row.sum;
  visit_row(
      z, V,
      [&](T* p, const float(&v)[kPerAccess<T>]) {
        float d[kPerAccess<T>];
        for (int i = 0; i < kPerAccess<T>; ++i) d[i] = exponential(v[i] - row.max) * factor;
        store_16(p, pack(d, T{}));
      },
      [&](T* p) { store(p, exponential(to_float(*p) - row.max) * factor); });
  sync_threads();  // the target's place was just written by whoever had it
  if (threadIdx.x == 0) store(z + target, expm1f(-loss) * scale);  // softmax - 1 where loss = -log softmax
}

}  // namespace

void CudaBackend::cross_entropy(Matrix logits, float* losses, const int32_t* targets, int64_t rows, int64_t V, const float* grad_scale) {
  if (rows == 0) return;
  with_type(logits.dtype, [&]<typename T>(TypeTag<T>) {
    launch(POLYPACA_CUDA::cross_entropy<T>, Grid(rows), row_block_threads(V), sizeof(SoftmaxShared), stream(), rows_of<T>(logits), losses, targets, V, grad_scale);
  });
}

}  // namespace polypaca::POLYPACA_CUDA
