// What the products of a run keep in the back end's packing buffers, for planning. Each buffer grows to the most that any product
// needs of it, so the whole is the sum of four largest and not the largest of sums. oneDNN packs in buffers of its own, which are
// not larger; the bf16 copies that products.cpp makes for it are not counted.
#include "cpu/cpu_backend.h"
#include "cpu/dropout_mask.h"

namespace polypaca::POLYPACA_ISA {
namespace {

POLYPACA_INLINE void grow(int64_t& most, int64_t bytes) { most = bytes > most ? bytes : most; }

}  // namespace

int64_t CpuBackend::scratch_bytes(const StepShapes& step) const {
  GemmScratchBytes most;
  int64_t mask = 0;
  for (const ProductShape& p : step.products) {
    const bool dot = options_.bf16_dot && p.dtype == DType::bf16;
    const GemmScratchBytes one = most_scratch(p.M, p.N, p.K, p.R, p.prepared && options_.prepack, dot);
    grow(most.shared, one.shared);
    grow(most.local, one.local);
    grow(most.sums, one.sums);
    if (p.masked) grow(mask, p.M * mask_stride(p.K));
  }
  return reserved_bytes(most.shared) + reserved_bytes(most.local) + reserved_bytes(most.sums) + reserved_bytes(mask);
}

}  // namespace polypaca::POLYPACA_ISA
