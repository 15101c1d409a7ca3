// The way out of the dense product: a tile of fp32 sums becomes c = beta * c + alpha * keep(sum) + bias, rounded once.
#pragma once
#include "cpu/gemm.h"
#include "cpu/gemm_pack.h"

namespace polypaca::POLYPACA_ISA {

POLYPACA_INLINE Floats load_floats(const float* p) { return *(const UnalignedFloats*)p; }
POLYPACA_INLINE Floats load_floats(const bf16* p) { return (Floats)(__builtin_convertvector(*(const UnalignedHalves*)p, Words) << 16); }

POLYPACA_INLINE void store_floats(float* p, Floats x) { *(UnalignedFloats*)p = x; }
/// to_bf16 of core/dtype.h, lane by lane.
POLYPACA_INLINE void store_floats(bf16* p, Floats x) {
  const Words bits = (Words)x;
  const Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16, quiet_nan = (bits >> 16) | 0x40u;
  const Words nan = (Words)((bits & 0x7FFFFFFFu) > 0x7F800000u);
  *(UnalignedHalves*)p = __builtin_convertvector((rounded & ~nan) | (quiet_nan & nan), Halves);
}

/// x where the lane's bit is set, else 0.
POLYPACA_INLINE Floats keep_lanes(Floats x, uint32_t bits) {
  Words lane_bit;
  for (int i = 0; i < kLanes; ++i) lane_bit[i] = 1u << i;
  return (Floats)((Words)x & (Words)((splat(bits) & lane_bit) != 0));
}

template <typename T, bool kMasked>
POLYPACA_INLINE void store_rows(const GemmOutput& out, const float* tile, int64_t rows, int64_t width, int64_t m, int64_t n, int64_t N) {
  const float alpha = out.alpha, beta = out.beta;
  const int64_t columns = N - n < width ? N - n : width, whole = columns / kLanes * kLanes;
  for (int64_t r = 0; r < rows; ++r, tile += width) {
    T* c = static_cast<T*>(out.c.data) + (m + r) * out.c.ld + n;
    const uint32_t kept = kMasked ? kept_bits(out.keep + (m + r) * out.keep_stride, n, columns) : ~0u;
    for (int64_t j = 0; j < whole; j += kLanes) {
      Floats x = load_floats(tile + j);
      if (kMasked) x = keep_lanes(x, kept >> j);
      x *= alpha;
      if (out.bias) x += load_floats(out.bias + n + j);
      if (beta != 0.0f) x += beta * load_floats(c + j);
      store_floats(c + j, x);
    }
    for (int64_t j = whole; j < columns; ++j) {
      float x = (kept >> j) & 1u ? alpha * tile[j] : 0.0f;
      if (out.bias) x += out.bias[n + j];
      if (beta != 0.0f) x += beta * to_float(c[j]);
      store(c + j, x);
    }
  }
}

/// tile [rows][width] becomes C's rows m .. and columns n .. (those below N).
POLYPACA_INLINE void store_tile(const GemmOutput& out, const float* tile, int64_t rows, int64_t width, int64_t m, int64_t n, int64_t N) {
  if (out.keep) {
    out.c.dtype == DType::bf16 ? store_rows<bf16, true>(out, tile, rows, width, m, n, N) : store_rows<float, true>(out, tile, rows, width, m, n, N);
  } else {
    out.c.dtype == DType::bf16 ? store_rows<bf16, false>(out, tile, rows, width, m, n, N) : store_rows<float, false>(out, tile, rows, width, m, n, N);
  }
}

}  // namespace polypaca::POLYPACA_ISA
