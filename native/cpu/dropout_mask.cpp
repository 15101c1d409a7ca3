// Philox4x32-7 (core/random.h) for kDraws counters at a time. Eight features share a counter, so a byte of the mask is one counter:
// its bit 2w + h is the comparison of half h (low first) of output word w.
#include "cpu/dropout_mask.h"

#include "cpu/gemm_micro.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr int kDraws = 16;  // counters, hence bytes of the mask, per step: 128 features

#ifdef __AVX512F__

/// a * b per lane, high and low words.
POLYPACA_INLINE void multiply_words(__m512i a, __m512i b, __m512i& high, __m512i& low) {
  const __m512i even = _mm512_mul_epu32(a, b), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), b);
  high = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
  low = _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}

POLYPACA_INLINE void draw_bytes(uint8_t* bytes, uint32_t first, uint32_t position, uint32_t example, const Dropout& d) {
  __m512i c0 = _mm512_add_epi32(_mm512_set1_epi32(int(first)), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  __m512i c1 = _mm512_set1_epi32(int(position)), c2 = _mm512_set1_epi32(int(example)), c3 = _mm512_set1_epi32(int(d.site));
  uint32_t k0 = d.key[0], k1 = d.key[1];
  for (int round = 0; round < 7; ++round) {
    __m512i high0, low0, high1, low1;
    multiply_words(c0, _mm512_set1_epi32(int(0xD2511F53u)), high0, low0);
    multiply_words(c2, _mm512_set1_epi32(int(0xCD9E8D57u)), high1, low1);
    c0 = _mm512_ternarylogic_epi32(high1, c1, _mm512_set1_epi32(int(k0)), 0x96);
    c2 = _mm512_ternarylogic_epi32(high0, c3, _mm512_set1_epi32(int(k1)), 0x96);
    c1 = low1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const __m512i threshold = _mm512_set1_epi16(short(d.threshold)), words[4] = {c0, c1, c2, c3};
  uint64_t low = 0, high = 0;
  for (int w = 0; w < 4; ++w) {  // bits 2l, 2l + 1 of the comparison belong into byte l
    const uint32_t kept = _mm512_cmpge_epu16_mask(words[w], threshold);
    low |= _pdep_u64(kept & 0xFFFFu, 0x0303030303030303ull << (2 * w));
    high |= _pdep_u64(kept >> 16, 0x0303030303030303ull << (2 * w));
  }
  std::memcpy(bytes, &low, 8);
  std::memcpy(bytes + 8, &high, 8);
}

#else

POLYPACA_INLINE void draw_bytes(uint8_t* bytes, uint32_t first, uint32_t position, uint32_t example, const Dropout& d) {
  uint32_t v[4][kDraws];
#pragma omp simd
  for (int i = 0; i < kDraws; ++i) {
    const Philox4 r = philox4x32<7>(first + uint32_t(i), position, example, d.site, d.key[0], d.key[1]);
    for (int w = 0; w < 4; ++w) v[w][i] = r.v[w];
  }
  for (int i = 0; i < kDraws; ++i) {
    uint32_t byte = 0;
    for (int w = 0; w < 4; ++w) {
      byte |= uint32_t((v[w][i] & 0xFFFFu) >= d.threshold) << (2 * w) | uint32_t((v[w][i] >> 16) >= d.threshold) << (2 * w + 1);
    }
    bytes[i] = uint8_t(byte);
  }
}

#endif

}  // namespace

void draw_dropout_mask(uint8_t* bits, const Dropout& d, int64_t N, int64_t C) {
  const int64_t stride = mask_stride(C);
#pragma omp parallel for schedule(static) if (N * C >= 1 << 14)
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t byte = 0; byte < stride; byte += kDraws) {
      draw_bytes(bits + n * stride + byte, uint32_t(byte), uint32_t(d.positions[n]), uint32_t(d.examples[n]), d);
    }
  }
}

}  // namespace polypaca::POLYPACA_ISA
