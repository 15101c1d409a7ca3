// Packing of the dense product's factors into panels of 32-bit units (see gemm_micro.h): conversion, transposition and the
// dropout mask happen here, once per element, so that the micro-kernel reads nothing but what it multiplies.
//   along k    a stored row is one vector of K values: kLanes rows x kLanes units are transposed in registers
//   across k   a stored row is one k of many vectors: rows are copied, for bf16 two rows are interleaved
// Rows, columns and k beyond the operand read as zero.
#pragma once
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#include <cstring>

#include "cpu/gemm.h"
#include "cpu/gemm_micro.h"

namespace polypaca::POLYPACA_ISA {

/// The lowest `count` bits, count clipped to 0 .. 32.
POLYPACA_INLINE uint32_t low_bits(int64_t count) { return count >= 32 ? ~0u : count <= 0 ? 0u : (1u << count) - 1u; }

/// Bits first .. first + count - 1 (count clipped to 32) of a stored row's mask; all set without a mask. Reads no other byte.
POLYPACA_INLINE uint32_t kept_bits(const uint8_t* row, int64_t first, int64_t count) {
  const uint32_t valid = low_bits(count);
  if (row == nullptr || valid == 0) return valid;
  const uint8_t* p = row + first / 8;
  const int64_t shift = first % 8, bytes = (shift + (count < 32 ? count : 32) + 7) / 8;
  uint64_t bits = 0;
  if (bytes == 4) {
    std::memcpy(&bits, p, 4);
  } else if (bytes == 2) {
    std::memcpy(&bits, p, 2);
  } else {
    for (int64_t i = 0; i < bytes; ++i) bits |= uint64_t(p[i]) << (8 * i);
  }
  return uint32_t(bits >> shift) & valid;
}

#ifdef __AVX512F__

POLYPACA_INLINE __m512i round_pairs(__m512 low, __m512 high) {
  __m512i pairs;
  asm("vcvtne2ps2bf16 %1, %2, %0" : "=v"(pairs) : "v"(low), "v"(high));
  return pairs;
}
POLYPACA_INLINE Words widen(__m256i halves) { return (Words)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16); }

/// kLanes units at p; bit i of keep says whether element i is read.
POLYPACA_INLINE Words units_along(Bf16Unit, const bf16* p, uint32_t keep) { return (Words)_mm512_maskz_loadu_epi16(keep, p); }
POLYPACA_INLINE Words units_along(Bf16Unit, const float* p, uint32_t keep) {
  return (Words)round_pairs(_mm512_maskz_loadu_ps(__mmask16(keep), p), _mm512_maskz_loadu_ps(__mmask16(keep >> 16), p + 16));
}
POLYPACA_INLINE Words units_along(Fp32Unit, const float* p, uint32_t keep) { return (Words)_mm512_maskz_loadu_ps(__mmask16(keep), p); }
POLYPACA_INLINE Words units_along(Fp32Unit, const bf16* p, uint32_t keep) { return widen(_mm256_maskz_loadu_epi16(__mmask16(keep), p)); }

/// kLanes units whose elements are at p (even k) and q (odd k; bf16 only).
POLYPACA_INLINE Words units_across(Bf16Unit, const bf16* p, const bf16* q, uint32_t keep_p, uint32_t keep_q) {
  const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(__mmask16(keep_p), p));
  const __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(__mmask16(keep_q), q));
  return (Words)_mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
}
POLYPACA_INLINE Words units_across(Bf16Unit, const float* p, const float* q, uint32_t keep_p, uint32_t keep_q) {
  const __m512i pairs = round_pairs(_mm512_maskz_loadu_ps(__mmask16(keep_p), p), _mm512_maskz_loadu_ps(__mmask16(keep_q), q));
  const __m512i even = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(pairs));
  const __m512i odd = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(pairs, 1));
  return (Words)_mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
}
template <typename S>
POLYPACA_INLINE Words units_across(Fp32Unit, const S* p, const S*, uint32_t keep_p, uint32_t) {
  return units_along(Fp32Unit{}, p, keep_p);
}

#else  // fp32 units only: Bf16Unit needs AVX512-BF16

POLYPACA_INLINE Words load_units(const float* p) { return *(const UnalignedWords*)p; }
POLYPACA_INLINE Words load_units(const bf16* p) { return __builtin_convertvector(*(const UnalignedHalves*)p, Words) << 16; }

template <typename S>
POLYPACA_INLINE Words units_along(Fp32Unit, const S* p, uint32_t keep) {
  if ((keep & low_bits(kLanes)) == low_bits(kLanes)) return load_units(p);
  Words x{};
  for (int i = 0; i < kLanes; ++i) {
    const float value = (keep >> i) & 1u ? to_float(p[i]) : 0.0f;
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    x[i] = bits;
  }
  return x;
}
template <typename S>
POLYPACA_INLINE Words units_across(Fp32Unit, const S* p, const S*, uint32_t keep_p, uint32_t) {
  return units_along(Fp32Unit{}, p, keep_p);
}

#endif

