// The dense product for a handful of rows, as in decoding one token of a few sequences.
#pragma once
#include "cpu/gemm.h"

namespace polypaca::POLYPACA_ISA {

/// Whether gemm_few_rows computes this call, and faster than packing B would.
bool suits_few_rows(const GemmCall& call);
void gemm_few_rows(const GemmCall& call, GemmScratch& scratch);

}  // namespace polypaca::POLYPACA_ISA
