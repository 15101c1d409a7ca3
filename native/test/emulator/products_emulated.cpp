// products.h for the emulator: the obvious loops, fp32 sums, vectorised. Checks of its own stand in for cuBLASLt's.
#include "cuda/products.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "test/emulator/queue.h"

namespace polypaca::cuda_emulated {
namespace {

/// Rows of op(m) as fp32 [rows, cols], dense.
std::vector<float> widened(const Matrix& m, int64_t rows, int64_t cols, bool transposed) {
  std::vector<float> values(size_t(rows * cols));
  const bf16* data = static_cast<const bf16*>(m.data);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) values[size_t(row * cols + col)] = to_float(transposed ? data[col * m.ld + row] : data[row * m.ld + col]);
  }
  return values;
}

float at(const void* data, DType dtype, int64_t i) { return dtype == DType::f32 ? static_cast<const float*>(data)[i] : to_float(static_cast<const bf16*>(data)[i]); }

void require_valid(const Product& p) {
  const auto refuse = [](const char* why) { fail(ErrorCode::internal, why); };
  if (p.a.dtype != DType::bf16 || p.b.dtype != DType::bf16) refuse("a product's factors are bf16");
  if (p.d.dtype != DType::bf16 && p.d.dtype != DType::f32) refuse("a product gives bf16 or fp32");
  if (p.K < 1) refuse("a product over no terms");
  if (p.a.ld < (p.transpose_a ? p.M : p.K) || p.b.ld < (p.transpose_b ? p.K : p.N) || p.d.ld < p.N) refuse("a product's rows are longer than they lie apart");
}

class EmulatedProducts final : public Products {
 public:
  void run(const Product& p, const Stream& stream) override {
    if (p.M < 1 || p.N < 1) return;
    require_valid(p);
    queue(stream, [p] { multiply(p); });
  }
  void prepare(const Stream&) override {}
  int64_t workspace_bytes() const override { return 0; }
  std::string describe() const override { return "plain"; }
  std::vector<ProductChoice> choices() const override { return {}; }

 private:
  static void multiply(const Product& p) {
    const std::vector<float> a = widened(p.a, p.M, p.K, p.transpose_a), b = widened(p.b, p.K, p.N, p.transpose_b);
    constexpr int64_t kRows = 16;
#pragma omp parallel for schedule(static) if (p.M * p.N * p.K > (1 << 16))
    for (int64_t first = 0; first < p.M; first += kRows) {
      const int64_t rows = std::min(kRows, p.M - first);
      std::vector<float> sums(size_t(rows * p.N), 0.0f);
      for (int64_t k = 0; k < p.K; ++k) {
        const float* bk = &b[size_t(k * p.N)];
        for (int64_t row = 0; row < rows; ++row) {
          const float factor = a[size_t((first + row) * p.K + k)];
          float* sum = &sums[size_t(row * p.N)];
#pragma omp simd
          for (int64_t col = 0; col < p.N; ++col) sum[col] += factor * bk[col];
        }
      }
      for (int64_t row = 0; row < rows; ++row) finish_row(p, first + row, &sums[size_t(row * p.N)]);
    }
  }
  static void finish_row(const Product& p, int64_t row, const float* sums) {
    for (int64_t col = 0; col < p.N; ++col) {
      const int64_t i = row * p.d.ld + col;
      float value = p.alpha * sums[col];
      if (p.beta != 0) value += p.beta * at(p.d.data, p.d.dtype, i);
      if (p.bias) value += at(p.bias, p.d.dtype, col);
      if (p.d.dtype == DType::f32) store(static_cast<float*>(p.d.data) + i, value);
      else store(static_cast<bf16*>(p.d.data) + i, value);
    }
  }
};

}  // namespace

std::unique_ptr<Products> open_products(const DeviceProperties&) { return std::make_unique<EmulatedProducts>(); }

}  // namespace polypaca::cuda_emulated
