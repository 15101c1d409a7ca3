// C [M, N] = beta * C + alpha * (A B^T + A2 B2^T) + bias for a small M and B stored along k: dot products that read B once, as it
// lies, at the speed of memory. Rows of A are converted to units first ([M][units of K, then of K2], zero-padded to whole vectors).
// A step takes kLanes dot products, of M rows of A with kLanes / M rows of B, a vector of partial sums each. Transposing those
// vectors turns the sums over lanes into sums of vectors. The order of addition depends on K alone.
#pragma once
#include "cpu/gemm_output.h"
#include "cpu/gemm_pack.h"

namespace polypaca::POLYPACA_ISA {

constexpr int64_t kFewRows = kLanes < 8 ? kLanes : 8;  // 16 rows measured slower than packing B

POLYPACA_INLINE int64_t vectors_of(int64_t K, int64_t elements) { return (K + elements * kLanes - 1) / (elements * kLanes); }

/// Row j of an operand as units, in whole vectors.
template <typename Unit, typename S>
POLYPACA_INLINE void convert_units(uint32_t* dst, const Operand& m, int64_t j, int64_t K) {
  const S* row = static_cast<const S*>(m.data) + j * m.ld;
  for (int64_t k = 0; k < K; k += Unit::kElements * kLanes, dst += kLanes) *(Words*)dst = units_along(Unit{}, row + k, low_bits(K - k));
}

template <typename Unit>
POLYPACA_INLINE void convert_units(uint32_t* dst, const Operand& m, int64_t j, int64_t K) {
  m.dtype == DType::bf16 ? convert_units<Unit, bf16>(dst, m, j, K) : convert_units<Unit, float>(dst, m, j, K);
}

constexpr int64_t kAheadBytes = 4096;  // what is fetched of B before it is read: 2 to 8 KiB measured alike

/// sums[j * M + i] += dot products of rows j of B (n + j, the last row again beyond the end) and rows i of A, `stride` units apart.
/// A processor fetches ahead within a row of B, and rows are short: what comes next is asked for here.
template <typename Unit, typename S, int M>
POLYPACA_INLINE void add_dots(Words (&sums)[kLanes], const uint32_t* a, int64_t stride, const Operand& b, int64_t n, int64_t N, int64_t K) {
  constexpr int kRows = kLanes / M;
  constexpr int64_t kStep = Unit::kElements * kLanes;
  const int64_t groups = 1 + kAheadBytes / (kRows * K * int64_t(sizeof(S))), ahead = groups * kRows * b.ld;
  const S* rows[kRows];
  for (int j = 0; j < kRows; ++j) rows[j] = static_cast<const S*>(b.data) + (n + j < N ? n + j : N - 1) * b.ld;
  for (int64_t k = 0; k < K; k += kStep, a += kLanes) {
    const uint32_t valid = low_bits(K - k);
    Words left[M];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) left[i] = *(const Words*)(a + i * stride);
#pragma GCC unroll 16
    for (int j = 0; j < kRows; ++j) {
      __builtin_prefetch(rows[j] + k + ahead);
      const Words right = units_along(Unit{}, rows[j] + k, valid);
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) sums[j * M + i] = (Words)Unit::dot((Floats)sums[j * M + i], left[i], right);
    }
  }
}

template <typename Unit, typename S, int M>
POLYPACA_INLINE void add_dots(Words (&sums)[kLanes], const uint32_t* a, int64_t stride, const Operand& b, const Operand& b2, int64_t n, int64_t N, int64_t K, int64_t K2) {
  add_dots<Unit, S, M>(sums, a, stride, b, n, N, K);
  if (K2 == 0) return;
  a += vectors_of(K, Unit::kElements) * kLanes;
  b2.dtype == DType::bf16 ? add_dots<Unit, bf16, M>(sums, a, stride, b2, n, N, K2) : add_dots<Unit, float, M>(sums, a, stride, b2, n, N, K2);
}

/// sums of rows n .. n + kLanes / M - 1 of B with all rows of A: to[j * M + i], one vector.
template <typename Unit, int M>
POLYPACA_INLINE void multiply_rows(float* to, const GemmCall& call, const uint32_t* a, int64_t stride, int64_t n) {
  Words sums[kLanes];
#pragma GCC unroll 16
  for (int s = 0; s < kLanes; ++s) sums[s] = Words{};
  if (call.b.dtype == DType::bf16) {
    add_dots<Unit, bf16, M>(sums, a, stride, call.b, call.b2, n, call.N, call.K, call.K2);
  } else {
    add_dots<Unit, float, M>(sums, a, stride, call.b, call.b2, n, call.N, call.K, call.K2);
  }
  transpose(sums);
  Floats total = (Floats)sums[0];
#pragma GCC unroll 16
  for (int s = 1; s < kLanes; ++s) total += (Floats)sums[s];
  *(Floats*)to = total;
}

constexpr int64_t kColumns = 2 * kLanes;  // stored together: one at a time, the way out costs more than the dot products of a short K

/// All of C for M rows of A in units; call.M of them (at most M) are stored.
template <typename Unit, int M>
void multiply(const GemmCall& call, const uint32_t* a, int64_t stride) {
  constexpr int kRows = kLanes / M;
  const bool serial = call.N * (call.K + call.K2) < 1 << 15;
  const Stage stage{call.out};
#pragma omp parallel for schedule(static) if (!serial)
  for (int64_t n = 0; n < call.N; n += kColumns) {
    alignas(64) float sums[kColumns * M], tile[M * kColumns];  // [columns][M], [M][columns]
    for (int64_t j = 0; j < kColumns && n + j < call.N; j += kRows) multiply_rows<Unit, M>(sums + j * M, call, a, stride, n + j);
    for (int64_t m = 0; m < call.M; ++m) {
      for (int64_t j = 0; j < kColumns; ++j) tile[m * kColumns + j] = sums[j * M + m];
    }
    store_tile<Unit>(stage, tile, call.M, kColumns, 0, n, call.N);
  }
}

template <typename Unit>
void gemm_few_rows(const GemmCall& call, GemmScratch& scratch) {
  const int64_t M = call.M == 1 ? 1 : call.M == 2 ? 2 : call.M <= 4 ? 4 : 8;
  const int64_t first = vectors_of(call.K, Unit::kElements) * kLanes, whole = first + vectors_of(call.K2, Unit::kElements) * kLanes;
  const int64_t stride = whole + kLanes;  // not a power of two: rows would lie in the same sets of the cache
  uint32_t* a = static_cast<uint32_t*>(reserve(scratch.shared, M * stride * 4));
  for (int64_t m = 0; m < M; ++m) {
    const int64_t row = m < call.M ? m : 0;  // rows beyond the last are computed and not stored
    convert_units<Unit>(a + m * stride, call.a, row, call.K);
    if (call.K2 > 0) convert_units<Unit>(a + m * stride + first, call.a2, row, call.K2);
  }
  if (M == 1) return multiply<Unit, 1>(call, a, stride);
  if (M == 2) return multiply<Unit, 2>(call, a, stride);
  if (M == 4) return multiply<Unit, 4>(call, a, stride);
  if constexpr (kFewRows >= 8) multiply<Unit, 8>(call, a, stride);
}

/// Whether gemm_few_rows computes this call, and faster than packing B would.
POLYPACA_INLINE bool suits_few_rows(const GemmCall& call) {
  return call.M <= kFewRows && !call.packed_b && call.a.k_contiguous && call.b.k_contiguous && !call.a.keep && !call.b.keep && !call.out.keep;
}

}  // namespace polypaca::POLYPACA_ISA
