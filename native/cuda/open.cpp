#include "cuda/open.h"

#include <string>

#include "core/error.h"
#include "cuda/cuda_backend.h"
#include "cuda/held_memory.h"

namespace polypaca::POLYPACA_CUDA {

CudaFeatures cuda_features() {
  CudaFeatures features;
  for (const DeviceProperties& d : list_devices(features.problem)) features.devices.push_back({d.index, d.name, d.major, d.minor, d.total_memory});
  return features;
}

DeviceProperties device_at(int index) {
  std::string why;
  for (const DeviceProperties& device : list_devices(why)) {
    if (device.index == index) return device;
  }
  if (why.empty()) why = "there is no device " + std::to_string(index);
  throw Error(ErrorCode::unsupported, "device \"cuda" + (index > 0 ? ":" + std::to_string(index) : "") + "\": " + why);
}

std::shared_ptr<Backend> open_cuda_backend(int index) {
  const DeviceProperties device = device_at(index);
  use_device(index);
  return std::make_shared<CudaBackend>(device, open_products(device));
}

DeviceMemory memory_of(int index) {
  const DeviceProperties device = device_at(index);
  use_device(index);
  const HeldMemory held = held_memory(index);
  return {held.now, held.most, free_memory(), device.total_memory};
}

}  // namespace polypaca::POLYPACA_CUDA
