// d [M, N] = alpha * op(a) op(b) + beta * d + bias, as products.h has it: a and b bf16, d and bias bf16 or fp32, sums in fp32, in order.
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/plain_product.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kThreads = 128;

/// Element (i, k) of op(m) is data[i * outer + k * inner].
struct Factor {
  const bf16* data;
  int64_t outer, inner;
};

template <typename T>
KERNEL BOUNDS(kThreads, 8) void multiply_elements(T* d, int64_t ld, Factor a, Factor b, const T* bias, int64_t N, int64_t K, float alpha, float beta) {
  const int64_t row = blockIdx.x, col = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (col >= N) return;
  const bf16 *terms_a = a.data + row * a.outer, *terms_b = b.data + col * b.outer;
  float sum = 0.0f;
  for (int64_t k = 0; k < K; ++k) sum += to_float(terms_a[k * a.inner]) * to_float(terms_b[k * b.inner]);
  float value = alpha * sum;
  T* out = d + row * ld + col;
  if (beta != 0.0f) value += beta * to_float(*out);
  if (bias) value += to_float(bias[col]);
  store(out, value);
}

template <typename T>
void launch_plain(const Product& p, const Stream& stream) {
  const Factor a{static_cast<const bf16*>(p.a.data), p.transpose_a ? 1 : p.a.ld, p.transpose_a ? p.a.ld : 1};
  const Factor b{static_cast<const bf16*>(p.b.data), p.transpose_b ? p.b.ld : 1, p.transpose_b ? 1 : p.b.ld};
  launch(multiply_elements<T>, Grid(p.M, ceil_divide(p.N, kThreads)), kThreads, 0, stream, static_cast<T*>(p.d.data), p.d.ld, a, b, static_cast<const T*>(p.bias), p.N, p.K, p.alpha, p.beta);
}

}  // namespace

void plain_product(const Product& product, const Stream& stream) {
  if (product.d.dtype == DType::f32) launch_plain<float>(product, stream);
  else launch_plain<bf16>(product, stream);
}

}  // namespace polypaca::POLYPACA_CUDA
