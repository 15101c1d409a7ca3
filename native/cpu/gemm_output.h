// The way out of the dense product: sums in fp32 become c = beta * c + alpha * keep(sum) + bias, rounded once.
#pragma once
#include "cpu/gemm.h"
#include "cpu/gemm_pack.h"

namespace polypaca::POLYPACA_ISA {

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
  /// Nothing is to be done that the micro-kernel cannot do itself.
  POLYPACA_INLINE bool plain() const { return !earlier && !out.keep && out.alpha == 1.0f && (out.beta == 0.0f || out.beta == 1.0f); }
};

/// One element of C; its row starts at c, the earlier sums' at `earlier`.
template <typename T>
POLYPACA_INLINE void store_element(const GemmOutput& out, T* c, const float* earlier, int64_t n, float x, bool kept) {
  if (earlier) x += earlier[n];
  x = kept ? out.alpha * x : 0.0f;
  if (out.bias) x += out.bias[n];
  if (out.beta != 0.0f) x += out.beta * to_float(c[n]);
  store(c + n, x);
}

template <typename Unit, typename T>
POLYPACA_INLINE void store_rows(const Stage& stage, const float* tile, int64_t rows, int64_t width, int64_t m, int64_t n, int64_t N) {
  const GemmOutput& out = stage.out;
  const int64_t columns = N - n < width ? N - n : width, whole = columns / kLanes * kLanes;
  for (int64_t r = 0; r < rows; ++r, tile += width) {
    T* c = static_cast<T*>(out.c.data) + (m + r) * out.c.ld;
    const float* earlier = stage.earlier ? stage.earlier + (m + r) * N : nullptr;
    const uint32_t kept = kept_bits(out.keep ? out.keep + (m + r) * out.keep_stride : nullptr, n, columns);
    for (int64_t j = 0; j < whole; j += kLanes) {
      Floats x = load_floats(tile + j);
      if (earlier) x += load_floats(earlier + n + j);
      if (out.keep) x = keep_lanes(x, kept >> j);
      x *= out.alpha;
      if (out.bias) x += load_floats(out.bias + n + j);
      if (out.beta != 0.0f) x += out.beta * load_floats(c + n + j);
      store_floats(Unit{}, c + n + j, x);
    }
    for (int64_t j = whole; j < columns; ++j) store_element(out, c, earlier, n + j, tile[j], (kept >> j) & 1u);
  }
}

/// tile [rows][width] becomes C's rows m .. and columns n .. (those below N).
template <typename Unit>
POLYPACA_INLINE void store_tile(const Stage& stage, const float* tile, int64_t rows, int64_t width, int64_t m, int64_t n, int64_t N) {
  if (stage.out.c.dtype == DType::bf16) {
    store_rows<Unit, bf16>(stage, tile, rows, width, m, n, N);
  } else {
    store_rows<Unit, float>(stage, tile, rows, width, m, n, N);
  }
}

}  // namespace polypaca::POLYPACA_ISA
