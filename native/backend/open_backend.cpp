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

std::shared_ptr<Backend> open_cuda([[maybe_unused]] const std::string& device, [[maybe_unused]] int index) {
#if defined(POLYPACA_HAS_CUDA)
  return cuda::open_cuda_backend(index);
#else
  refuse(device, "this build has no CUDA back end. Build it on a machine with nvcc 13: POLYPACA_CUDA=ON npm run build. Or use --device cpu.");
#endif
}

std::shared_ptr<Backend> open_emulated([[maybe_unused]] const std::string& device) {
#if defined(POLYPACA_HAS_EMULATOR)
  return cuda_emulated::open_cuda_backend(0);
#else
  refuse(device, "this build has no emulator. Build with it: POLYPACA_EMULATOR=ON npm run build. Or use --device cpu.");
#endif
}

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
  if (device == "cuda-emulated") return open_emulated(device);
  if (device == "cuda") return open_cuda(device, 0);
  const std::string number = device.rfind("cuda:", 0) == 0 ? device.substr(5) : "";
  if (number.empty() || number.size() > 3 || number.find_first_not_of("0123456789") != std::string::npos) refuse(device, "expected cpu, cuda, cuda:<n> or cuda-emulated");
  return open_cuda(device, std::stoi(number));
}

}  // namespace polypaca
