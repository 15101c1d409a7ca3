// Maximum and sum of a row's exponentials: what softmax, log-softmax and cross-entropy are made of.
// Both are taken in one pass over memory (online softmax, Milakov & Gimelshein 2018, arXiv:1805.02867), a block of the row at a time:
// the block stays in the first-level cache for its two readings, and a new maximum rescales the sum once per block and not once per
// element. Sums: fp32 lanes in short blocks, then double.
#pragma once
#include <math.h>

#include "cpu/rows.h"
#include "cpu/vector_math.h"

namespace polypaca::POLYPACA_ISA {

constexpr int64_t kSoftmaxBlock = 2048;  // values, a multiple of every kLanes

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
  for (int64_t begin = 0; begin < V; begin += kSoftmaxBlock) {
    const int64_t count = smaller(kSoftmaxBlock, V - begin);
    const float block_max = largest(z + begin, count);
    if (block_max > s.max) {
      s.sum *= exp(double(s.max) - double(block_max));
      s.max = block_max;
    }
    s.sum += sum_of_exponentials(z + begin, count, s.max);
  }
  return s;
}

}  // namespace polypaca::POLYPACA_ISA
