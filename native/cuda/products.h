// Dense products of the CUDA back end: cuBLASLt's on a GPU (cublaslt_products.h), plain loops in the emulator.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cuda/runtime.h"

namespace polypaca::POLYPACA_CUDA {

/// d [M, N] = alpha * op(a) op(b) + beta * d + bias, row-major, sums in fp32. op(a) is [M, K]: a is stored [K, M] where transpose_a.
/// op(b) is [K, N]: b is stored [N, K] where transpose_b. a and b bf16, d bf16 or fp32; beta 0 or 1 (0: d is not read).
struct Product {
  Matrix a, b, d;
  int64_t M = 0, N = 0, K = 0;
  bool transpose_a = false, transpose_b = false;
  float alpha = 1.0f, beta = 0.0f;
  const void* bias = nullptr;  // [N] in d's type, or null
};

/// How the products of one class are computed: for run records.
struct ProductChoice {
  std::string product;    // sizes, leading dimensions, types
  std::string algorithm;  // in the library's numbers
  int64_t workspace_bytes = 0;
  double microseconds = 0;  // of one product when it was tuned; 0: taken as the library proposed it
};

class Products {
 public:
  virtual ~Products() = default;
  virtual void run(const Product& product, const Stream& stream) = 0;
  /// Makes ready what the products of this stream need: before the first of them where that one will be recorded in a graph.
  virtual void prepare(const Stream&) {}
  virtual std::string describe() const = 0;  // "cuBLASLt 13.1.1 (libcublasLt.so.13)"
  virtual std::vector<ProductChoice> choices() const { return {}; }
};

/// The products of `device`. Throws unsupported where there is no cuBLASLt, with where it was looked for.
std::unique_ptr<Products> open_products(const DeviceProperties& device);

}  // namespace polypaca::POLYPACA_CUDA
