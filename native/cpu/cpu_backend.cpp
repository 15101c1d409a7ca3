// Construction of the CPU back end, once per instruction set.
#include "cpu/cpu_backend.h"

#include <stdlib.h>

namespace polypaca::POLYPACA_ISA {

#define POLYPACA_TEXT_OF(x) #x
#define POLYPACA_TEXT(x) POLYPACA_TEXT_OF(x)

CpuBackend::CpuBackend(const CpuOptions& options) : options_(options) {
#ifndef __AVX512F__
  options_.bf16_dot = false;
#endif
  if (options_.onednn) onednn_ = open_onednn();
}

CpuBackend::~CpuBackend() {
  release_scratch(gemm_scratch_);
  free(bf16_a_.data);
  free(bf16_b_.data);
  free(adapter_sum_.data);
  close_onednn(onednn_);
}

std::string CpuBackend::describe() const { return describe_cpu_backend(POLYPACA_TEXT(POLYPACA_ISA), options_); }

Backend* create_cpu_backend(const CpuOptions& options) { return new CpuBackend(options); }

}  // namespace polypaca::POLYPACA_ISA
