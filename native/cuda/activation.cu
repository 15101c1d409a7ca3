// The MLP's activations. GELU: Hendrycks & Gimpel 2016, arXiv:1606.08415, the exact form and the tanh approximation that BLOOM
// was trained with; SwiGLU: Shazeer 2020, arXiv:2002.05202.
//   gelu_erf   a = u * Phi(u),  Phi(u) = (1 + erf(u / sqrt 2)) / 2;      du = da * (Phi(u) + u * exp(-u^2 / 2) / sqrt(2 pi))
//   gelu_tanh  a = u * (1 + tanh z) / 2,  z = k (u + 0.044715 u^3),  k = sqrt(2 / pi)
//              written with s = 1 / (1 + exp(-2 z)) = (1 + tanh z) / 2, which keeps its digits where tanh nears -1:
//              a = u s,  du = da * (s + 2 u s (1 - s) k (1 + 3 * 0.044715 u^2))
//   swiglu     a = silu(g) * p with g = u[:, :I], p = u[:, I:], silu(g) = g s, s = 1 / (1 + exp(-g))
//              dg = da * p * s (1 + g (1 - s)),  dp = da * g * s
// a, da [N, I], u, du [N, I] (gelu) or [N, 2I] (swiglu), all fp32 or all bf16, rows ld apart; arithmetic is fp32.
// Nothing is saved beyond u. a and du assign; du may be u itself, since a thread reads its elements before it writes their places.
// One thread per eight elements of a row.
#include "cuda/cuda_backend.h"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr float kInvSqrt2Pi = 0.3989422804014327f, kSqrt2OverPi = 0.7978845608028654f, kCubic = 0.044715f;
constexpr float kLog2E = 1.4426950408889634f, kInvSqrt2 = 0.7071067811865476f;

DEVICE float sigmoid(float x) { return fast_reciprocal(1.0f + fast_exp2(-kLog2E * x)); }

/// Phi(u); erfc, since 1 + erf cancels on the left.
DEVICE float normal_cdf(float u) { return 0.5f * erfcf(-kInvSqrt2 * u); }

template <Activation kKind>
DEVICE float gelu(float u) {
  if constexpr (kKind == Activation::gelu_erf) {
    return u * normal_cdf(u);
  } else {
    return u * sigmoid(2.0f * kSqrt2OverPi * (u + kCubic * u * u * u));
  }
}

template <Activation kKind>
DEVICE float gelu_derivative(float u) {
  if constexpr (kKind == Activation::gelu_erf) {
    return normal_cdf(u) + u * (kInvSqrt2Pi * fast_exp2(-0.5f * kLog2E * u * u));
  } else {
    // Beyond 10 the slope is 0 or 1 to the last digit; going on would only overflow. e s is 1 - s without cancellation.
    const float c = fminf(fmaxf(u, -10.0f), 10.0f);
    const float e = fast_exp2(-2.0f * kSqrt2OverPi * kLog2E * (c + kCubic * c * c * c)), s = fast_reciprocal(1.0f + e);
    return s + 2.0f * kSqrt2OverPi * c * (1.0f + 3.0f * kCubic * c * c) * (e * s) * s;
  }
}

template <Activation kKind, bool kAligned, typename T>
KERNEL BOUNDS(ElementGrid::kMostThreads, 4) void activation_forward(Rows<T> a, Rows<const T> u, int64_t I, uint32_t slices) {
  const Slot at = slot_of_thread(slices);
  const int64_t left = I - at.column;
  if (left <= 0) return;
  float x[kVector];
  load_elements<kAligned>(x, u[at.row] + at.column, left);
  if constexpr (kKind == Activation::swiglu) {
    float p[kVector];
    load_elements<kAligned>(p, u[at.row] + I + at.column, left);
    for (int i = 0; i < kVector; ++i) x[i] = x[i] * sigmoid(x[i]) * p[i];
  } else {
    for (int i = 0; i < kVector; ++i) x[i] = gelu<kKind>(x[i]);
  }
  store_elements<kAligned>(a[at.row] + at.column, x, left);
}

template <Activation kKind, bool kAligned, typename T>
KERNEL BOUNDS(ElementGrid::kMostThreads, 4) void activation_backward(Rows<T> du, Rows<const T> da, Rows<const T> u, int64_t I, uint32_t slices) {
  const Slot at = slot_of_thread(slices);
  const int64_t left = I - at.column;
  if (left <= 0) return;
  float x[kVector], d[kVector];
  load_elements<kAligned>(x, u[at.row] + at.column, left);
  load_elements<kAligned>(d, da[at.row] + at.column, left);
  if constexpr (kKind == Activation::swiglu) {
    float p[kVector];
    load_elements<kAligned>(p, u[at.row] + I + at.column, left);
    for (int i = 0; i < kVector; ++i) {
      const float g = x[i], s = sigmoid(g);
      x[i] = d[i] * p[i] * s * (1.0f + g * (1.0f - s));
      d[i] = d[i] * g * s;
    }
    store_elements<kAligned>(du[at.row] + I + at.column, d, left);
  } else {
    for (int i = 0; i < kVector; ++i) x[i] = d[i] * gelu_derivative<kKind>(x[i]);
  }
  store_elements<kAligned>(du[at.row] + at.column, x, left);
}

/// Calls f(activation, alignment, type), each as a constant.
template <typename F>
void with_instance(Activation kind, bool aligned, DType dtype, F&& f) {
  with_flag(aligned, [&]<bool kAligned>(std::bool_constant<kAligned> flag) {
    with_type(dtype, [&]<typename T>(TypeTag<T> type) {
      switch (kind) {
        case Activation::gelu_erf: return f(std::integral_constant<Activation, Activation::gelu_erf>{}, flag, type);
        case Activation::gelu_tanh: return f(std::integral_constant<Activation, Activation::gelu_tanh>{}, flag, type);
        case Activation::swiglu: return f(std::integral_constant<Activation, Activation::swiglu>{}, flag, type);
      }
    });
  });
}

void require_one_type(bool is_one) {
  if (!is_one) fail(ErrorCode::unsupported, "activation: the matrices must have one element type on CUDA");
}

}  // namespace

void CudaBackend::activation_forward(Activation kind, Matrix a, Matrix u, int64_t N, int64_t I) {
  require_one_type(a.dtype == u.dtype);
  if (N == 0 || I == 0) return;
  const ElementGrid e(N, I);
  with_instance(kind, takes_vectors(I, a, u), u.dtype, [&]<Activation kKind, bool kAligned, typename T>(std::integral_constant<Activation, kKind>, std::bool_constant<kAligned>, TypeTag<T>) {
    launch(POLYPACA_CUDA::activation_forward<kKind, kAligned, T>, e.blocks(), e.threads, 0, stream(), rows_of<T>(a), rows_of<const T>(u), I, e.slices);
  });
}

void CudaBackend::activation_backward(Activation kind, Matrix du, Matrix da, Matrix u, int64_t N, int64_t I) {
  require_one_type(du.dtype == u.dtype && da.dtype == u.dtype);
  if (N == 0 || I == 0) return;
  const ElementGrid e(N, I);
  with_instance(kind, takes_vectors(I, du, da, u), u.dtype, [&]<Activation kKind, bool kAligned, typename T>(std::integral_constant<Activation, kKind>, std::bool_constant<kAligned>, TypeTag<T>) {
    launch(POLYPACA_CUDA::activation_backward<kKind, kAligned, T>, e.blocks(), e.threads, 0, stream(), rows_of<T>(du), rows_of<const T>(da), rows_of<const T>(u), I, e.slices);
  });
}

}  // namespace polypaca::POLYPACA_CUDA
