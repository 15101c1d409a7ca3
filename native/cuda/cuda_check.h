// Status of the CUDA runtime to Error. Only files that include CUDA's headers include this one.
#pragma once
#include <cuda_runtime_api.h>

#include <string>

#include "core/error.h"

namespace polypaca::cuda {

/// Throws Error (out_of_memory where that is what it is) with the call, CUDA's name of the status and its text.
inline void check(cudaError_t status, const std::string& call) {
  if (status == cudaSuccess) return;
  const ErrorCode code = status == cudaErrorMemoryAllocation ? ErrorCode::out_of_memory : ErrorCode::internal;
  throw Error(code, call + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

}  // namespace polypaca::cuda
