// How native/backend/open_backend.cpp reaches the CUDA back ends: the real one and the emulated one, whichever were built.
#pragma once
#include <memory>

#include "backend/backend.h"
#include "cuda/namespace.h"
#include "cuda/runtime.h"

namespace polypaca {

namespace cuda {
/// Device `index`. Like all below, throws unsupported where there is no driver or no such device.
std::shared_ptr<Backend> open_cuda_backend(int index);
/// devices and problem.
CudaFeatures cuda_features();
DeviceMemory memory_of(int index);
/// GFLOP/s of the fastest large product; takes about `milliseconds`, the first time longer.
double product_peak(int index, double milliseconds);
}  // namespace cuda

namespace cuda_emulated {
std::shared_ptr<Backend> open_cuda_backend(int index);
CudaFeatures cuda_features();
DeviceMemory memory_of(int index);
double product_peak(int index, double milliseconds);
}  // namespace cuda_emulated

namespace POLYPACA_CUDA {
/// For the files of the back end.
DeviceProperties device_at(int index);
}  // namespace POLYPACA_CUDA

}  // namespace polypaca
