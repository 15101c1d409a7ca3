// Counter-based random numbers: a value is a pure function of (key, counter), so that a dropout mask needs no storage
// and does not depend on micro-batching, packing, threads or device.
// Philox4x32, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; 7 rounds pass BigCrush, 10 are the paper's safe choice.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace polypaca {

struct Philox4 {
  uint32_t v[4];
};

template <int kRounds>
POLYPACA_INLINE Philox4 philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < kRounds; ++round) {
    uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c1 = uint32_t(p1);
    c3 = uint32_t(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return Philox4{{c0, c1, c2, c3}};
}

/// Dropout of an adapter's input. Element (token n, feature c) is kept where a 16-bit draw is at least `threshold`.
/// The draw: philox4x32<7>, counter (c / 8, positions[n], examples[n], site), key (key[0], key[1]); its 128 bits are eight
/// little-endian 16-bit draws, feature c takes number c % 8 (word (c % 8) / 2, low half first).
/// Kept elements are multiplied by `keep_scale`. rate 0 means threshold 0: everything is kept and keep_scale is 1.
struct Dropout {
  uint32_t threshold = 0;      // round(rate * 65536)
  float keep_scale = 1.0f;     // 1 / (1 - threshold / 65536): exact for the rate that is really drawn
  const uint32_t* key = nullptr;  // [2] from (seed, step), in the back end's memory; null where nothing is dropped
  uint32_t site = 0;           // layer * 4 + adapter input (0 attention input, 1 attention output, 2 MLP input, 3 MLP hidden)
  const int32_t* positions = nullptr;  // [N] position of the token in its example
  const int32_t* examples = nullptr;   // [N] index of the example in the step's batch
  POLYPACA_INLINE bool active() const { return threshold != 0; }
};

/// One factor of the mask: 0 or keep_scale. The slow, obvious form that every kernel must equal.
POLYPACA_INLINE float dropout_factor(const Dropout& d, int64_t n, int64_t c) {
  Philox4 r = philox4x32<7>(uint32_t(c / 8), uint32_t(d.positions[n]), uint32_t(d.examples[n]), d.site, d.key[0], d.key[1]);
  uint32_t draw = (r.v[(c % 8) / 2] >> (16 * (c % 2))) & 0xFFFFu;
  return draw >= d.threshold ? d.keep_scale : 0.0f;
}

}  // namespace polypaca
