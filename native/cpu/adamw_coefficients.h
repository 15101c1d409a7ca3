// An AdamW step's constants, computed in double once a call and rounded once.
#pragma once
#include "backend/backend.h"

namespace polypaca::POLYPACA_ISA {

struct Coefficients {
  float clip, beta1, one_minus_beta1, beta2, one_minus_beta2, keep, step_size, inv_sqrt_correction2, epsilon;
};

POLYPACA_INLINE Coefficients coefficients(const AdamWOptions& o, float weight_decay) {
  const StepState& s = *o.state;
  return {s.clip, float(o.beta1), float(1.0 - o.beta1), float(o.beta2), float(1.0 - o.beta2), float(1.0 - double(s.learning_rate) * double(weight_decay)),
          s.step_size, s.inverse_sqrt_correction2, float(o.epsilon)};
}

}  // namespace polypaca::POLYPACA_ISA
