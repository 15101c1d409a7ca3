// oneDNN's matrix product behind a plain interface. Compiled once and not per instruction set: oneDNN chooses its kernels itself.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace polypaca {

/// A factor stored by rows or by columns: element (i, j) is at i * row_stride + j * column_stride, one of which is 1.
struct OnednnFactor {
  const void* data = nullptr;
  int64_t row_stride = 0, column_stride = 0;
};

/// C [M, N] = beta * C + A B + bias + sum, with A [M, K] and B [K, N] of one type, fp32 or bf16; fp32 accumulation, C is rounded once.
struct OnednnProduct {
  int64_t M = 0, N = 0, K = 0;
  DType factor_dtype = DType::f32;
  OnednnFactor a, b;
  void* c = nullptr;
  DType c_dtype = DType::f32;
  int64_t ldc = 0;
  float beta = 0.0f;             // 0 or 1
  const float* bias = nullptr;   // [N]
  const float* sum = nullptr;    // fp32 [M, N], dense
};

/// An engine, its stream, and one primitive for every shape met so far. Not for two threads at once.
class Onednn;

/// "2.6.3", or null where this build has no oneDNN.
const char* onednn_version();
/// Null where this build has no oneDNN.
Onednn* open_onednn();
void close_onednn(Onednn* onednn);
/// False where oneDNN has no such product on this machine: nothing was computed then.
bool onednn_multiply(Onednn& onednn, const OnednnProduct& product);

}  // namespace polypaca
