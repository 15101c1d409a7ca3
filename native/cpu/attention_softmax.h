// The element-wise passes of blockwise attention, between its products: scores to probabilities with a running maximum (forward),
// scores and dp to probabilities and the scores' gradient (backward). Formulas: attention.cpp. All exponents are to base 2; the caller
// folds log2(e) into scale2 = scale log2(e) and slope2 = slope log2(e). What the diagonal masks becomes exactly 0.
// Results are left as operands of the next product: for Fp32Unit in place, for Bf16Unit two rows of results as one row of units,
// which is in place too, since a row of units lies no further than the rows it is made of.
#pragma once
#include <cstdint>

#include "cpu/attention_tiles.h"

namespace polypaca::POLYPACA_ISA {

constexpr int64_t kBlock = 64;  // queries and keys of a block
constexpr float kLog2E = 1.44269504f, kMasked = -1e30f;

// The tiles of one thread live on its stack (at most 700 KiB): no allocation, nothing to free.

/// Forward keeps scores transposed, [keys][queries]: the softmax then runs along the lanes, without horizontal steps.
struct ForwardTiles {
  alignas(64) float q_t[kMaxHeadDim * kBlock];  // [D][queries], units along D
  alignas(64) float k[kBlock * kMaxHeadDim];    // [keys][D], units along D
  alignas(64) float v[kBlock * kMaxHeadDim];    // [keys][D], units across keys
  alignas(64) float out[kBlock * kMaxHeadDim];  // [queries][D]
  alignas(64) float p_t[kBlock * kBlock];       // scores, then probabilities as units across keys
  alignas(64) float max[kBlock], sum[kBlock], rescale[kBlock];
};

struct BackwardTiles {
  alignas(64) float k[kBlock * kMaxHeadDim];                                  // [keys][D], units across keys
  alignas(64) float k_t[kMaxHeadDim * kBlock], v_t[kMaxHeadDim * kBlock];     // [D][keys], units along D
  alignas(64) float q[kBlock * kMaxHeadDim], dout[kBlock * kMaxHeadDim];      // [queries][D], units along D
  alignas(64) float q_across[kBlock * kMaxHeadDim], dout_across[kBlock * kMaxHeadDim];  // [queries][D], units across queries; Bf16Unit only
  alignas(64) float dk[kBlock * kMaxHeadDim], dv[kBlock * kMaxHeadDim], dq[kBlock * kMaxHeadDim];
  alignas(64) float p[kBlock * kBlock], ds[kBlock * kBlock];  // [queries][keys], then units across queries
  alignas(64) float ds_along[kBlock * kBlock];                // ds as units along keys; Bf16Unit only
  alignas(64) float lse2[kBlock], delta[kBlock];
};

/// `distance0` is first key - first query of the block.
template <typename Unit, bool kDiagonal, bool kAlibi>
void softmax_pass(ForwardTiles& t, int64_t keys, int64_t queries, float distance0, float scale2, float slope2) {
  constexpr int64_t kStep = Unit::kElements;
  const Floats lane = lane_numbers();
  for (int64_t c = 0; c < queries; c += kLanes) {
    const Floats query = lane + float(c);
    const int64_t end = rounded_up(kDiagonal ? smaller(keys, c + kLanes) : keys, kStep);  // later keys are masked for the whole column
    Floats high = all_lanes(kMasked);
    for (int64_t j = 0; j < end; ++j) {
      Floats& x = floats_at(t.p_t + j * kBlock + c);
      Floats s = x * scale2;
      if constexpr (kAlibi) s += slope2 * ((distance0 + float(j)) - query);
      if constexpr (kDiagonal) s = query < all_lanes(float(j)) ? all_lanes(kMasked) : s;
      if constexpr (kAlibi || kDiagonal) x = s;
      high = larger_of(high, s);
    }
    Floats& max = floats_at(t.max + c);
    high = larger_of(high, max);
    const Floats shrink = exp2_of(max - high);
    max = high;
    Floats sum = Floats{};
    for (int64_t j = 0; j < end; j += kStep) {
      Floats p[kStep];
      for (int64_t u = 0; u < kStep; ++u) {
        const Floats x = floats_at(t.p_t + (j + u) * kBlock + c);
        p[u] = exp2_of((kAlibi || kDiagonal) ? x - high : x * scale2 - high);
        if constexpr (kDiagonal) p[u] = query < all_lanes(float(j + u)) ? Floats{} : p[u];
        sum += p[u];
      }
      store_units<Unit>(t.p_t + j / kStep * kBlock + c, p);
    }
    floats_at(t.rescale + c) = shrink;
    floats_at(t.sum + c) = floats_at(t.sum + c) * shrink + sum;
  }
}

template <typename Unit>
POLYPACA_INLINE void softmax_block(ForwardTiles& t, int64_t keys, int64_t queries, bool diagonal, float distance0, float scale2, float slope2) {
  if (slope2 != 0.0f) {
    diagonal ? softmax_pass<Unit, true, true>(t, keys, queries, distance0, scale2, slope2) : softmax_pass<Unit, false, true>(t, keys, queries, distance0, scale2, slope2);
  } else {
    diagonal ? softmax_pass<Unit, true, false>(t, keys, queries, distance0, scale2, slope2) : softmax_pass<Unit, false, false>(t, keys, queries, distance0, scale2, slope2);
  }
}

/// p: scores to probabilities; ds: dp to the scores' gradient.
template <typename Unit, bool kDiagonal, bool kAlibi>
void gradient_pass(BackwardTiles& t, int64_t keys, int64_t queries, float distance0, float scale2, float slope2) {
  constexpr int64_t kStep = Unit::kElements;
  const Floats lane = lane_numbers();
  for (int64_t i = 0; i < queries; i += kStep) {
    const int64_t end = kDiagonal ? smaller(keys, i / kRowsAtOnce * kRowsAtOnce + kRowsAtOnce) : keys;
    for (int64_t c = 0; c < end; c += kLanes) {
      const Floats key = lane + float(c);
      Floats p[kStep], ds[kStep];
      for (int64_t u = 0; u < kStep; ++u) {
        const int64_t at = (i + u) * kBlock + c;
        Floats s = floats_at(t.p + at) * scale2 - t.lse2[i + u];
        if constexpr (kAlibi) s += slope2 * (key + (distance0 - float(i + u)));
        p[u] = exp2_of(s);
        if constexpr (kDiagonal) p[u] = key > all_lanes(float(i + u)) ? Floats{} : p[u];
        ds[u] = p[u] * (floats_at(t.ds + at) - t.delta[i + u]);
      }
      store_units<Unit>(t.p + i / kStep * kBlock + c, p);
      store_units<Unit>(t.ds + i / kStep * kBlock + c, ds);
#if defined(__AVX512F__)
      if constexpr (kStep == 2) {
        const __m512i both = __m512i(round_to_bf16(ds[0], ds[1]));
        _mm256_store_si256(reinterpret_cast<__m256i*>(t.ds_along + i * (kBlock / 2) + c / 2), _mm512_maskz_extracti64x4_epi64(0xFF, both, 0));
        _mm256_store_si256(reinterpret_cast<__m256i*>(t.ds_along + (i + 1) * (kBlock / 2) + c / 2), _mm512_maskz_extracti64x4_epi64(0xFF, both, 1));
      }
#endif
    }
  }
}

template <typename Unit>
POLYPACA_INLINE void score_gradients(BackwardTiles& t, int64_t keys, int64_t queries, bool diagonal, float distance0, float scale2, float slope2) {
  if (slope2 != 0.0f) {
    diagonal ? gradient_pass<Unit, true, true>(t, keys, queries, distance0, scale2, slope2) : gradient_pass<Unit, false, true>(t, keys, queries, distance0, scale2, slope2);
  } else {
    diagonal ? gradient_pass<Unit, true, false>(t, keys, queries, distance0, scale2, slope2) : gradient_pass<Unit, false, false>(t, keys, queries, distance0, scale2, slope2);
  }
}

}  // namespace polypaca::POLYPACA_ISA
