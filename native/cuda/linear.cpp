// Linear layers: products of products.h.
//   forward   y = beta * y + x w^T + bias + h up^T
//   backward  dx = beta * dx + dy w;  dw = beta * dw + alpha * dy^T x          (the bias's gradient: rows.cu)
// x [N, cols], w [rows, cols], h [N, R], up [rows, R] bf16; y, dx bf16 or fp32; dy bf16, or fp32 and then rounded to bf16 first; bias,
// dw fp32. Sums are fp32. The adapter's share is a product of its own and comes first: the base product, which has the time, reads it
// back while it multiplies. Where y is bf16 the sum is made in fp32 and rounded once: rounding the share as well took a reference case
// (06-llama-gqa, loss with the adapter) over its limit.
#include <algorithm>

#include "cuda/cuda_backend.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

/// Rows of a rounded copy start on 16 bytes.
int64_t rounded_ld(int64_t cols) { return (cols + 7) / 8 * 8; }
int64_t rounded_bytes(int64_t rows, int64_t cols) { return rows * rounded_ld(cols) * size_of(DType::bf16); }

}  // namespace

/// Weights are multiplied as they lie in memory.
void CudaBackend::prepare_weight(Weight&, bool) {}
void CudaBackend::release_weight(Weight&) {}
int64_t CudaBackend::prepared_bytes(int64_t, int64_t, DType, bool) const { return 0; }

int64_t CudaBackend::scratch_bytes(const StepShapes& step) const {
  int64_t working = squares_scratch_bytes(step.gradient_run), rounded = 0, bias = 0, wide = 0;
  if (step.trains_norms) working = std::max(working, norm_scratch_bytes(step.tokens, step.hidden));
  if (step.trained_bias_rows > 0) working = std::max(working, bias_scratch_bytes(step.tokens, step.trained_bias_rows));
  if (step.trains_embedding) working = std::max(working, embedding_scratch_bytes(step.tokens, step.hidden));
  for (const ProductShape& p : step.products) {
    if (p.masked) working = std::max(working, lora_scratch_bytes(p.M, p.K, p.N));
    if (p.rounded) rounded = std::max(rounded, rounded_bytes(p.M, p.K));
    bias = std::max(bias, p.N * 4);
    if (p.R > 0) wide = std::max(wide, p.M * p.N * 4);
  }
  return working + rounded + bias + wide + products_->workspace_bytes();
}

/// m itself where it is bf16, else a copy of it in scratch memory. The copy lasts until the next call.
Matrix CudaBackend::in_bf16(Matrix m, int64_t rows, int64_t cols) {
  if (m.dtype == DType::bf16) return m;
  Matrix copy{scratch(kRoundedInput, rounded_bytes(rows, cols)), DType::bf16, rounded_ld(cols)};
  convert(copy, m, rows, cols);
  return copy;
}

/// cuBLASLt adds a bias of the output's type, and has faster algorithms for one on 16 bytes.
const void* CudaBackend::bias_for(const Matrix& y, const float* bias, int64_t rows) {
  const bool usable = y.dtype == DType::f32 && reinterpret_cast<uintptr_t>(bias) % 16 == 0;
  if (!bias || usable) return bias;
  Matrix copy{scratch(kBias, rows * 4), y.dtype, rows};
  convert(copy, {const_cast<float*>(bias), DType::f32, rows}, 1, rows);
  return copy.data;
}

void CudaBackend::linear_forward(Matrix y, Matrix x, const Weight& w, const float* bias, const LoraTerm& lora, int64_t N, float beta) {
  Product base;
  base.d = y, base.a = in_bf16(x, N, w.cols), base.b = w.value;
  base.M = N, base.N = w.rows, base.K = w.cols;
  base.transpose_b = true;
  base.beta = beta;
  base.bias = bias_for(y, bias, w.rows);
  if (lora.R == 0) return products().run(base, stream());
  const bool widens = y.dtype == DType::bf16;
  const Matrix sum = widens ? Matrix{scratch(kWideOutput, N * w.rows * 4), DType::f32, w.rows} : y;
  Product share;
  share.d = sum, share.a = lora.h, share.b = lora.up;
  share.M = N, share.N = w.rows, share.K = lora.R;
  share.transpose_b = true;
  if (widens && beta != 0) convert(sum, y, N, w.rows);
  share.beta = beta;
  products().run(share, stream());
  base.d = sum;
  base.beta = 1.0f;
  base.bias = bias_for(sum, bias, w.rows);
  products().run(base, stream());
  if (widens) convert(y, sum, N, w.rows);
}

void CudaBackend::linear_backward_input(Matrix dx, Matrix dy, const Weight& w, int64_t N, float beta) {
  Product product;
  product.d = dx, product.a = in_bf16(dy, N, w.rows), product.b = w.value;
  product.M = N, product.N = w.cols, product.K = w.rows;
  product.beta = beta;
  products().run(product, stream());
}

void CudaBackend::linear_backward_weight(float* dw, int64_t ldw, Matrix dy, Matrix x, int64_t N, int64_t rows, int64_t cols, float alpha, float beta) {
  Product product;
  product.d = {dw, DType::f32, ldw};
  product.a = in_bf16(dy, N, rows), product.b = x;
  product.M = rows, product.N = cols, product.K = N;
  product.transpose_a = true;
  product.alpha = alpha, product.beta = beta;
  products().run(product, stream());
}

}  // namespace polypaca::POLYPACA_CUDA
