// What adamw.cu and adamw8bit.cu share: an element's step, and how masters are read and written. Formulas: adamw.cu.
#pragma once
#include "backend/backend.h"
#include "cuda/elements.cuh"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {

/// What the host knows when it launches, rounded from double once.
struct AdamWConstants {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, weight_decay;

  AdamWConstants(const AdamWOptions& o, float weight_decay)
      : beta1(float(o.beta1)), one_minus_beta1(float(1.0 - o.beta1)), beta2(float(o.beta2)), one_minus_beta2(float(1.0 - o.beta2)), epsilon(float(o.epsilon)), weight_decay(weight_decay) {}
};

/// All of a step's coefficients: the constants, and what the step's state in device memory holds.
struct AdamWCoefficients {
  float clip, keep, step_size, inverse_sqrt_correction2;
  AdamWConstants k;

  DEVICE AdamWCoefficients(const AdamWConstants& constants, const StepState& state)
      : clip(state.clip), keep(fmaf(-state.learning_rate, constants.weight_decay, 1.0f)), step_size(state.step_size), inverse_sqrt_correction2(state.inverse_sqrt_correction2), k(constants) {}
};

/// p, m and v after the step.
DEVICE void adamw_update(float& p, float& m, float& v, float grad, const AdamWCoefficients& a) {
  const float g = a.clip * grad;
  m = a.k.beta1 * m + a.k.one_minus_beta1 * g;
  v = a.k.beta2 * v + a.k.one_minus_beta2 * (g * g);
  p = p * a.keep - a.step_size * (m / (sqrtf(v) * a.inverse_sqrt_correction2 + a.k.epsilon));
}

// How masters are kept is known to these two alone: fp32, fp32 with a bf16 copy, or halves. Eight from i on.
template <bool kAligned>
DEVICE void load_masters(float (&p)[kVector], const MasterValues& r, int64_t i, int64_t left) {
  if (r.remainder) {
    load_halves<kAligned>(p, r.copy + i, r.remainder + i, left);
  } else {
    load_elements<kAligned>(p, r.fp32 + i, left);
  }
}

template <bool kAligned>
DEVICE void store_masters(const MasterValues& r, int64_t i, const float (&p)[kVector], int64_t left) {
  if (r.remainder) {
    store_halves<kAligned>(r.copy + i, r.remainder + i, p, left);
    return;
  }
  store_elements<kAligned>(r.fp32 + i, p, left);
  if (r.copy) store_elements<kAligned>(r.copy + i, p, left);
}

inline bool is_aligned(const MasterValues& r) { return is_aligned(r.fp32) && is_aligned(r.copy) && is_aligned(r.remainder); }

}  // namespace polypaca::POLYPACA_CUDA
