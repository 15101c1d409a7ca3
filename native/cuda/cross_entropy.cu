// Softmax cross-entropy over the vocabulary, loss and gradient.
//   losses[r] = logsumexp(z[r]) - z[r][t],  t = targets[r]
//   unless grad_scale is null: z[r] = (softmax(z[r]) - onehot(t)) * *grad_scale, in place and in z's dtype
// logits z [rows, V] fp32 or bf16, rows ld apart, V and ld of any parity; losses fp32 [rows] assign; targets int32 [rows] in [0, V).
// A negative target is the ignored label: loss 0, gradient 0. grad_scale lies in device memory.
// One block per row. Maximum and sum come from one read (online softmax, Milakov & Gimelshein 2018, arXiv:1805.02867), fp32 per thread
// and merged in a fixed order; the gradient reads the row again, by then from L2: a block of 1,024 threads leaves a multiprocessor
// room for one row, so that the rows in flight fit it. Whole 16-byte accesses but for the few elements before the first boundary of 16
// bytes and behind the last.
#include "cuda/cuda_backend.h"
#include "cuda/reduce.cuh"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLowest = -3.402823466e38f;  // not -inf: its difference to itself is 0
constexpr int kMostThreads = 1024;
constexpr int kBatch = 4;  // 16-byte accesses that a thread has in flight

/// exp(x)
DEVICE float exponential(float x) { return fast_exp2(kLog2E * x); }

struct Softmax {
  float max, sum;  // of exp(z - max)
};

template <typename T>
constexpr int kPerAccess = 16 / sizeof(T);

DEVICE void unpack(float (&v)[8], const Vec16& raw, bf16) {
  for (int i = 0; i < 4; ++i) v[2 * i] = low_bf16(raw.w[i]), v[2 * i + 1] = high_bf16(raw.w[i]);
}
DEVICE void unpack(float (&v)[4], const Vec16& raw, float) {
  for (int i = 0; i < 4; ++i) v[i] = float_from_bits(raw.w[i]);
}
DEVICE Vec16 pack(const float (&v)[8], bf16) { return {{pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])}}; }
DEVICE Vec16 pack(const float (&v)[4], float) { return {{bits_of(v[0]), bits_of(v[1]), bits_of(v[2]), bits_of(v[3])}}; }

template <int kCount>
DEVICE void absorb(Softmax& s, const float (&v)[kCount]) {
  float max = s.max;
  for (int i = 0; i < kCount; ++i) max = fmaxf(max, v[i]);
  float sum = s.sum * exponential(s.max - max);
  for (int i = 0; i < kCount; ++i) sum += exponential(v[i] - max);
  s = {max, sum};
}

/// A row cut at the first and the last boundary of 16 bytes.
template <typename T>
struct RowCut {
  int64_t head, vectors, tail;  // elements, whole accesses, elements

  DEVICE RowCut(const T* z, int64_t V) {
    const int64_t to_boundary = int64_t((16 - reinterpret_cast<uintptr_t>(z) % 16) % 16 / sizeof(T));
    head = smaller(to_boundary, V);
    vectors = (V - head) / kPerAccess<T>;
    tail = V - head - vectors * kPerAccess<T>;
  }
};

/// Calls vector(place, values) for every whole access of the row, kBatch reads at a time, and scalar(place) for the elements around
/// them. No element is seen by two threads.
template <typename T, typename Vector, typename Scalar>
DEVICE void visit_row(T* z, int64_t V, Vector&& vector, Scalar&& scalar) {
  const RowCut<T> cut(z, V);
  if (threadIdx.x < cut.head) scalar(z + threadIdx.x);
  T* body = z + cut.head;
  for (int64_t base = threadIdx.x; base < cut.vectors; base += int64_t(kBatch) * blockDim.x) {
    Vec16 raw[kBatch];
    for (int k = 0; k < kBatch; ++k) {
      const int64_t i = base + k * int64_t(blockDim.x);
      if (i < cut.vectors) raw[k] = load_16(body + i * kPerAccess<T>);
    }
    for (int k = 0; k < kBatch; ++k) {
      const int64_t i = base + k * int64_t(blockDim.x);
      if (i >= cut.vectors) break;
      float v[kPerAccess<T>];
      unpack(v, raw[k], T{});
      vector(body + i * kPerAccess<T>, v);
    }
  }
  if (threadIdx.x < cut.tail) scalar(body + cut.vectors * kPerAccess<T> + threadIdx.x);
}

struct CrossEntropyShared {
  float max[kMostThreads / kWarp], sum[kMostThreads / kWarp];
};

/// The block's threads' shares of a row put together, the same in every thread.
DEVICE Softmax merged(Softmax own, CrossEntropyShared& s) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  const float warp_largest = warp_max(own.max);
  own.sum = warp_sum(own.sum * exponential(own.max - warp_largest));
  if (lane == 0) s.max[warp] = warp_largest, s.sum[warp] = own.sum;
  sync_threads();
  const float max = lane < warps ? s.max[lane] : kLowest, largest = warp_max(max);
  return {largest, warp_sum(lane < warps ? s.sum[lane] * exponential(max - largest) : 0.0f)};
}

template <typename T>
DEVICE void clear_row(T* z, int64_t V) {
  const RowCut<T> cut(z, V);
  T* body = z + cut.head;
  if (threadIdx.x < cut.head) store(z + threadIdx.x, 0.0f);
  for (int64_t i = threadIdx.x; i < cut.vectors; i += blockDim.x) store_16(body + i * kPerAccess<T>, Vec16{});
  if (threadIdx.x < cut.tail) store(body + cut.vectors * kPerAccess<T> + threadIdx.x, 0.0f);
}

template <typename T>
KERNEL BOUNDS(kMostThreads, 1) void cross_entropy(Rows<T> logits, float* losses, const int32_t* targets, int64_t V, const float* grad_scale) {
  CrossEntropyShared& s = shared_memory<CrossEntropyShared>();
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
  const int threads = V >= 16 * kMostThreads ? kMostThreads : 256;
  with_type(logits.dtype, [&]<typename T>(TypeTag<T>) {
    launch(POLYPACA_CUDA::cross_entropy<T>, Grid(rows), threads, sizeof(CrossEntropyShared), stream(), rows_of<T>(logits), losses, targets, V, grad_scale);
  });
}

}  // namespace polypaca::POLYPACA_CUDA
