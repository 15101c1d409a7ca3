// Memory of the CPU back end: allocation, copies, conversions and row selection. "Host" and back-end pointers are the same here.
// Blocks are 64-byte aligned (a cache line, an AVX-512 vector) and committed on allocation: every page is written once, so that
// running out shows at start-up, not in the middle of a step. Blocks of some megabytes ask for huge pages, which spares the
// products most of their TLB misses.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/cpu_backend.h"
#include "cpu/rows.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr int64_t kPage = 4096, kHugePage = int64_t(1) << 21;

/// Calls f(begin, bytes) for pieces of a block; large blocks are shared by the threads, since one core cannot fill the memory bus.
template <typename F>
POLYPACA_INLINE void in_pieces(int64_t bytes, F&& f) {
  constexpr int64_t kPiece = int64_t(1) << 20;
#pragma omp parallel for schedule(static) if (bytes >= 4 * kPiece)
  for (int64_t begin = 0; begin < bytes; begin += kPiece) f(begin, smaller(kPiece, bytes - begin));
}

[[noreturn]] void fail_allocation(int64_t bytes) {
  char message[256];
  snprintf(message, sizeof message,
           "could not allocate %.1f MiB (%lld bytes) on the CPU. Use a smaller --micro-batch-tokens, --recompute block, LoRA or a smaller "
           "model, or raise the process's memory limit.",
           double(bytes) / double(1 << 20), static_cast<long long>(bytes));
  fail(ErrorCode::out_of_memory, message);
}

template <typename D, typename S>
POLYPACA_INLINE void copy_row(Matrix dst, int64_t to, Matrix src, int64_t from, int64_t C) {
  D* out = row_of<D>(dst, to);
  const S* in = row_of<S>(src, from);
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) store(out + c, to_float(in[c]));
}

}  // namespace

void* CpuBackend::allocate(int64_t bytes) {
  void* data = nullptr;
  if (bytes < 0) fail_allocation(bytes);
  const int64_t size = bytes > 0 ? bytes : 64;
  const bool huge = size >= 2 * kHugePage;
  if (posix_memalign(&data, size_t(huge ? kHugePage : 64), size_t(size)) != 0) fail_allocation(bytes);
#ifdef MADV_HUGEPAGE
  if (huge) madvise(data, size_t(size / kHugePage * kHugePage), MADV_HUGEPAGE);
#endif
  in_pieces(size, [&](int64_t begin, int64_t count) {
    for (int64_t at = begin; at < begin + count; at += kPage) static_cast<volatile char*>(data)[at] = 0;
  });
  static_cast<volatile char*>(data)[size - 1] = 0;  // a block that starts inside a page may end in one more
  return data;
}

void CpuBackend::release(void* data) { free(data); }

void CpuBackend::copy_in(void* dst, const void* host, int64_t bytes) {
  in_pieces(bytes, [&](int64_t at, int64_t count) { memcpy(static_cast<char*>(dst) + at, static_cast<const char*>(host) + at, size_t(count)); });
}

void CpuBackend::copy_out(void* host, const void* src, int64_t bytes) { copy_in(host, src, bytes); }

void CpuBackend::fill_zero(void* dst, int64_t bytes) {
  in_pieces(bytes, [&](int64_t at, int64_t count) { memset(static_cast<char*>(dst) + at, 0, size_t(count)); });
}

void CpuBackend::convert(Matrix dst, Matrix src, int64_t rows, int64_t cols) { scaled_copy(dst, src, rows, cols, 1.0f); }

void CpuBackend::scaled_copy(Matrix dst, Matrix src, int64_t rows, int64_t cols, float scale) {
  constexpr int64_t kColumns = int64_t(1) << 14;  // wide rows are split as well: a vector is one row
  const int64_t pieces = (cols + kColumns - 1) / kColumns;
  with_types(dst.dtype, src.dtype, [&]<typename D, typename S>(TypeTag<D>, TypeTag<S>) {
#pragma omp parallel for schedule(static) if (rows * cols >= kParallelElements)
    for (int64_t piece = 0; piece < rows * pieces; ++piece) {
      const int64_t row = piece / pieces, c0 = piece % pieces * kColumns, count = smaller(kColumns, cols - c0);
      D* to = row_of<D>(dst, row) + c0;
      const S* from = row_of<S>(src, row) + c0;
#pragma omp simd
      for (int64_t c = 0; c < count; ++c) store(to + c, scale * to_float(from[c]));
    }
  });
}

void CpuBackend::join_halves(float* dst, const bf16* value, const int16_t* remainder, int64_t count) {
#pragma omp parallel for simd schedule(static) if (parallel : count >= kParallelElements)
  for (int64_t i = 0; i < count; ++i) dst[i] = join(value[i], remainder[i]);
}

void CpuBackend::gather_rows(Matrix y, Matrix x, const int32_t* indices, int64_t n, int64_t C) {
  with_types(y.dtype, x.dtype, [&]<typename TY, typename TX>(TypeTag<TY>, TypeTag<TX>) {
#pragma omp parallel for schedule(static) if (n * C >= kParallelElements)
    for (int64_t i = 0; i < n; ++i) copy_row<TY, TX>(y, i, x, indices[i], C);
  });
}

void CpuBackend::scatter_rows(Matrix x, int64_t N, Matrix y, const int32_t* indices, int64_t n, int64_t C) {
  with_types(x.dtype, y.dtype, [&]<typename TX, typename TY>(TypeTag<TX>, TypeTag<TY>) {
    // Indices ascend: step i clears the rows between the previous index and its own, step n those after the last.
#pragma omp parallel for schedule(static) if (N * C >= kParallelElements)
    for (int64_t i = 0; i <= n; ++i) {
      const int64_t end = i < n ? indices[i] : N;
      for (int64_t row = i > 0 ? indices[i - 1] + 1 : 0; row < end; ++row) memset(row_of<TX>(x, row), 0, size_t(C) * sizeof(TX));
      if (i < n) copy_row<TX, TY>(x, end, y, i, C);
    }
  });
}

}  // namespace polypaca::POLYPACA_ISA
