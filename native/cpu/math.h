// exp, tanh and erf in fp32 without branches or tables, so that a loop over them vectorises for every instruction set.
// Errors below are the largest over a dense sample of the fp32 arguments, against double precision, with and without FMA (half a
// unit in the last place, ulp, is 6e-8). NaN stays NaN. Compiled once per instruction set, hence forced inline.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/dtype.h"

namespace polypaca::POLYPACA_ISA {

/// e^x, relative error 8.3e-8 (1 ulp). Below -87.33 (results under the smallest normal number) exactly 0, above 88.37 +inf.
/// e^x = 2^n e^r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 P(r), P a minimax polynomial (3e-9).
POLYPACA_INLINE float fast_exp(float x) {
  const float lower = -87.33f, upper = 89.0f;
  float t = x < lower ? lower : x;
  t = t > upper ? upper : t;
  const float rounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float shifted = t * 1.44269504f + rounder;
  const float n = shifted - rounder;
  const float r = (t - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts; n times the first is exact
  float p = 1.381446262e-3f;
  p = p * r + 8.368780455e-3f;
  p = p * r + 4.166839429e-2f;
  p = p * r + 1.666652011e-1f;
  p = p * r + 4.999999341e-1f;
  p = p * (r * r) + r;
  p = p + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, 4);
  bits = (bits + 127u) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return x < lower ? 0.0f : p * power;
}

/// tanh(x), relative error 1.4e-7 (1.3 ulp), also near 0.
POLYPACA_INLINE float fast_tanh(float x) {
  const float a = __builtin_fabsf(x), s = x * x;
  const float large = 1.0f - 2.0f / (fast_exp(2.0f * a) + 1.0f);
  float p = 2.142956058e-3f;
  p = p * s - 8.177391081e-3f;
  p = p * s + 2.170069987e-2f;
  p = p * s - 5.394676233e-2f;
  p = p * s + 1.333320600e-1f;
  p = p * s - 3.333333080e-1f;
  const float small = p * (s * a) + a;
  return __builtin_copysignf(a < 0.625f ? small : large, x);
}

/// erf(x), relative error 9.4e-8 (1.1 ulp), also near 0. Near 0 x + x P(x^2), further out 1 - exp(Q(|x|)).
POLYPACA_INLINE float fast_erf(float x) {
  const float a = __builtin_fabsf(x), s = x * x;
  const float t = a > 4.0f ? 4.0f : a;  // erf(4) rounds to 1
  float q = -1.72853470e-5f * t + 3.83197126e-4f;
  const float u = -3.88396438e-3f * t + 2.42546219e-2f;
  q = q * (t * t) + u;
  q = q * t - 1.06777877e-1f;
  q = q * t - 6.34846687e-1f;
  q = q * t - 1.28717512e-1f;
  q = q * t - t;
  const float large = 1.0f - fast_exp(q);
  float p = -5.96761703e-4f;
  p = p * s + 4.99119423e-3f;
  p = p * s - 2.67681349e-2f;
  p = p * s + 1.12819925e-1f;
  p = p * s - 3.76125336e-1f;
  p = p * s + 1.28379166e-1f;
  const float small = p * a + a;
  const float y = a > 0.927734375f ? large : small;
  return x != x ? x : __builtin_copysignf(y, x);
}

}  // namespace polypaca::POLYPACA_ISA
