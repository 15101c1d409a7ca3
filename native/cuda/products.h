// Dense products of a CUDA back end: by cuBLASLt on a GPU, by plain loops in the emulator.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cuda/namespace.h"
#include "cuda/runtime.h"

namespace polypaca::POLYPACA_CUDA {

/// d [M, N] = alpha * op(a) op(b) + beta * d + bias, row-major; sums in fp32. op(a) is [M, K]: a is stored [K, M] where transpose_a;
/// op(b) is [K, N]: b is stored [N, K] where transpose_b. a and b are bf16, d is bf16 or fp32. Where beta is 0, d is not read.
struct Product {
  Matrix a, b, d;
  int64_t M = 0, N = 0, K = 0;
  bool transpose_a = false, transpose_b = false;
  float alpha = 1.0f, beta = 0.0f;
  const void* bias = nullptr;  // [N] in d's type, added to every row; null: none
};

/// How products of one kind are computed, for a run's record.
struct ProductChoice {
  std::string product, algorithm;
  int64_t workspace_bytes = 0;
  double microseconds = 0;  // of one, as measured when the algorithm was chosen; 0: not measured
};

class Products {
 public:
  virtual ~Products() = default;
  virtual void run(const Product& product, const Stream& stream) = 0;
  /// Takes what `stream` will need, so that its first product may be recorded into a graph.
  virtual void prepare(const Stream& stream) = 0;
  /// What prepare() takes, in bytes.
  virtual int64_t workspace_bytes() const = 0;
  virtual std::string describe() const = 0;  // "cuBLASLt 13.1.1 (/usr/lib/...)"
  virtual std::vector<ProductChoice> choices() const = 0;
};

std::unique_ptr<Products> open_products(const DeviceProperties& device);

}  // namespace polypaca::POLYPACA_CUDA
