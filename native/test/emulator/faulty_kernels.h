// Kernels for emulator_test: each correct one, and the same with one fault.
#pragma once
#include <vector>

#include "cuda/namespace.h"

namespace polypaca::POLYPACA_CUDA {

struct KernelCase {
  const char* name;
  const char* report;  // what the emulator's message must hold; null: the kernel is correct
  void (*run)();       // throws where a result is wrong, too
};

const std::vector<KernelCase>& kernel_cases();

}  // namespace polypaca::POLYPACA_CUDA
