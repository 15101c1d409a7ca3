// Construction of the CPU back end, once per instruction set.
#include "cpu/cpu_backend.h"

namespace polypaca::POLYPACA_ISA {

#define POLYPACA_TEXT_OF(x) #x
#define POLYPACA_TEXT(x) POLYPACA_TEXT_OF(x)

CpuBackend::CpuBackend(const CpuOptions& options) : options_(options) {
#ifndef __AVX512F__
  options_.bf16_dot = false;
#endif
}

CpuBackend::~CpuBackend() { release_scratch(gemm_scratch_); }

std::string CpuBackend::describe() const { return describe_cpu_backend(POLYPACA_TEXT(POLYPACA_ISA), options_); }

Backend* create_cpu_backend(const CpuOptions& options) { return new CpuBackend(options); }

}  // namespace polypaca::POLYPACA_ISA
