// AdamW with moments of 8 bits (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861).
//   m = signed map[code] * m_scale, v = unsigned map[code] * v_scale; the step of adamw.cpp in fp32; then per block of kMomentBlock
//   scale = largest magnitude, code = that of the nearest of the map's values to x / scale
// A positive v whose nearest value is 0 gets the smallest one instead: its m need not be 0, and m / (sqrt(0) + epsilon) would be a step of
// any size. Blocks do not meet, so threads change nothing.
#include <float.h>
#include <math.h>

#include "core/dynamic_map.h"
#include "cpu/adamw_coefficients.h"
#include "cpu/cpu_backend.h"
#include "cpu/rows.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr DynamicMap kSigned = make_dynamic_map(true), kUnsigned = make_dynamic_map(false);

/// Code of the nearest value; halfway, of the lower one.
POLYPACA_INLINE int encode(const DynamicMap& map, float x) {
  int code = 0;
#pragma GCC unroll 8
  for (int half = 128; half > 0; half /= 2) code += x > map.middle[code + half - 1] ? half : 0;
  return code;
}

/// A block's scale from its largest magnitude: a subnormal one, whose inverse may overflow, counts as zero.
POLYPACA_INLINE float scale_of(float largest) { return largest >= FLT_MIN ? largest : 0.0f; }

template <typename Master>
void update_block(const AdamW8bitRange& r, const Coefficients& k, int64_t block) {
  const int64_t begin = block * kMomentBlock, n = smaller(kMomentBlock, r.count - begin);
  uint8_t *m_codes = r.m + begin, *v_codes = r.v + begin;
  const Master p(r.master.at(begin));
  float m[kMomentBlock], v[kMomentBlock];
  const float *grad = r.grad + begin, m_scale = r.m_scale[block], v_scale = r.v_scale[block];
  float m_largest = 0.0f, v_largest = 0.0f;
#pragma omp simd reduction(max : m_largest, v_largest)
  for (int64_t i = 0; i < n; ++i) {
    const float g = k.clip * grad[i];
    const float mi = k.beta1 * (kSigned.value[m_codes[i]] * m_scale) + k.one_minus_beta1 * g;
    const float vi = k.beta2 * (kUnsigned.value[v_codes[i]] * v_scale) + k.one_minus_beta2 * (g * g);
    p.store(i, p.load(i) * k.keep - k.step_size * (mi / (sqrtf(vi) * k.inv_sqrt_correction2 + k.epsilon)));
    m[i] = mi;
    v[i] = vi;
    const float magnitude = fabsf(mi);
    m_largest = magnitude > m_largest ? magnitude : m_largest;
    v_largest = vi > v_largest ? vi : v_largest;
  }
  r.m_scale[block] = scale_of(m_largest);
  r.v_scale[block] = scale_of(v_largest);
  const float m_factor = r.m_scale[block] > 0 ? 1.0f / m_largest : 0.0f, v_factor = r.v_scale[block] > 0 ? 1.0f / v_largest : 0.0f;
  for (int64_t i = 0; i < n; ++i) m_codes[i] = uint8_t(encode(kSigned, m[i] * m_factor));
  for (int64_t i = 0; i < n; ++i) {
    const int code = encode(kUnsigned, v[i] * v_factor);
    v_codes[i] = uint8_t(code == 0 && v[i] > 0.0f ? 1 : code);
  }
}

}  // namespace

void CpuBackend::adamw8bit(const AdamW8bitRange& range, const AdamWOptions& options) {
  if (!options.state->applies) return;
  const Coefficients k = coefficients(options, range.weight_decay);
  const int64_t blocks = (range.count + kMomentBlock - 1) / kMomentBlock;
#pragma omp parallel for schedule(static) if (range.count >= kParallelElements)
  for (int64_t block = 0; block < blocks; ++block) {
    with_master(range.master, [&]<typename Master>(MasterTag<Master>) { update_block<Master>(range, k, block); });
  }
}

}  // namespace polypaca::POLYPACA_ISA
