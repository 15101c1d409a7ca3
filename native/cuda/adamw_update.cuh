// One element of an AdamW step, shared by adamw.cu and adamw8bit.cu. Formulas: adamw.cu.
#pragma once
#include "backend/backend.h"
#include "cuda/device.h"

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

}  // namespace polypaca::POLYPACA_CUDA
