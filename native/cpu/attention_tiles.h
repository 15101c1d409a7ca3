// The small dense products that blockwise attention consists of, on tiles in the first- and second-level cache, and the moves between
// those tiles and the packed batch. A tile is row-major in 32-bit words, 64-byte aligned, its row stride a multiple of 16 words.
// A result's word is an fp32 sum. An operand's word is a Unit along the product's inner dimension (gemm_micro.h): one fp32 value
// (Fp32Unit), or a pair of bf16 values for vdpbf16ps (Bf16Unit, AVX-512 only), which halves the products' time in bf16 training.
// Hence two ways to load an operand: rows of words along D where D is summed over, words across tokens where tokens are.
// Compiled once per instruction set: GCC's vector extensions, as wide as the target's registers; everything is forced inline.
#pragma once
#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "backend/backend.h"
#include "core/dtype.h"
#include "core/error.h"
#include "cpu/gemm_micro.h"
#include "cpu/rows.h"
#include "cpu/vector_math.h"

namespace polypaca::POLYPACA_ISA {

// The register block of a product: kRowsAtOnce rows by kVectorsAtOnce vectors of sums.
#if defined(__AVX512F__)
constexpr int kRowsAtOnce = 8, kVectorsAtOnce = 2;
#elif defined(__AVX2__)
constexpr int kRowsAtOnce = 4, kVectorsAtOnce = 3;
#else
constexpr int kRowsAtOnce = 4, kVectorsAtOnce = 2;
#endif

typedef uint32_t Word __attribute__((may_alias));
typedef float Floats4 __attribute__((vector_size(16), may_alias));

POLYPACA_INLINE Floats& floats_at(float* p) { return *reinterpret_cast<Floats*>(p); }
POLYPACA_INLINE const Floats& floats_at(const float* p) { return *reinterpret_cast<const Floats*>(p); }
POLYPACA_INLINE Words words_at(const float* p) { return *reinterpret_cast<const Words*>(p); }
POLYPACA_INLINE Word word_at(const float* p) { return *reinterpret_cast<const Word*>(p); }
POLYPACA_INLINE Floats lane_numbers() {
  Floats lane;
  for (int l = 0; l < kLanes; ++l) lane[l] = float(l);
  return lane;
}

POLYPACA_INLINE int64_t rounded_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

/// Tiles are sized for this head dimension.
constexpr int64_t kMaxHeadDim = 256;

POLYPACA_INLINE void check_attention_shape(const AttentionShape& shape) {
  if (shape.D < 1 || shape.D > kMaxHeadDim) fail(ErrorCode::unsupported, "attention: the head dimension must be between 1 and 256 on the CPU");
  if (shape.G < 1 || shape.H % shape.G != 0) fail(ErrorCode::shape_mismatch, "attention: the number of query heads must be a multiple of the number of key/value heads");
}

/// What a product does to its destination: c = a b, c += a b, c[m] = factor[m] c[m] + a b.
enum class Into { assign, add, rescale };

/// Which units of the inner dimension a block of the result needs; empty: the block is not wanted and left as it is.
struct Depth {
  int64_t begin, end;
};

/// kRows x kVectors of c = a b over depth k, in units. a(m, k) is a[m lda + k], or a[k lda + m] where kTransposed.
template <typename Unit, bool kTransposed, Into kInto, int kRows, int kVectors>
POLYPACA_INLINE void register_block(float* c, int64_t ldc, const float* a, int64_t lda, const float* b, int64_t ldb, Depth depth, const float* factor) {
  Floats sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) {
      if constexpr (kInto == Into::assign) {
        sum[m][n] = Floats{};
      } else {
        sum[m][n] = floats_at(c + m * ldc + n * kLanes);
        if constexpr (kInto == Into::rescale) sum[m][n] *= factor[m];
      }
    }
  }
  for (int64_t k = depth.begin; k < depth.end; ++k) {
    Words bk[kVectors];
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) bk[n] = words_at(b + k * ldb + n * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const Word am = word_at(kTransposed ? a + k * lda + m : a + m * lda + k);
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) sum[m][n] = Unit::dot(sum[m][n], am, bk[n]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) floats_at(c + m * ldc + n * kLanes) = sum[m][n];
  }
}

