// The way out of the dense product: a tile of fp32 sums becomes c = beta * c + alpha * keep(sum) + bias, rounded once.
#pragma once
#include "cpu/gemm.h"
#include "cpu/gemm_pack.h"

namespace polypaca::POLYPACA_ISA {

POLYPACA_INLINE Floats load_floats(const float* p) { return *(const UnalignedFloats*)p; }
POLYPACA_INLINE Floats load_floats(const bf16* p) { return (Floats)(__builtin_convertvector(*(const UnalignedHalves*)p, Words) << 16); }

template <typename Unit>
POLYPACA_INLINE void store_floats(Unit, float* p, Floats x) {
  *(UnalignedFloats*)p = x;
}
/// to_bf16 of core/dtype.h, lane by lane.
POLYPACA_INLINE void store_floats(Fp32Unit, bf16* p, Floats x) {
  const Words bits = (Words)x;
  const Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16, quiet_nan = (bits >> 16) | 0x40u;
  const Words nan = (Words)((bits & 0x7FFFFFFFu) > 0x7F800000u);
  *(UnalignedHalves*)p = __builtin_convertvector((rounded & ~nan) | (quiet_nan & nan), Halves);
}
#ifdef __AVX512F__
/// The same in one instruction, except that it takes subnormal values for zero.
POLYPACA_INLINE void store_floats(Bf16Unit, bf16* p, Floats x) {
  Halves halves;
  asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(x));
  *(UnalignedHalves*)p = halves;
}
#endif

/// x where the lane's bit is set, else 0.
POLYPACA_INLINE Floats keep_lanes(Floats x, uint32_t bits) {
#ifdef __AVX512F__
  return (Floats)_mm512_maskz_mov_ps(__mmask16(bits), (__m512)x);
#else
  Words lane_bit;
  for (int i = 0; i < kLanes; ++i) lane_bit[i] = 1u << i;
  return (Floats)((Words)x & (Words)((splat(bits) & lane_bit) != 0));
#endif
}

/// A product over one cut of K: earlier cuts' sums come from `earlier`, and all but the last cut leave theirs in out.c.
struct Stage {
  GemmOutput out;
  const float* earlier = nullptr;  // [M, N], dense
};

/// kPlain: nothing but rounding is to be done.
template <typename Unit, typename T, bool kPlain>
POLYPACA_INLINE void store_rows(const Stage& stage, const float* tile, int64_t rows, int64_t width, int64_t m, int64_t n, int64_t N) {
  const GemmOutput& out = stage.out;
  const int64_t columns = N - n < width ? N - n : width, whole = columns / kLanes * kLanes;
  for (int64_t r = 0; r < rows; ++r, tile += width) {
    T* c = static_cast<T*>(out.c.data) + (m + r) * out.c.ld + n;
    const float* earlier = !kPlain && stage.earlier ? stage.earlier + (m + r) * N + n : nullptr;
    const uint32_t kept = !kPlain && out.keep ? kept_bits(out.keep + (m + r) * out.keep_stride, n, columns) : ~0u;
    if (kPlain && columns == kPanel) {
      store_floats(Unit{}, c, load_floats(tile));
      store_floats(Unit{}, c + kLanes, load_floats(tile + kLanes));
      continue;
    }
    for (int64_t j = 0; j < whole; j += kLanes) {
      Floats x = load_floats(tile + j);
      if (!kPlain) {
        if (earlier) x += load_floats(earlier + j);
        if (out.keep) x = keep_lanes(x, kept >> j);
        x *= out.alpha;
        if (out.bias) x += load_floats(out.bias + n + j);
        if (out.beta != 0.0f) x += out.beta * load_floats(c + j);
      }
      store_floats(Unit{}, c + j, x);
    }
    for (int64_t j = whole; j < columns; ++j) {
      float x = tile[j];
      if (!kPlain) {
        if (earlier) x += earlier[j];
        x = (kept >> j) & 1u ? out.alpha * x : 0.0f;
        if (out.bias) x += out.bias[n + j];
        if (out.beta != 0.0f) x += out.beta * to_float(c[j]);
      }
      store(c + j, x);
    }
  }
}

/// tile [rows][width] becomes C's rows m .. and columns n .. (those below N).
template <typename Unit>
POLYPACA_INLINE void store_tile(const Stage& stage, const float* tile, int64_t rows, int64_t width, int64_t m, int64_t n, int64_t N) {
  const GemmOutput& out = stage.out;
  const bool plain = !stage.earlier && !out.keep && !out.bias && out.alpha == 1.0f && out.beta == 0.0f;
  if (out.c.dtype == DType::bf16) {
    plain ? store_rows<Unit, bf16, true>(stage, tile, rows, width, m, n, N) : store_rows<Unit, bf16, false>(stage, tile, rows, width, m, n, N);
  } else {
    plain ? store_rows<Unit, float, true>(stage, tile, rows, width, m, n, N) : store_rows<Unit, float, false>(stage, tile, rows, width, m, n, N);
  }
}

}  // namespace polypaca::POLYPACA_ISA
