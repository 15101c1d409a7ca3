// Linear layers: four products of gemm.h and the sum behind a bias's gradient.
//   forward   y = beta * y + x w^T + bias + h up^T         (the adapter's term joins the same fp32 sums: y is rounded once)
//   backward  dx = beta * dx + dy w;  dw = beta * dw + alpha * dy^T x;  db += sum_n(dy)
// x, dx [N, cols], y, dy [N, rows], w [rows, cols], h [N, R], up [rows, R]: fp32 or bf16 in any mixture; bias, dw, db fp32.
// A bf16 weight (for dw: a bf16 x or dy) makes the product one of bf16 values with fp32 sums: with AVX512-BF16 an fp32 factor is
// rounded to bf16, without it bf16 is widened and the product is fp32.
#include "cpu/cpu_backend.h"
#include "cpu/linear_products.h"
#include "cpu/rows.h"

#include <stdlib.h>

namespace polypaca::POLYPACA_ISA {
namespace {

/// A frozen weight's panels, one copy per direction, each made when first asked for.
struct PreparedWeight {
  void* forward;
  void* backward;
};

void* packed_copy(const Weight& w, bool backward, bool bf16_dot) {
  const int64_t N = backward ? w.cols : w.rows, K = backward ? w.rows : w.cols;
  GemmScratch::Block block;
  void* packed = reserve(block, packed_bytes(N, K, bf16_dot));
  pack_operand(packed, backward ? columns_of(w.value) : rows_of(w.value), N, K, bf16_dot);
  return packed;
}

}  // namespace

bool CpuBackend::multiplies_bf16(const Matrix& m) const { return options_.bf16_dot && m.dtype == DType::bf16; }

void CpuBackend::prepare_weight(Weight& w, bool trained) {
  release_weight(w);
  if (trained || !options_.prepack) return;
  PreparedWeight* p = static_cast<PreparedWeight*>(malloc(sizeof(PreparedWeight)));
  const bool dot = multiplies_bf16(w.value);
  p->forward = packed_copy(w, false, dot);
  p->backward = packed_copy(w, true, dot);
  w.prepared = p;
}

void CpuBackend::release_weight(Weight& w) {
  PreparedWeight* p = static_cast<PreparedWeight*>(w.prepared);
  if (!p) return;
  free(p->forward);
  free(p->backward);
  free(p);
  w.prepared = nullptr;
}

int64_t CpuBackend::prepared_bytes(int64_t rows, int64_t cols, DType dtype, bool trained) const {
  if (trained || !options_.prepack) return 0;
  const bool dot = options_.bf16_dot && dtype == DType::bf16;
  return packed_bytes(rows, cols, dot) + packed_bytes(cols, rows, dot);
}

void CpuBackend::linear_forward(Matrix y, Matrix x, const Weight& w, const float* bias, const LoraTerm& lora, int64_t N, float beta) {
  GemmCall call;
  call.M = N, call.N = w.rows, call.K = w.cols;
  call.a = rows_of(x);
  call.b = rows_of(w.value);
  if (w.prepared) call.packed_b = static_cast<const PreparedWeight*>(w.prepared)->forward;
  if (lora.R > 0) {
    call.K2 = lora.R;
    call.a2 = rows_of(lora.h);
    call.b2 = rows_of(lora.up);
  }
  call.out.c = y, call.out.beta = beta, call.out.bias = bias;
  call.bf16_dot = multiplies_bf16(w.value);
  multiply(call);
}

void CpuBackend::linear_backward_input(Matrix dx, Matrix dy, const Weight& w, int64_t N, float beta) {
  GemmCall call;
  call.M = N, call.N = w.cols, call.K = w.rows;
  call.a = rows_of(dy);
  call.b = columns_of(w.value);
  if (w.prepared) call.packed_b = static_cast<const PreparedWeight*>(w.prepared)->backward;
  call.out.c = dx, call.out.beta = beta;
  call.bf16_dot = multiplies_bf16(w.value);
  multiply(call);
}

void CpuBackend::linear_backward_weight(float* dw, int64_t ldw, Matrix dy, Matrix x, int64_t N, int64_t rows, int64_t cols, float alpha, float beta) {
  GemmCall call;
  call.M = rows, call.N = cols, call.K = N;
  call.a = columns_of(dy);
  call.b = columns_of(x);
  call.out.c = {dw, DType::f32, ldw};
  call.out.alpha = alpha, call.out.beta = beta;
  call.bf16_dot = multiplies_bf16(dy) || multiplies_bf16(x);
  multiply(call);
}

void CpuBackend::linear_backward_bias(float* db, Matrix dy, int64_t N, int64_t rows) {
  constexpr int64_t kColumns = 256, kTokens = 64;  // sums over 64 tokens join the total, so that rounding does not grow with N
  with_type(dy.dtype, [&]<typename T>(TypeTag<T>) {
#pragma omp parallel for schedule(static) if (N * rows >= kParallelElements)
    for (int64_t c0 = 0; c0 < rows; c0 += kColumns) {
      const int64_t columns = smaller(kColumns, rows - c0);
      float total[kColumns] = {};
      for (int64_t n0 = 0; n0 < N; n0 += kTokens) {
        float part[kColumns] = {};
        for (int64_t n = n0; n < smaller(n0 + kTokens, N); ++n) {
          const T* row = row_of<T>(dy, n) + c0;
#pragma omp simd
          for (int64_t c = 0; c < columns; ++c) part[c] += to_float(row[c]);
        }
        for (int64_t c = 0; c < columns; ++c) total[c] += part[c];
      }
      for (int64_t c = 0; c < columns; ++c) db[c0 + c] += total[c];
    }
  });
}

}  // namespace polypaca::POLYPACA_ISA