/// Rows 0 .. rows - 1 (rounded up to kRowsAtOnce) of c = a b, columns 0 .. cols - 1 (rounded up to kLanes).
/// depth_of(first row, first column, end column) trims what causality makes zero.
template <typename Unit, bool kTransposed, Into kInto, int kVectors = kVectorsAtOnce, typename DepthOf>
POLYPACA_INLINE void product(float* c, int64_t ldc, const float* a, int64_t lda, const float* b, int64_t ldb, int64_t rows, int64_t cols, const float* factor, DepthOf depth_of) {
  constexpr int64_t kWidth = kVectors * kLanes;
  int64_t n = 0;
  for (; n + kWidth - kLanes < cols; n += kWidth) {  // columns outside, so that a panel of b stays in the first-level cache
    for (int64_t m = 0; m < rows; m += kRowsAtOnce) {
      const Depth depth = depth_of(m, n, n + kWidth);
      if (depth.begin >= depth.end) continue;
      register_block<Unit, kTransposed, kInto, kRowsAtOnce, kVectors>(c + m * ldc + n, ldc, kTransposed ? a + m : a + m * lda, lda, b + n, ldb, depth, factor + m);
    }
  }
  if constexpr (kVectors > 1) {
    if (n < cols) {
      product<Unit, kTransposed, kInto, kVectors - 1>(c + n, ldc, a, lda, b + n, ldb, rows, cols - n, factor,
                                                      [&](int64_t m, int64_t begin, int64_t end) { return depth_of(m, n + begin, n + end); });
    }
  }
}

POLYPACA_INLINE int64_t offset_of(const HeadView& x, int64_t token, int64_t head) { return token * x.token_stride + head * x.head_stride; }

POLYPACA_INLINE float sum_of(Floats x) {
  const Floats4* quarters = reinterpret_cast<const Floats4*>(&x);
  Floats4 sum = quarters[0];
#pragma GCC unroll 4
  for (int i = 1; i < kLanes / 4; ++i) sum += quarters[i];
  sum += __builtin_shufflevector(sum, sum, 2, 3, 0, 1);
  return sum[0] + sum[1];
}

/// In fp32, over kLanes partial sums.
template <typename A, typename B>
POLYPACA_INLINE float dot(const A* a, const B* b, int64_t D) {
  Floats lanes = Floats{};
  int64_t d = 0;
  for (; d + kLanes <= D; d += kLanes) lanes += load_floats(a + d) * load_floats(b + d);
  float sum = sum_of(lanes);
  for (; d < D; ++d) sum += to_float(a[d]) * to_float(b[d]);
  return sum;
}

/// D elements converted, then zeros up to ld.
template <typename T>
POLYPACA_INLINE void load_fp32(float* to, const T* from, int64_t D, int64_t ld) {
  int64_t d = 0;
  if constexpr (sizeof(T) == 4) {  // by vectors: GCC would call memcpy, which costs more than these few bytes
    for (; d + kLanes <= D; d += kLanes) floats_at(to + d) = load_floats(from + d);
  }
#pragma omp simd
  for (int64_t e = d; e < D; ++e) to[e] = to_float(from[e]);
  for (int64_t e = D; e < ld; ++e) to[e] = 0.0f;
}

/// D bf16 values as they are, then zeros up to ld words.
POLYPACA_INLINE void load_bf16(float* to, const bf16* from, int64_t D, int64_t ld) {
  int64_t d = 0;
  for (; d + 2 * kLanes <= D; d += 2 * kLanes) *reinterpret_cast<Words*>(to + d / 2) = *reinterpret_cast<const UnalignedWords*>(from + d);
  if (d == 2 * ld) return;
  for (int64_t w = d / 2; w < ld; ++w) {
    const uint32_t low = 2 * w < D ? from[2 * w].bits : 0, high = 2 * w + 1 < D ? from[2 * w + 1].bits : 0;
    reinterpret_cast<Word*>(to)[w] = low | high << 16;
  }
}

/// How many units D elements are, and the row stride of a tile that holds them.
template <typename Unit>
POLYPACA_INLINE int64_t units_of(int64_t elements) {
  return (elements + Unit::kElements - 1) / Unit::kElements;
}
template <typename Unit>
POLYPACA_INLINE int64_t stride_of(int64_t D) {
  return rounded_up(units_of<Unit>(D), 16);
}

/// Units along D: tile[r][u] = x[first + r, head, u ...], row stride `ld`. What is beyond D and the rows up to padded_rows are zero.
template <typename Unit>
POLYPACA_INLINE void load_rows(float* tile, int64_t ld, const HeadView& x, int64_t first, int64_t head, int64_t rows, int64_t padded_rows, int64_t D) {
  const int64_t offset = offset_of(x, first, head);
  for (int64_t r = 0; r < rows; ++r) {
    float* to = tile + r * ld;
    if constexpr (Unit::kElements == 2) {
      load_bf16(to, static_cast<const bf16*>(x.data) + offset + r * x.token_stride, D, ld);
    } else if (x.dtype == DType::bf16) {
      load_fp32(to, static_cast<const bf16*>(x.data) + offset + r * x.token_stride, D, ld);
    } else {
      load_fp32(to, static_cast<const float*>(x.data) + offset + r * x.token_stride, D, ld);
    }
  }
  for (int64_t i = rows * ld; i < padded_rows * ld; ++i) tile[i] = 0.0f;
}

