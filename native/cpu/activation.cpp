// The MLP's activations. GELU: Hendrycks & Gimpel 2016, arXiv:1606.08415, the exact form and the tanh approximation that BLOOM
// was trained with; SwiGLU: Shazeer 2020, arXiv:2002.05202.
//   gelu_erf   a = u * Phi(u),  Phi(u) = (1 + erf(u / sqrt 2)) / 2;      du = da * (Phi(u) + u * exp(-u^2 / 2) / sqrt(2 pi))
//   gelu_tanh  a = u * (1 + tanh z) / 2,  z = k (u + 0.044715 u^3),  k = sqrt(2 / pi)
//              written with s = 1 / (1 + exp(-2 z)) = (1 + tanh z) / 2, which keeps its digits where tanh nears -1:
//              a = u s,  du = da * (s + 2 u s (1 - s) k (1 + 3 * 0.044715 u^2))
//   swiglu     a = silu(g) * p with g = u[:, :I], p = u[:, I:], silu(g) = g s, s = 1 / (1 + exp(-g))
//              dg = da * p * s (1 + g (1 - s)),  dp = da * g * s
// a, da [N, I], u, du [N, I] (gelu) or [N, 2I] (swiglu), fp32 or bf16 in any mixture, rows ld apart; arithmetic is fp32.
// Nothing is saved beyond u. a and du assign; du may be u itself, since an element is read before its place is written.
#include "cpu/cpu_backend.h"
#include "cpu/rows.h"
#include "cpu/vector_math.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr float kInvSqrt2Pi = 0.3989422804014327f, kSqrt2OverPi = 0.7978845608028654f, kCubic = 0.044715f;

template <Activation kKind>
POLYPACA_INLINE Floats gelu(Floats u) {
  if constexpr (kKind == Activation::gelu_erf) {
    return u * normal_cdf(u).cdf;
  } else {
    return u * sigmoid_of(2.0f * kSqrt2OverPi * (u + kCubic * u * u * u));
  }
}

template <Activation kKind>
POLYPACA_INLINE Floats gelu_derivative(Floats u) {
  if constexpr (kKind == Activation::gelu_erf) {
    const NormalCdf normal = normal_cdf(u);
    return normal.cdf + u * kInvSqrt2Pi * normal.bell;
  } else {
    // Beyond 10 the slope is 0 or 1 to the last digit; going on would only overflow. e s is 1 - s without cancellation.
    const Floats c = select(u < all_lanes(-10.0f), all_lanes(-10.0f), select(u > all_lanes(10.0f), all_lanes(10.0f), u));
    const Floats e = exp2_of(-2.0f * kSqrt2OverPi * 1.44269504f * (c + kCubic * c * c * c)), s = 1.0f / (1.0f + e);
    return s + 2.0f * kSqrt2OverPi * c * (1.0f + 3.0f * kCubic * c * c) * (e * s) * s;
  }
}

template <Activation kKind, typename TA, typename TU>
void forward(Matrix a, Matrix u, int64_t N, int64_t I) {
#pragma omp parallel for schedule(static) if (N * I >= kParallelElements)
  for (int64_t n = 0; n < N; ++n) {
    TA* an = row_of<TA>(a, n);
    const TU* un = row_of<TU>(u, n);
    for (int64_t i = 0; i < I; i += kLanes) {
      const int64_t count = I - i;
      const Floats x = load_floats(un + i, count);
      if constexpr (kKind == Activation::swiglu) {
        store_floats(an + i, x * sigmoid_of(x) * load_floats(un + I + i, count), count);
      } else {
        store_floats(an + i, gelu<kKind>(x), count);
      }
    }
  }
}

template <Activation kKind, typename TDU, typename TDA, typename TU>
void backward(Matrix du, Matrix da, Matrix u, int64_t N, int64_t I) {
#pragma omp parallel for schedule(static) if (N * I >= kParallelElements)
  for (int64_t n = 0; n < N; ++n) {
    TDU* dun = row_of<TDU>(du, n);
    const TDA* dan = row_of<TDA>(da, n);
    const TU* un = row_of<TU>(u, n);
    for (int64_t i = 0; i < I; i += kLanes) {
      const int64_t count = I - i;
      const Floats x = load_floats(un + i, count), d = load_floats(dan + i, count);
      if constexpr (kKind == Activation::swiglu) {
        const Floats s = sigmoid_of(x), p = load_floats(un + I + i, count);
        store_floats(dun + i, d * p * s * (1.0f + x * (1.0f - s)), count);
        store_floats(dun + I + i, d * x * s, count);
      } else {
        store_floats(dun + i, d * gelu_derivative<kKind>(x), count);
      }
    }
  }
}

}  // namespace

void CpuBackend::activation_forward(Activation kind, Matrix a, Matrix u, int64_t N, int64_t I) {
  with_types(a.dtype, u.dtype, [&]<typename TA, typename TU>(TypeTag<TA>, TypeTag<TU>) {
    switch (kind) {
      case Activation::gelu_erf: return forward<Activation::gelu_erf, TA, TU>(a, u, N, I);
      case Activation::gelu_tanh: return forward<Activation::gelu_tanh, TA, TU>(a, u, N, I);
      case Activation::swiglu: return forward<Activation::swiglu, TA, TU>(a, u, N, I);
    }
  });
}

void CpuBackend::activation_backward(Activation kind, Matrix du, Matrix da, Matrix u, int64_t N, int64_t I) {
  with_types(du.dtype, da.dtype, u.dtype, [&]<typename TDU, typename TDA, typename TU>(TypeTag<TDU>, TypeTag<TDA>, TypeTag<TU>) {
    switch (kind) {
      case Activation::gelu_erf: return backward<Activation::gelu_erf, TDU, TDA, TU>(du, da, u, N, I);
      case Activation::gelu_tanh: return backward<Activation::gelu_tanh, TDU, TDA, TU>(du, da, u, N, I);
      case Activation::swiglu: return backward<Activation::swiglu, TDU, TDA, TU>(du, da, u, N, I);
    }
  });
}

}  // namespace polypaca::POLYPACA_ISA
