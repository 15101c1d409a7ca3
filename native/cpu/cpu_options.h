// What the dispatcher (open_backend) tells a CPU back end, whichever instruction set that one was compiled for.
#pragma once
#include "backend/backend.h"

namespace polypaca {

struct CpuOptions {
  bool bf16_dot = false;  // the machine has AVX512-BF16 and the kernels may use it; only the avx512 build looks at it
  bool onednn = false;    // large products go to oneDNN
  bool prepack = false;   // keep frozen weights packed as well, for both directions: three times their memory for a few percent
};

/// What open.cpp calls of each instruction set: compiled from the same sources with POLYPACA_ISA set to the namespace's name.
namespace baseline {
Backend* create_cpu_backend(const CpuOptions& options);
double measure_kernel_peak(bool bf16_dot, double seconds);
}
namespace avx2 {
Backend* create_cpu_backend(const CpuOptions& options);
double measure_kernel_peak(bool bf16_dot, double seconds);
}
namespace avx512 {
Backend* create_cpu_backend(const CpuOptions& options);
double measure_kernel_peak(bool bf16_dot, double seconds);
}

/// "portable", our own, or "oneDNN 2.6.3".
std::string name_of_products(const CpuOptions& options);

/// The text of Backend::describe() for a CPU back end. Defined beside open_backend, outside the per-instruction-set objects.
std::string describe_cpu_backend(const char* isa, const CpuOptions& options);

}  // namespace polypaca
