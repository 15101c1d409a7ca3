// Whose dense products: our own (gemm.cpp) or oneDNN's (onednn.cpp, where the build has it and CpuOptions asks for it).
// oneDNN gets what it is good at: many rows, no dropout mask, factor 1. A factor that is fp32 beside a bf16 one is rounded to a
// copy first, as our own products do while they pack; an adapter's term is computed by us and joins oneDNN's fp32 sums.
#include "cpu/cpu_backend.h"
#include "cpu/gemm_few_rows.h"
#include "cpu/rows.h"

namespace polypaca::POLYPACA_ISA {
namespace {

OnednnFactor factor_a(const Operand& m) { return {m.data, m.k_contiguous ? m.ld : 1, m.k_contiguous ? 1 : m.ld}; }
/// gemm() has B as [N, K], oneDNN as [K, N].
OnednnFactor factor_b(const Operand& m) { return {m.data, m.k_contiguous ? 1 : m.ld, m.k_contiguous ? m.ld : 1}; }

bool suits_onednn(const GemmCall& call) {
  const bool masked = call.a.keep || call.b.keep || call.a2.keep || call.b2.keep || call.out.keep;
  const bool whole = call.out.alpha == 1.0f && (call.out.beta == 0.0f || call.out.beta == 1.0f);
  const bool widened = !call.bf16_dot && (call.a.dtype != DType::f32 || call.b.dtype != DType::f32);
  return !masked && whole && !widened && !call.packed_b && call.M > kFewRows && call.N >= 1 && call.K >= 1;
}

}  // namespace

void CpuBackend::multiply(const GemmCall& call) {
  if (onednn_ && suits_onednn(call) && multiply_with_onednn(call)) return;
  gemm(call, gemm_scratch_);
}

Operand CpuBackend::as_bf16(const Operand& m, int64_t count, int64_t K, GemmScratch::Block& copy) {
  if (m.dtype == DType::bf16) return m;
  const int64_t rows = m.k_contiguous ? count : K, cols = m.k_contiguous ? K : count;
  Operand converted = m;
  converted.data = reserve(copy, rows * cols * size_of(DType::bf16));
  converted.dtype = DType::bf16;
  converted.ld = cols;
  convert({const_cast<void*>(converted.data), DType::bf16, cols}, {const_cast<void*>(m.data), m.dtype, m.ld}, rows, cols);
  return converted;
}

bool CpuBackend::multiply_with_onednn(const GemmCall& call) {
  OnednnProduct p;
  p.M = call.M, p.N = call.N, p.K = call.K;
  p.factor_dtype = call.bf16_dot ? DType::bf16 : DType::f32;
  p.a = factor_a(call.bf16_dot ? as_bf16(call.a, call.M, call.K, bf16_a_) : call.a);
  p.b = factor_b(call.bf16_dot ? as_bf16(call.b, call.N, call.K, bf16_b_) : call.b);
  p.c = call.out.c.data, p.c_dtype = call.out.c.dtype, p.ldc = call.out.c.ld;
  p.beta = call.out.beta;
  p.bias = call.out.bias;
  if (call.K2 > 0) {
    float* sum = static_cast<float*>(reserve(adapter_sum_, call.M * call.N * int64_t(sizeof(float))));
    GemmCall term;
    term.M = call.M, term.N = call.N, term.K = call.K2;
    term.a = call.a2, term.b = call.b2;
    term.out.c = {sum, DType::f32, call.N};
    term.bf16_dot = call.bf16_dot;
    gemm(term, gemm_scratch_);
    p.sum = sum;
  }
  return onednn_multiply(*onednn_, p);
}

}  // namespace polypaca::POLYPACA_ISA
