// oneDNN's matrix product behind a plain interface. Built once, not per instruction set: oneDNN chooses its kernels itself.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace polypaca {

/// C [M, N] = beta * C + A B, with A [M, K] and B [K, N] stored by rows or, where transposed, by columns. A and B have one type.
struct OnednnProduct {
  int64_t M = 0, N = 0, K = 0;
  const void *a = nullptr, *b = nullptr;
  DType factor_dtype = DType::f32;
  int64_t lda = 0, ldb = 0;      // elements between stored rows
  bool a_transposed = false, b_transposed = false;
  void* c = nullptr;
  DType c_dtype = DType::f32;
  int64_t ldc = 0;
  float alpha = 1.0f, beta = 0.0f;
  const float* bias = nullptr;   // [N]
};

/// "2.6.3", or null where this build has no oneDNN.
const char* onednn_version();

/// Computes the product. Primitives are cached by shape. Throws unsupported where onednn_version() is null.
void onednn_multiply(const OnednnProduct& product);

}  // namespace polypaca
