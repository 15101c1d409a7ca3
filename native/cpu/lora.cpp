// Adapters (Hu et al. 2021, arXiv:2106.09685): h = dropout(x) A^T, and y += h up^T inside linear_forward.
//   forward   h = dropout(x) A^T
//   backward  dh = dy up;  dA += dh^T dropout(x);  dx += dropout'(x) * (dh A)
// x, dx [N, C], A [R, C], h, dh [N, R], dy [N, rows], up [rows, R]: fp32 or bf16; dA fp32 [R, C]. h and dh assign, dA and dx add.
// dropout(x) = keep_scale * x where a bit of the mask is set, else 0. The bits are drawn anew in each direction (a pure function
// of key, token and feature); the products skip dropped elements while packing and put keep_scale into alpha, so that no value
// is rounded because of it.
#include "cpu/cpu_backend.h"
#include "cpu/dropout_mask.h"
#include "cpu/linear_products.h"

namespace polypaca::POLYPACA_ISA {
namespace {

struct Mask {
  const uint8_t* bits = nullptr;
  int64_t stride = 0;
  float scale = 1.0f;
};

/// The bits of a mask that does something, in the scratch memory of the products.
Mask draw(GemmScratch& scratch, const Dropout& dropout, int64_t N, int64_t C) {
  if (!dropout.active()) return {};
  uint8_t* bits = static_cast<uint8_t*>(reserve(scratch.mask, N * mask_stride(C)));
  draw_dropout_mask(bits, dropout, N, C);
  return {bits, mask_stride(C), dropout.keep_scale};
}

}  // namespace

void CpuBackend::lora_down_forward(Matrix h, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) {
  const Mask mask = draw(gemm_scratch_, dropout, N, C);
  GemmCall call;
  call.M = N, call.N = R, call.K = C;
  call.a = rows_of(x);
  call.a.keep = mask.bits, call.a.keep_stride = mask.stride;
  call.b = rows_of(A);
  call.out.c = h, call.out.alpha = mask.scale;
  call.bf16_dot = multiplies_bf16(A);
  multiply(call);
}

void CpuBackend::lora_up_backward(Matrix dh, Matrix dy, Matrix up, int64_t N, int64_t rows, int64_t R) {
  GemmCall call;
  call.M = N, call.N = R, call.K = rows;
  call.a = rows_of(dy);
  call.b = columns_of(up);
  call.out.c = dh;
  call.bf16_dot = multiplies_bf16(up);
  multiply(call);
}

void CpuBackend::lora_down_backward(Matrix dx, float* dA, Matrix dh, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) {
  const Mask mask = draw(gemm_scratch_, dropout, N, C);
  GemmCall call;
  call.M = R, call.N = C, call.K = N;
  call.a = columns_of(dh);
  call.b = columns_of(x);
  call.b.keep = mask.bits, call.b.keep_stride = mask.stride;
  call.out.c = {dA, DType::f32, C};
  call.out.alpha = mask.scale, call.out.beta = 1.0f;
  call.bf16_dot = multiplies_bf16(x) || multiplies_bf16(dh);
  multiply(call);
  if (!dx) return;

  GemmCall input;
  input.M = N, input.N = C, input.K = R;
  input.a = rows_of(dh);
  input.b = columns_of(A);
  input.out.c = dx;
  input.out.alpha = mask.scale, input.out.beta = 1.0f;
  input.out.keep = mask.bits, input.out.keep_stride = mask.stride;
  input.bf16_dot = multiplies_bf16(A);
  multiply(input);
}

}  // namespace polypaca::POLYPACA_ISA