/// Units across tokens: tile[u][d] = x[first + u ..., head, d], row stride `ld`, zero beyond `rows` and D. Fp32Unit: load_rows.
template <typename Unit>
POLYPACA_INLINE void load_across(float* tile, int64_t ld, const HeadView& x, int64_t first, int64_t head, int64_t rows, int64_t padded_rows, int64_t D) {
  if constexpr (Unit::kElements == 2) {
    for (int64_t r = 0; r < rows; r += 2) {
      Word* to = reinterpret_cast<Word*>(tile + r / 2 * ld);
      const bf16 *a = static_cast<const bf16*>(x.data) + offset_of(x, first + r, head), *b = a + (r + 1 < rows ? x.token_stride : 0);
      const uint32_t keep_second = r + 1 < rows ? 0xFFFFFFFFu : 0u;
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) to[d] = uint32_t(a[d].bits) | ((uint32_t(b[d].bits) << 16) & keep_second);
      for (int64_t d = D; d < ld; ++d) to[d] = 0;
    }
    for (int64_t i = units_of<Unit>(rows) * ld; i < units_of<Unit>(padded_rows) * ld; ++i) tile[i] = 0.0f;
  } else {
    load_rows<Unit>(tile, ld, x, first, head, rows, padded_rows, D);
  }
}

#if defined(__AVX512F__)
/// Sixteen bf16 values of `first`, then sixteen of `second`, rounded to nearest even.
POLYPACA_INLINE Words round_to_bf16(Floats first, Floats second) {
  Words both;
  asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(second), "v"(first));
  return both;
}
/// Those 32 values as 16 units: first[l] in the low half, second[l] in the high half of word l.
POLYPACA_INLINE Words interleave(Words both) {
  Words index;
  for (int l = 0; l < kLanes; ++l) index[l] = uint32_t(l) | uint32_t(l + kLanes) << 16;
  return Words(_mm512_maskz_permutexvar_epi16(0xFFFFFFFF, __m512i(index), __m512i(both)));
}
#endif

/// kElements rows of results become one row of units, an operand of the next product.
template <typename Unit>
POLYPACA_INLINE void store_units(float* to, const Floats (&rows)[Unit::kElements]) {
#if defined(__AVX512F__)
  if constexpr (Unit::kElements == 2) {
    *reinterpret_cast<Words*>(to) = interleave(round_to_bf16(rows[0], rows[1]));
    return;
  }
#endif
  floats_at(to) = rows[0];
}

/// x[first + r, head, d] = tile[r][d], rounded to x's type.
POLYPACA_INLINE void store_rows(const HeadView& x, int64_t first, int64_t head, const float* tile, int64_t ld, int64_t rows, int64_t D) {
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t offset = offset_of(x, first + r, head);
    const float* from = tile + r * ld;
    if (x.dtype == DType::bf16) {
      bf16* to = static_cast<bf16*>(x.data) + offset;
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) store(to + d, from[d]);
    } else {
      float* to = static_cast<float*>(x.data) + offset;
#pragma omp simd
      for (int64_t d = 0; d < D; ++d) to[d] = from[d];
    }
  }
}

/// to[c][r] = from[r][c], words of any kind; rows and cols are rounded up to 4, which both tiles have room for.
POLYPACA_INLINE void transpose(float* to, int64_t ld_to, const float* from, int64_t ld_from, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; r += 4) {
    for (int64_t c = 0; c < cols; c += 4) {
      const float* p = from + r * ld_from + c;
      const Floats4 x0 = *reinterpret_cast<const Floats4*>(p), x1 = *reinterpret_cast<const Floats4*>(p + ld_from);
      const Floats4 x2 = *reinterpret_cast<const Floats4*>(p + 2 * ld_from), x3 = *reinterpret_cast<const Floats4*>(p + 3 * ld_from);
      const Floats4 a = __builtin_shufflevector(x0, x1, 0, 4, 1, 5), b = __builtin_shufflevector(x2, x3, 0, 4, 1, 5);
      const Floats4 e = __builtin_shufflevector(x0, x1, 2, 6, 3, 7), f = __builtin_shufflevector(x2, x3, 2, 6, 3, 7);
      float* q = to + c * ld_to + r;
      *reinterpret_cast<Floats4*>(q) = __builtin_shufflevector(a, b, 0, 1, 4, 5);
      *reinterpret_cast<Floats4*>(q + ld_to) = __builtin_shufflevector(a, b, 2, 3, 6, 7);
      *reinterpret_cast<Floats4*>(q + 2 * ld_to) = __builtin_shufflevector(e, f, 0, 1, 4, 5);
      *reinterpret_cast<Floats4*>(q + 3 * ld_to) = __builtin_shufflevector(e, f, 2, 3, 6, 7);
    }
  }
}

}  // namespace polypaca::POLYPACA_ISA
