// An AdamW step's constants, computed in double once a call and rounded once.
#pragma once
#include <math.h>

#include "backend/backend.h"

namespace polypaca::POLYPACA_ISA {

struct Coefficients {
  float grad_scale, beta1, one_minus_beta1, beta2, one_minus_beta2, keep, step_size, inv_sqrt_correction2, epsilon;
};

POLYPACA_INLINE Coefficients coefficients(const AdamWOptions& o, float weight_decay) {
  const double lr = o.learning_rate;
  const double correction1 = 1.0 - pow(o.beta1, double(o.step)), correction2 = 1.0 - pow(o.beta2, double(o.step));
  return {o.grad_scale, float(o.beta1), float(1.0 - o.beta1), float(o.beta2), float(1.0 - o.beta2), float(1.0 - lr * double(weight_decay)),
          float(lr / correction1), float(1.0 / sqrt(correction2)), float(o.epsilon)};
}

}  // namespace polypaca::POLYPACA_ISA
