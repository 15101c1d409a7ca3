// A register's worth of fp32 values at a time: loads and stores of fp32 and bf16 rows, also of their ends, and the functions that
// softmax and the activations are made of. Errors are the largest over a dense sample against double precision; NaN stays NaN.
// Compiled once per instruction set: GCC's vector extensions, as wide as the target's registers; everything is forced inline.
#pragma once
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "cpu/gemm_micro.h"

namespace polypaca::POLYPACA_ISA {

typedef int32_t Ints __attribute__((vector_size(4 * kLanes), may_alias));

POLYPACA_INLINE Floats all_lanes(float x) { return x - Floats{}; }
POLYPACA_INLINE Floats select(Ints condition, Floats a, Floats b) { return Floats((Words(condition) & Words(a)) | (~Words(condition) & Words(b))); }
POLYPACA_INLINE Floats magnitude(Floats x) { return Floats(Words(x) & splat(0x7FFFFFFFu)); }

/// The first `count` (1 .. kLanes) values at p, the other lanes 0.
template <typename T>
POLYPACA_INLINE Floats load_floats(const T* p, int64_t count) {
  if (count >= kLanes) return load_floats(p);
  Floats x{};
  for (int l = 0; l < int(count); ++l) x[l] = to_float(p[l]);
  return x;
}
/// The first `count` (1 .. kLanes) lanes to p, rounded to its type.
template <typename T>
POLYPACA_INLINE void store_floats(T* p, Floats x, int64_t count) {
  if (count >= kLanes) return store_floats(Fp32Unit{}, p, x);
  for (int l = 0; l < int(count); ++l) store(p + l, x[l]);
}

/// The larger of each pair; b where one is NaN.
POLYPACA_INLINE Floats larger_of(Floats a, Floats b) {
#if defined(__AVX512F__)
  return Floats(_mm512_maskz_max_ps(0xFFFF, __m512(a), __m512(b)));  // maskz: GCC 12 warns about its own plain forms (PR 105593)
#else
  return a > b ? a : b;
#endif
}

/// 2^x for x <= 0 (or little above), relative error 1e-7; 2^-126 for everything below -126, so that no denormal slows a product.
POLYPACA_INLINE Floats exp2_of(Floats x) {
  x = larger_of(all_lanes(-126.0f), x);
#if defined(__AVX512F__)
  const Floats n = Floats(_mm512_maskz_roundscale_ps(0xFFFF, __m512(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
  const float rounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Floats shifted = x + rounder, n = shifted - rounder;
#endif
  const Floats r = x - n;  // exact; minimax polynomial of (2^r - 1) / r on [-1/2, 1/2], error 2e-9
  Floats p = 1.535325924e-4f * r + 1.339900348e-3f;
  p = p * r + 9.618438601e-3f;
  p = p * r + 5.550332163e-2f;
  p = p * r + 2.402264790e-1f;
  p = p * r + 6.931472030e-1f;
  p = p * r + 1.0f;
#if defined(__AVX512F__)
  return Floats(_mm512_maskz_scalef_ps(0xFFFF, __m512(p), __m512(n)));
#else
  const Ints power = (reinterpret_cast<const Ints&>(shifted) + 127) << 23;
  return p * reinterpret_cast<const Floats&>(power);
#endif
}

/// e^x for x <= 88, relative error 1e-7 near 0, growing by 6e-8 |x|; 2^-126 for everything below -87.
POLYPACA_INLINE Floats exp_of(Floats x) { return exp2_of(x * 1.44269504f); }

/// 1 / (1 + e^-x), relative error 3e-7; 0 where e^-x overflows.
POLYPACA_INLINE Floats sigmoid_of(Floats x) {
  const Floats power = x * -1.44269504f;
  return 1.0f / (1.0f + exp2_of(select(power > all_lanes(128.0f), all_lanes(128.0f), power)));  // 2^128 is infinite
}

/// Phi(u) = (1 + erf(u / sqrt 2)) / 2 and e^(-u^2 / 2), of which the first is made and which its derivative needs. Relative error
/// 5e-7 where |u| < 3, the tail included: Phi(-|u|) = e^(-u^2 / 2) P(t), t = 1 / (1 + |u| / sqrt 8), P a minimax fit of
/// erfcx(|u| / sqrt 2) / 2 (error 3e-8).
struct NormalCdf {
  Floats cdf, bell;
};
POLYPACA_INLINE NormalCdf normal_cdf(Floats u) {
  const Floats power = u * u * -0.72134752f, bell = select(power < all_lanes(-126.0f), Floats{}, exp2_of(power));
  const Floats t = 1.0f / (1.0f + 0.35355339f * magnitude(u));
  Floats p = -2.706368303e-02f * t + 1.295342463e-01f;
  p = p * t - 2.152877420e-01f;
  p = p * t + 1.036616200e-01f;
  p = p * t + 1.400598771e-02f;
  p = p * t + 8.786200036e-02f;
  p = p * t + 1.257892058e-01f;
  p = p * t + 1.403719901e-01f;
  p = p * t + 1.411302832e-01f;
  p = p * t - 3.923634224e-06f;
  const Floats tail = bell * p;
  return {select(u < Floats{}, tail, 1.0f - tail), bell};
}

}  // namespace polypaca::POLYPACA_ISA
