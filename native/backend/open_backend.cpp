// Chooses the back end: the one place that knows which were built.
#include <string>

#include "backend/backend.h"
#include "core/error.h"
#if defined(POLYPACA_HAS_CUDA) || defined(POLYPACA_HAS_EMULATOR)
#include "cuda/open.h"
#endif

namespace polypaca {
namespace {

[[noreturn]] void refuse(const std::string& device, const std::string& why) { throw Error(ErrorCode::unsupported, "device \"" + device + "\": " + why); }

/// The index of "cuda" or "cuda:<n>".
int cuda_index(const std::string& device) {
  if (device == "cuda") return 0;
  const std::string number = device.rfind("cuda:", 0) == 0 ? device.substr(5) : "";
  if (number.empty() || number.size() > 3 || number.find_first_not_of("0123456789") != std::string::npos) refuse(device, "expected cpu, cuda, cuda:<n> or cuda-emulated");
  return std::stoi(number);
}

/// The back ends that may be missing from a build, as one interface.
struct CudaBuild {
  std::shared_ptr<Backend> (*open)(int index);
  DeviceMemory (*memory)(int index);
  double (*peak)(int index, double milliseconds);
};

CudaBuild cuda_build(const std::string& device) {
  if (device == "cuda-emulated") {
#if defined(POLYPACA_HAS_EMULATOR)
    return {cuda_emulated::open_cuda_backend, cuda_emulated::memory_of, cuda_emulated::product_peak};
#else
    refuse(device, "this build has no emulator. Build with it: POLYPACA_EMULATOR=ON npm run build. Or use --device cpu.");
#endif
  }
#if defined(POLYPACA_HAS_CUDA)
  return {cuda::open_cuda_backend, cuda::memory_of, cuda::product_peak};
#else
  refuse(device, "this build has no CUDA back end. Build it on a machine with nvcc 13: POLYPACA_CUDA=ON npm run build. Or use --device cpu.");
#endif
}

int index_of(const std::string& device) { return device == "cuda-emulated" ? 0 : cuda_index(device); }

}  // namespace

CudaFeatures cuda_features() {
#if defined(POLYPACA_HAS_CUDA)
  CudaFeatures features = cuda::cuda_features();
  features.built = true;
#else
  CudaFeatures features;
#endif
#if defined(POLYPACA_HAS_EMULATOR)
  features.emulator = true;
#endif
  return features;
}

std::shared_ptr<Backend> open_backend(const std::string& device) {
  if (device == "cpu") return open_cpu_backend();
  const int index = index_of(device);  // a name that is none is refused before what a build lacks
  return cuda_build(device).open(index);
}

DeviceMemory device_memory(const std::string& device) {
  if (device == "cpu") {
    const MemoryLimits limits = memory_limits();
    return {resident_bytes(), peak_resident_bytes(), limits.available, limits.total};
  }
  const int index = index_of(device);
  return cuda_build(device).memory(index);
}

double measure_peak(const std::string& device, DType dtype, double milliseconds) {
  if (device == "cpu") return measure_micro_kernel(dtype, milliseconds);
  const int index = index_of(device);
  if (dtype != DType::bf16) refuse(device, "its products take bf16 only");
  return cuda_build(device).peak(index, milliseconds);
}

}  // namespace polypaca
