// What the optimiser's two forms share: a step's constants, and how values are read and written.
#pragma once
#include "backend/backend.h"

namespace polypaca::POLYPACA_ISA {

struct Coefficients {
  float clip, beta1, one_minus_beta1, beta2, one_minus_beta2, keep, step_size, inv_sqrt_correction2, epsilon;
};

// The three forms of MasterValues, for loops over elements.

struct Fp32Master {
  float* fp32;
  POLYPACA_INLINE explicit Fp32Master(const MasterValues& v) : fp32(v.fp32) {}
  POLYPACA_INLINE float load(int64_t i) const { return fp32[i]; }
  POLYPACA_INLINE void store(int64_t i, float x) const { fp32[i] = x; }
};

struct CopiedMaster {
  float* fp32;
  bf16* copy;
  POLYPACA_INLINE explicit CopiedMaster(const MasterValues& v) : fp32(v.fp32), copy(v.copy) {}
  POLYPACA_INLINE float load(int64_t i) const { return fp32[i]; }
  POLYPACA_INLINE void store(int64_t i, float x) const {
    fp32[i] = x;
    copy[i] = to_bf16(x);
  }
};

struct SplitMaster {
  bf16* copy;
  int16_t* remainder;
  POLYPACA_INLINE explicit SplitMaster(const MasterValues& v) : copy(v.copy), remainder(v.remainder) {}
  POLYPACA_INLINE float load(int64_t i) const { return join(copy[i], remainder[i]); }
  POLYPACA_INLINE void store(int64_t i, float x) const {
    const SplitFloat halves = split(x);
    copy[i] = halves.value;
    remainder[i] = halves.remainder;
  }
};

template <typename Master>
struct MasterTag {};

/// Calls f(MasterTag<...>) for the form the values are in.
template <typename F>
POLYPACA_INLINE void with_master(const MasterValues& values, F&& f) {
  if (values.remainder) {
    f(MasterTag<SplitMaster>());
  } else if (values.copy) {
    f(MasterTag<CopiedMaster>());
  } else {
    f(MasterTag<Fp32Master>());
  }
}

POLYPACA_INLINE Coefficients coefficients(const AdamWOptions& o, float weight_decay) {
  const StepState& s = *o.state;
  return {s.clip, float(o.beta1), float(1.0 - o.beta1), float(o.beta2), float(1.0 - o.beta2), float(1.0 - double(s.learning_rate) * double(weight_decay)),
          s.step_size, s.inverse_sqrt_correction2, float(o.epsilon)};
}

}  // namespace polypaca::POLYPACA_ISA
