// Rotary position embedding, Su et al. 2021, arXiv:2104.09864, by halves as GPT-NeoX and LLaMA lay it out.
//   with c, s = cos, sin(position * theta^(-2i / rotary_dim)), i < rotary_dim / 2:
//   x[i], x[i + rotary_dim / 2] = c x[i] - s x[i + rotary_dim / 2],  s x[i] + c x[i + rotary_dim / 2]
// The inverse rotation (s negated) is the transpose: it carries a gradient of rotated values to the unrotated ones.
#pragma once
#include <cstdint>

#include "backend/backend.h"
#include "core/dtype.h"

namespace polypaca::POLYPACA_ISA {

/// Pairs i .. i + kCount - 1. The count is a constant: rotary_dim is often so small that all of it would fall into the scalar rest
/// of a vectorised loop.
template <int kCount, typename T>
POLYPACA_INLINE void rotate_pairs(T* first, T* second, const float* cos, const float* sin, float sign) {
#pragma omp simd
  for (int i = 0; i < kCount; ++i) {
    const float a = to_float(first[i]), b = to_float(second[i]), s = sign * sin[i];
    store(first + i, a * cos[i] - b * s);
    store(second + i, b * cos[i] + a * s);
  }
}

/// Rotates one head's vector in place. sign 1 rotates, -1 rotates back.
template <typename T>
POLYPACA_INLINE void rotate(T* x, const Rope& rope, int64_t position, float sign) {
  const int64_t half = rope.rotary_dim / 2;
  const float *cos = rope.cos + position * half, *sin = rope.sin + position * half;
  T *first = x, *second = x + half;
  int64_t i = 0;
  for (; i + 16 <= half; i += 16) rotate_pairs<16>(first + i, second + i, cos + i, sin + i, sign);
  for (; i + 8 <= half; i += 8) rotate_pairs<8>(first + i, second + i, cos + i, sin + i, sign);
  for (; i < half; ++i) rotate_pairs<1>(first + i, second + i, cos + i, sin + i, sign);
}

POLYPACA_INLINE void rotate(const HeadView& x, int64_t token, int64_t head, const Rope& rope, int64_t position, float sign) {
  const int64_t offset = token * x.token_stride + head * x.head_stride;
  if (x.dtype == DType::bf16) {
    rotate(static_cast<bf16*>(x.data) + offset, rope, position, sign);
  } else {
    rotate(static_cast<float*>(x.data) + offset, rope, position, sign);
  }
}

}  // namespace polypaca::POLYPACA_ISA
