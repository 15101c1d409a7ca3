// The dense product of the CPU back end: C = beta * C + alpha * keep(A B^T) + bias, with fp32 accumulation over the whole of K.
// A [M, K] and B [N, K] may be stored either way round, as fp32 or bf16, with a dropout mask; they are converted while they are
// packed. C [M, N] is fp32 or bf16 and is rounded once. See gemm.cpp for the method.
#pragma once
#include "backend/backend.h"

namespace polypaca::POLYPACA_ISA {

/// A factor of a product, seen as `count` vectors of length K.
struct Operand {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t ld = 0;                   // elements between stored rows
  bool k_contiguous = true;         // element (j, k) is at j * ld + k, otherwise at k * ld + j
  const uint8_t* keep = nullptr;    // dropout: bit c of stored row r is bit c % 8 of byte r * keep_stride + c / 8; 0 reads as zero
  int64_t keep_stride = 0;
};

/// C and what is done to it on the way out.
struct GemmOutput {
  Matrix c;
  float alpha = 1.0f, beta = 0.0f;  // beta 0 does not read c
  const float* bias = nullptr;      // [N]
  const uint8_t* keep = nullptr;    // the product counts only where the bit of (m, n) is set
  int64_t keep_stride = 0;
};

struct GemmCall {
  int64_t M = 0, N = 0, K = 0;
  Operand a, b;
  const void* packed_b = nullptr;   // b as pack_operand left it; b is then not read
  int64_t K2 = 0;                   // a second product summed into the same accumulators: A2 [M, K2], B2 [N, K2]
  Operand a2, b2;
  GemmOutput out;
  bool bf16_dot = false;            // multiply as bf16 (AVX512-BF16 only): fp32 operands are rounded to bf16 on the way in
};

/// Packing buffers, grown when a call needs more than any before it: a training step repeats its shapes, so only the first one
/// allocates. One call at a time.
struct GemmScratch {
  struct Block {
    char* data = nullptr;
    int64_t bytes = 0;
  };
  Block shared, local;              // packed panels: for all threads, and one slice per thread
  Block sums;                       // fp32 [M, N] between the cuts of a long K
  Block mask;                       // bits of a dropout mask
};

/// Any M, N, K >= 0. Deterministic: an element's sum depends on its row of A, its row of B and K only, not on the other rows nor
/// on the number of threads; but few rows (gemm_few_rows.h) are summed in another order than many.
void gemm(const GemmCall& call, GemmScratch& scratch);

/// Memory for at least `bytes`, 64-byte aligned; what was in the block is lost if it grows.
void* reserve(GemmScratch::Block& block, int64_t bytes);
void release_scratch(GemmScratch& scratch);

/// What each block of GemmScratch may hold after a product.
struct GemmScratchBytes {
  int64_t shared = 0, local = 0, sums = 0;
};

/// The most that any product of up to M rows, N columns, up to K and K2 long takes with this many threads.
GemmScratchBytes most_scratch(int64_t M, int64_t N, int64_t K, int64_t K2, bool packed_b, bool bf16_dot);
/// Bytes that a block has after `reserve` was asked for so many.
int64_t reserved_bytes(int64_t bytes);

/// A weight packed ahead of its products, for GemmCall::packed_b with the same bf16_dot.
int64_t packed_bytes(int64_t N, int64_t K, bool bf16_dot);
void pack_operand(void* packed, const Operand& b, int64_t N, int64_t K, bool bf16_dot);

/// Best rate in FLOP/s, all threads, of the micro-kernel alone on panels in the cache: the ceiling of every product.
double measure_kernel_peak(bool bf16_dot, double seconds);

}  // namespace polypaca::POLYPACA_ISA
