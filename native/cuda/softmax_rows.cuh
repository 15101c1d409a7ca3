// A row of scores read by a whole block: maximum and sum of its exponentials, and visits of every element in whole 16-byte accesses,
// but for the few before the first boundary of 16 bytes and behind the last. Maximum and sum come from one read (online softmax,
// Milakov & Gimelshein 2018, arXiv:1805.02867), fp32 per thread and merged in a fixed order.
#pragma once
#include "cuda/elements.cuh"
#include "cuda/launch.h"

namespace polypaca::POLYPACA_CUDA {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLowest = -3.402823466e38f;  // not -inf: its difference to itself is 0
constexpr int kMostRowThreads = 1024;
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

struct SoftmaxShared {
  float max[kMostRowThreads / kWarp], sum[kMostRowThreads / kWarp];
};

/// The block's threads' shares of a row put together, the same in every thread.
DEVICE Softmax merged(Softmax own, SoftmaxShared& s) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  const float warp_largest = warp_max(own.max);
  own.sum = warp_sum(own.sum * exponential(own.max - warp_largest));
  if (lane == 0) s.max[warp] = warp_largest, s.sum[warp] = own.sum;
  sync_threads();
  const float max = lane < warps ? s.max[lane] : kLowest, largest = warp_max(max);
  return {largest, warp_sum(lane < warps ? s.sum[lane] * exponential(max - largest) : 0.0f)};
}

/// Threads of a block for rows of V.
inline int row_block_threads(int64_t V) { return V >= 16 * kMostRowThreads ? kMostRowThreads : 256; }

}  // namespace polypaca::POLYPACA_CUDA
