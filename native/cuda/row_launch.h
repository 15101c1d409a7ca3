// Host side of the row-wise kernels: the element types and the alignment are chosen once per call, elementwise grids laid out.
#pragma once
#include <algorithm>
#include <type_traits>

#include "backend/backend.h"
#include "core/error.h"
#include "cuda/elements.cuh"
#include "cuda/launch.h"

namespace polypaca::POLYPACA_CUDA {

template <typename T>
struct TypeTag {
  using type = T;
};

/// Calls f(TypeTag<float>) or f(TypeTag<bf16>).
template <typename F>
void with_type(DType dtype, F&& f) {
  if (dtype == DType::f32) {
    f(TypeTag<float>{});
  } else if (dtype == DType::bf16) {
    f(TypeTag<bf16>{});
  } else {
    fail(ErrorCode::unsupported, "fp16 is a storage type of checkpoint files; convert to fp32 or bf16 before computing");
  }
}

template <typename F>
void with_types(DType first, DType second, F&& f) {
  with_type(first, [&]<typename A>(TypeTag<A> a) { with_type(second, [&]<typename B>(TypeTag<B> b) { f(a, b); }); });
}

template <typename F>
void with_types(DType first, DType second, DType third, F&& f) {
  with_type(first, [&]<typename A>(TypeTag<A> a) { with_types(second, third, [&]<typename B, typename C>(TypeTag<B> b, TypeTag<C> c) { f(a, b, c); }); });
}

/// Calls f(std::true_type) or f(std::false_type).
template <typename F>
void with_flag(bool flag, F&& f) {
  if (flag) {
    f(std::true_type{});
  } else {
    f(std::false_type{});
  }
}

template <typename T>
Rows<T> rows_of(const Matrix& m) {
  return {static_cast<T*>(m.data), m.ld};
}

inline bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

/// Whether every row starts on a 16-byte boundary.
inline bool is_aligned(const Matrix& m) { return is_aligned(m.data) && m.ld * size_of(m.dtype) % 16 == 0; }

/// Whether rows of `cols` elements can be read and written in whole vectors.
template <typename... Operands>
bool takes_vectors(int64_t cols, const Operands&... operands) {
  return cols % kVector == 0 && (is_aligned(operands) && ...);
}

/// One vector per thread: every row is cut into slices of at most 256 vectors, a block each. See slot_of_thread().
struct ElementGrid {
  ElementGrid(int64_t rows, int64_t cols) : rows(rows) {
    const int64_t vectors = ceil_divide(cols, kVector), count = ceil_divide(vectors, kMostThreads);
    slices = uint32_t(count);
    threads = int(ceil_divide(ceil_divide(vectors, count), kWarp) * kWarp);
  }
  Grid blocks(const std::source_location& at = std::source_location::current()) const { return {rows * slices, 1, 1, at}; }

  static constexpr int64_t kMostThreads = 256;
  int64_t rows;
  uint32_t slices;
  int threads;
};

}  // namespace polypaca::POLYPACA_CUDA
