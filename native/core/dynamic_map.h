// Dynamic tree quantisation to 8 bits (Dettmers 2016, arXiv:1511.04561; Dettmers et al. 2022, arXiv:2110.02861, section 1.3): codes in
// the order of the values they stand for, from -1 or 0 to 1. Decade 10^(i - 6) .. 10^(i - 7), i = 0 .. 6, has 2^i values (2^(i + 1)
// without a sign), the middles of as many equal parts: seven decades of range, and the finest steps where values are large. 0 and
// 1 are exact. As bitsandbytes' create_dynamic_map.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace polypaca {

struct DynamicMap {
  float value[256] = {};
  float middle[255] = {};  // between value[i] and value[i + 1]
};

POLYPACA_INLINE constexpr DynamicMap make_dynamic_map(bool has_sign) {
  constexpr double kDecades[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0};
  DynamicMap map;
  const int zero = has_sign ? 127 : 0;
  int code = zero;
  for (int i = 0; i < 7; ++i) {
    const int parts = (has_sign ? 1 : 2) << i;
    for (int j = 0; j < parts; ++j) {
      map.value[++code] = float(kDecades[i] * (0.1 + 0.9 * (j + 0.5) / parts));
      if (has_sign) map.value[2 * zero - code] = -map.value[code];
    }
  }
  map.value[255] = 1.0f;
  for (int i = 0; i < 255; ++i) map.middle[i] = float((double(map.value[i]) + double(map.value[i + 1])) / 2.0);
  return map;
}

}  // namespace polypaca
