// Token embedding: a row look-up and, backwards, a scatter-add.
//   forward   x[n] = table[ids[n]]
//   backward  d_table[ids[n]] += dx[n]
// ids int32 [N], each in [0, V) (checked where a batch enters); x, dx [N, C], table [V, C] fp32 or bf16; d_table fp32 [V, C] dense.
// x assigns, d_table adds. The same id may occur many times in a batch: threads share the columns, not the tokens, so that every
// element of d_table is added to by one thread, in token order, whatever the number of threads.
#include "cpu/cpu_backend.h"
#include "cpu/rows.h"

namespace polypaca::POLYPACA_ISA {

void CpuBackend::embedding_forward(Matrix x, Matrix table, const int32_t* ids, int64_t N, int64_t C) { gather_rows(x, table, ids, N, C); }

void CpuBackend::embedding_backward(float* d_table, Matrix dx, const int32_t* ids, int64_t N, int64_t C) {
  constexpr int64_t kColumns = 64;  // whole cache lines: no two threads write to one
  with_type(dx.dtype, [&]<typename T>(TypeTag<T>) {
#pragma omp parallel for schedule(static) if (N * C >= kParallelElements)
    for (int64_t c0 = 0; c0 < C; c0 += kColumns) {
      const int64_t columns = smaller(kColumns, C - c0);
      for (int64_t n = 0; n < N; ++n) {
        float* out = d_table + ids[n] * C + c0;
        const T* in = row_of<T>(dx, n) + c0;
#pragma omp simd
        for (int64_t j = 0; j < columns; ++j) out[j] += to_float(in[j]);
      }
    }
  });
}

}  // namespace polypaca::POLYPACA_ISA
