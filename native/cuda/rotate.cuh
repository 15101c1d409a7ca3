// Rotary position embedding by halves, Su et al. 2021, arXiv:2104.09864, as native/cpu/rope.h has it:
//   with c, s = cos, sin(position * theta^(-2i / rotary_dim)), i < rotary_dim / 2:
//   x[i], x[i + rotary_dim / 2] = c x[i] - s x[i + rotary_dim / 2],  s x[i] + c x[i + rotary_dim / 2]
// The inverse rotation (s negated) is the transpose: it carries a gradient of rotated values to the unrotated ones.
#pragma once
#include "backend/backend.h"
#include "cuda/device.h"

namespace polypaca::POLYPACA_CUDA {

/// Rotates a pair; sign 1 rotates, -1 rotates back.
DEVICE void rotate_pair(float& a, float& b, float cos, float sin) {
  const float first = a * cos - b * sin;
  b = b * cos + a * sin;
  a = first;
}

/// Rotates back the first `count` rows of fp32 values in shared memory, `pitch` apart, at positions `position`, `position` + 1, ...
/// All kBlock threads; barriers before (the rows are written) and after it are the caller's.
template <int kBlock>
DEVICE void rotate_back(float* rows, int pitch, int count, const Rope& rope, int position) {
  const int half = int(rope.rotary_dim) / 2;
  for (int i = int(threadIdx.x); i < count * half; i += kBlock) {
    const int r = i / half, c = i % half;
    const int64_t at = int64_t(position + r) * half + c;
    float* x = rows + r * pitch + c;
    rotate_pair(x[0], x[half], rope.cos[at], -rope.sin[at]);
  }
}

}  // namespace polypaca::POLYPACA_CUDA