/// Lane selections of one butterfly step: lanes with bit kStep keep their own vector's half, the other half is exchanged.
template <int kStep>
POLYPACA_INLINE void exchange(Words& a, Words& b) {
  Words low{}, high{};
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    low[i] = uint32_t(i & kStep ? kLanes + (i ^ kStep) : i);
    high[i] = uint32_t(i & kStep ? kLanes + i : i ^ kStep);
  }
  const Words x = __builtin_shuffle(a, b, low), y = __builtin_shuffle(a, b, high);
  a = x;
  b = y;
}

template <int kStep>
POLYPACA_INLINE void exchange_all(Words (&x)[kLanes]) {
  if constexpr (kStep < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (!(i & kStep)) exchange<kStep>(x[i], x[i + kStep]);
    }
    exchange_all<2 * kStep>(x);
  }
}

/// x[i] lane j becomes x[j] lane i.
POLYPACA_INLINE void transpose(Words (&x)[kLanes]) { exchange_all<1>(x); }

/// One step of pack_along: kLanes units of kLanes vectors. kWhole: all of them are there and none is dropped.
template <typename Unit, typename S, bool kWhole>
POLYPACA_INLINE void pack_square(uint32_t* dst, int64_t stride, const S* rows, const Operand& m, const uint8_t* keep, int64_t count, int64_t k, int64_t left) {
  Words x[kLanes];
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) {
    x[j] = Words{};
    if (kWhole) {
      x[j] = units_along(Unit{}, rows + j * m.ld + k, ~0u);
    } else if (j < count) {
      x[j] = units_along(Unit{}, rows + j * m.ld + k, kept_bits(keep ? keep + j * m.keep_stride : nullptr, k, left));
    }
  }
  transpose(x);
  const int64_t units = (left + Unit::kElements - 1) / Unit::kElements;
#pragma GCC unroll 16
  for (int u = 0; u < kLanes; ++u) {
    if (kWhole || u < units) *(Words*)(dst + u * stride) = x[u];
  }
}

/// dst[u * stride + j] = unit u of vector j0 + j for kLanes vectors (zero from `total` on) and all units of k0 .. k0 + K - 1.
template <typename Unit, typename S>
POLYPACA_INLINE void pack_along(uint32_t* dst, int64_t stride, const Operand& m, int64_t j0, int64_t total, int64_t k0, int64_t K) {
  constexpr int64_t kStep = Unit::kElements * kLanes;
  const S* rows = static_cast<const S*>(m.data) + j0 * m.ld;
  const uint8_t* keep = m.keep ? m.keep + j0 * m.keep_stride : nullptr;
  const bool whole = total - j0 >= kLanes && !keep;
  for (int64_t k = 0; k < K; k += kStep, dst += kLanes * stride) {
    if (whole && K - k >= kStep) {
      pack_square<Unit, S, true>(dst, stride, rows, m, keep, kLanes, k0 + k, K - k);
    } else {
      pack_square<Unit, S, false>(dst, stride, rows, m, keep, total - j0, k0 + k, K - k);
    }
  }
}

/// The same for operands stored across k and units u0 .. u1 - 1; dst is where unit u0 goes.
template <typename Unit, typename S>
POLYPACA_INLINE void pack_across(uint32_t* dst, int64_t stride, const Operand& m, int64_t j0, int64_t total, int64_t k0, int64_t K, int64_t u0, int64_t u1) {
  constexpr int64_t kElements = Unit::kElements;
  const uint32_t valid = low_bits(total - j0) & low_bits(kLanes);
  const bool whole = valid == low_bits(kLanes) && !m.keep;
  const S* p = static_cast<const S*>(m.data) + j0 + (k0 + u0 * kElements) * m.ld;
  for (int64_t u = u0; u < u1; ++u, dst += stride, p += kElements * m.ld) {
    const int64_t k = u * kElements;
    const bool pair = k + kElements <= K;  // an odd K ends with half a unit
    const S* q = pair ? p + (kElements - 1) * m.ld : p;
    if (whole && pair) {
      *(Words*)dst = units_across(Unit{}, p, q, ~0u, ~0u);
      continue;
    }
    uint32_t keep = valid, keep_next = pair ? valid : 0u;
    if (m.keep) {
      const uint8_t* bits = m.keep + (k0 + k) * m.keep_stride;
      keep &= kept_bits(bits, j0, total - j0);
      if (pair) keep_next &= kept_bits(bits + (kElements - 1) * m.keep_stride, j0, total - j0);
    }
    *(Words*)dst = units_across(Unit{}, p, q, keep, keep_next);
  }
}

/// Asks for `count` elements of the stored rows k .. k_end - 1: they lie pages apart, where no prefetcher of the machine follows.
template <typename S>
POLYPACA_INLINE void prefetch_rows(const Operand& m, int64_t j0, int64_t count, int64_t k, int64_t k_end) {
  for (; k < k_end; ++k) {
    const char* row = reinterpret_cast<const char*>(static_cast<const S*>(m.data) + k * m.ld + j0);
    for (int64_t byte = 0; byte < count * int64_t(sizeof(S)); byte += 64) __builtin_prefetch(row + byte);
  }
}

}  // namespace polypaca::POLYPACA_ISA
