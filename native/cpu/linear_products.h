// How the matrices of linear layers and adapters become factors of gemm().
#pragma once
#include "cpu/gemm.h"

namespace polypaca::POLYPACA_ISA {

/// The vectors are the matrix's rows: x in x w^T, w in x w^T.
POLYPACA_INLINE Operand rows_of(const Matrix& m) { return {m.data, m.dtype, m.ld, true, nullptr, 0}; }
/// The vectors are the matrix's columns: w in dy w, dy and x in dy^T x.
POLYPACA_INLINE Operand columns_of(const Matrix& m) { return {m.data, m.dtype, m.ld, false, nullptr, 0}; }

}  // namespace polypaca::POLYPACA_ISA
