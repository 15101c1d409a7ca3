// What the row-wise ops of this folder share: element types chosen once per call, and sums that do not lose digits on long rows.
// Compiled once per instruction set, hence forced inline and without the standard library's templates.
#pragma once
#include <cstdint>

#include "backend/backend.h"
#include "core/dtype.h"
#include "core/error.h"

namespace polypaca::POLYPACA_ISA {

/// Below this many elements a team of threads costs more than it saves.
constexpr int64_t kParallelElements = int64_t(1) << 14;

template <typename T>
struct TypeTag {};

/// Calls f(TypeTag<float>) or f(TypeTag<bf16>): the one branch on a dtype that an op makes per matrix.
template <typename F>
POLYPACA_INLINE void with_type(DType dtype, F&& f) {
  if (dtype == DType::f32) {
    f(TypeTag<float>{});
  } else if (dtype == DType::bf16) {
    f(TypeTag<bf16>{});
  } else {
    fail(ErrorCode::unsupported, "fp16 is a storage type of checkpoint files; convert to fp32 or bf16 before computing");
  }
}

template <typename F>
POLYPACA_INLINE void with_types(DType first, DType second, F&& f) {
  with_type(first, [&]<typename A>(TypeTag<A> a) { with_type(second, [&]<typename B>(TypeTag<B> b) { f(a, b); }); });
}

template <typename F>
POLYPACA_INLINE void with_types(DType first, DType second, DType third, F&& f) {
  with_type(first, [&]<typename A>(TypeTag<A> a) { with_types(second, third, [&]<typename B, typename C>(TypeTag<B> b, TypeTag<C> c) { f(a, b, c); }); });
}

template <typename T>
POLYPACA_INLINE T* row_of(const Matrix& m, int64_t n) {
  return static_cast<T*>(m.data) + n * m.ld;
}

POLYPACA_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// Elements summed in fp32 lanes before the partial sum joins a double: the rounding of a row's sum then does not grow with the row.
constexpr int64_t kSumBlock = 512;

/// Sum of term(0) .. term(count - 1).
template <typename F>
POLYPACA_INLINE double blocked_sum(int64_t count, F&& term) {
  double sum = 0.0;
  for (int64_t begin = 0; begin < count; begin += kSumBlock) {
    const int64_t end = smaller(begin + kSumBlock, count);
    float part = 0.0f;
#pragma omp simd reduction(+ : part)
    for (int64_t c = begin; c < end; ++c) part += term(c);
    sum += part;
  }
  return sum;
}

}  // namespace polypaca::POLYPACA_ISA
