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

/// units_across for kPanel vectors that are all there: straight into their places.
POLYPACA_INLINE void store_across(Bf16Unit, uint32_t* dst, const bf16* p, const bf16* q) {
  typedef uint16_t Shorts __attribute__((vector_size(64)));
  const Shorts even = (Shorts)_mm512_loadu_si512(p), odd = (Shorts)_mm512_loadu_si512(q);
  Shorts low, high;
#pragma GCC unroll 32
  for (int i = 0; i < 32; ++i) {
    low[i] = uint16_t(i / 2 + i % 2 * 32);
    high[i] = uint16_t(16 + i / 2 + i % 2 * 32);
  }
  *(Words*)dst = (Words)__builtin_shuffle(even, odd, low);
  *(Words*)(dst + kLanes) = (Words)__builtin_shuffle(even, odd, high);
}
template <typename Unit, typename S>
POLYPACA_INLINE void store_across(Unit, uint32_t* dst, const S* p, const S* q) {
  *(Words*)dst = units_across(Unit{}, p, q, 0xFFFFu, 0xFFFFu);
  *(Words*)(dst + kLanes) = units_across(Unit{}, p + kLanes, q + kLanes, 0xFFFFu, 0xFFFFu);
}

POLYPACA_INLINE void store_words(uint32_t* p, Words x, int64_t count) { _mm512_mask_storeu_epi32(p, __mmask16(low_bits(count)), (__m512i)x); }

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

template <typename S>
POLYPACA_INLINE void store_across(Fp32Unit, uint32_t* dst, const S* p, const S*) {
  *(Words*)dst = load_units(p);
  *(Words*)(dst + kLanes) = load_units(p + kLanes);
}

POLYPACA_INLINE void store_words(uint32_t* p, Words x, int64_t count) {
  if (count >= kLanes) {
    *(UnalignedWords*)p = x;
  } else {
    for (int64_t i = 0; i < count; ++i) p[i] = x[int(i)];
  }
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
POLYPACA_INLINE void pack_square(uint32_t* dst, int64_t stride, const S* rows, const Operand& m, const uint8_t* keep, int64_t count, int64_t width, int64_t k, int64_t left) {
  constexpr int64_t kElements = Unit::kElements;
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
  const int64_t units = (left + kElements - 1) / kElements;
#pragma GCC unroll 16
  for (int u = 0; u < kLanes; ++u) {
    if (kWhole) {
      *(UnalignedWords*)(dst + u * stride) = x[u];
    } else if (u < units) {
      store_words(dst + u * stride, x[u], width);
    }
  }
}

/// dst[u * stride + j] for vectors j0 + j, j < count <= kLanes, written as `width` lanes (zero from count on), all units of k0 ..
/// k0 + K - 1.
template <typename Unit, typename S>
POLYPACA_INLINE void pack_along(uint32_t* dst, int64_t stride, const Operand& m, int64_t j0, int64_t count, int64_t width, int64_t k0, int64_t K) {
  constexpr int64_t kStep = Unit::kElements * kLanes;
  const S* rows = static_cast<const S*>(m.data) + j0 * m.ld;
  const uint8_t* keep = m.keep ? m.keep + j0 * m.keep_stride : nullptr;
  const bool whole = count == kLanes && width == kLanes && !keep;
  for (int64_t k = 0; k < K; k += kStep, dst += kLanes * stride) {
    if (whole && K - k >= kStep) {
      pack_square<Unit, S, true>(dst, stride, rows, m, keep, count, width, k0 + k, K - k);
    } else {
      pack_square<Unit, S, false>(dst, stride, rows, m, keep, count, width, k0 + k, K - k);
    }
  }
}

/// The same for operands stored across k, for units u0 .. u1 - 1 of the K values from k0 on; dst is where unit u0 goes. Stored rows
/// lie pages apart, where no prefetcher of the machine follows, hence the one here.
template <typename Unit, typename S>
POLYPACA_INLINE void pack_across(uint32_t* dst, int64_t stride, const Operand& m, int64_t j0, int64_t count, int64_t width, int64_t k0, int64_t K, int64_t u0, int64_t u1) {
  constexpr int64_t kElements = Unit::kElements, kAhead = 16 * kElements;
  const S* data = static_cast<const S*>(m.data) + j0;
  const uint32_t valid = low_bits(count);
  for (int64_t u = u0; u < u1; ++u, dst += stride) {
    const int64_t k = u * kElements, next = k + kElements - 1;
    const S* p = data + (k0 + k) * m.ld;
    const S* q = next < K ? p + (kElements - 1) * m.ld : p;
    __builtin_prefetch(p + kAhead * m.ld);
    if (kElements == 2) __builtin_prefetch(q + kAhead * m.ld);
    uint32_t keep = valid, keep_next = next < K ? valid : 0u;
    if (m.keep) {
      keep = kept_bits(m.keep + (k0 + k) * m.keep_stride, j0, count);
      if (next < K) keep_next = kept_bits(m.keep + (k0 + next) * m.keep_stride, j0, count);
    }
    store_words(dst, units_across(Unit{}, p, q, keep, keep_next), width);
  }
}

/// pack_across for the kPanel vectors of a full panel, of which none is dropped; K has both elements of every unit.
template <typename Unit, typename S>
POLYPACA_INLINE void pack_panel_across(uint32_t* dst, const Operand& m, int64_t j0, int64_t k0, int64_t u0, int64_t u1) {
  constexpr int64_t kElements = Unit::kElements, kAhead = 16 * kElements;
  const S* p = static_cast<const S*>(m.data) + j0 + (k0 + u0 * kElements) * m.ld;
  for (int64_t u = u0; u < u1; ++u, dst += kPanel, p += kElements * m.ld) {
    for (int64_t i = 0; i < kElements; ++i) {
      for (int64_t byte = 0; byte < kPanel * int64_t(sizeof(S)); byte += 64) {
        __builtin_prefetch(reinterpret_cast<const char*>(p + (kAhead + i) * m.ld) + byte);
      }
    }
    store_across(Unit{}, dst, p, p + (kElements - 1) * m.ld);
  }
}

}  // namespace polypaca::POLYPACA_ISA
