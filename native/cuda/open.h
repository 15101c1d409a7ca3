// How native/backend/open_backend.cpp reaches the CUDA back ends: the real one and the emulated one, whichever were built.
#pragma once
#include <memory>

#include "backend/backend.h"

namespace polypaca {

namespace cuda {
/// Device `index`. Throws unsupported where there is no driver or no such device.
std::shared_ptr<Backend> open_cuda_backend(int index);
/// devices and problem.
CudaFeatures cuda_features();
}  // namespace cuda

namespace cuda_emulated {
std::shared_ptr<Backend> open_cuda_backend(int index);
CudaFeatures cuda_features();
}  // namespace cuda_emulated

}  // namespace polypaca
