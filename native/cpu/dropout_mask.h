// Dropout masks as bits: drawn once per use, read by the packing and the output stage of the products (gemm.h).
#pragma once
#include <cstdint>

#include "core/random.h"

namespace polypaca::POLYPACA_ISA {

/// Bytes from one token's bits to the next's.
POLYPACA_INLINE int64_t mask_stride(int64_t C) { return (C + 127) / 128 * 16; }

/// bits [N][mask_stride(C)]: bit c % 8 of byte c / 8 of token n is set where dropout_factor(dropout, n, c) is not zero. What lies
/// behind the C-th bit of a row is arbitrary.
void draw_dropout_mask(uint8_t* bits, const Dropout& dropout, int64_t N, int64_t C);

}  // namespace polypaca::POLYPACA_ISA
