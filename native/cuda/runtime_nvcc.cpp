// runtime.h and launch.h by the CUDA runtime. Compiled by the host's compiler: there is no kernel here.
#include "cuda/runtime.h"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <map>
#include <mutex>

#include "cuda/cuda_check.h"
#include "cuda/held_memory.h"
#include "cuda/launch.h"

namespace polypaca::cuda {
namespace {

cudaStream_t handle_of(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle()); }
cudaEvent_t event_of(void* handle) { return static_cast<cudaEvent_t>(handle); }

std::string mebibytes(int64_t bytes) {
  char text[32];
  snprintf(text, sizeof text, "%.1f MiB", double(bytes) / double(1 << 20));
  return text;
}

std::string place_of(const Grid& grid) {
  const std::string path = grid.at.file_name();
  const size_t at = path.rfind("native/");
  return (at == std::string::npos ? path : path.substr(at)) + ":" + std::to_string(grid.at.line());
}

constexpr int64_t kSharedByDefault = 48 * 1024;

/// A kernel may take more than 48 KiB of shared memory only where it asked before, once per device.
void allow_shared(const void* kernel, int64_t bytes, const Grid& grid) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, int64_t> allowed;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(mutex);
  int64_t& most = allowed[{kernel, device}];
  if (bytes <= most) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)), place_of(grid) + ": " + std::to_string(bytes) + " bytes of shared memory for a kernel (cudaFuncSetAttribute)");
  most = bytes;
}

}  // namespace

std::vector<DeviceProperties> list_devices(std::string& why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    int version = 0;
    const bool has_driver = cudaDriverGetVersion(&version) == cudaSuccess && version > 0;
    why = has_driver ? "the NVIDIA driver knows CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10) + ", this build needs " + std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10)
                     : "there is no NVIDIA driver";
    why += std::string(" (") + cudaGetErrorString(status) + ")";
  } else if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    why = "there is an NVIDIA driver but no device (" + std::string(cudaGetErrorString(cudaErrorNoDevice)) + ")";
  } else if (status != cudaSuccess) {
    why = std::string("cudaGetDeviceCount: ") + cudaGetErrorName(status) + ", " + cudaGetErrorString(status);
  }
  cudaGetLastError();  // it is told; the next launch must not report it again
  std::vector<DeviceProperties> devices;
  for (int i = 0; i < count && why.empty(); ++i) {
    cudaDeviceProp p;
    check(cudaGetDeviceProperties(&p, i), "cudaGetDeviceProperties");
    devices.push_back({i, p.name, p.major, p.minor, int64_t(p.totalGlobalMem), p.multiProcessorCount, int64_t(p.sharedMemPerBlockOptin), int64_t(p.l2CacheSize)});
  }
  return devices;
}

void use_device(int index) {
  static thread_local int current = -1;
  if (current == index) return;
  check(cudaSetDevice(index), "cudaSetDevice(" + std::to_string(index) + ")");
  current = index;
}

int64_t free_memory() {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return int64_t(free);
}

// ---- streams and events ----

Stream::Stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  handle_ = stream;
}
Stream::~Stream() { cudaStreamDestroy(static_cast<cudaStream_t>(handle_)); }
void Stream::synchronize() const { check(cudaStreamSynchronize(handle_of(*this)), "cudaStreamSynchronize"); }
bool Stream::recording() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(handle_of(*this), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

Event::Event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  handle_ = event;
}
Event::~Event() { cudaEventDestroy(event_of(handle_)); }
void Event::record(const Stream& stream) { check(cudaEventRecord(event_of(handle_), handle_of(stream)), "cudaEventRecord"); }
void Event::hold(const Stream& stream) const { check(cudaStreamWaitEvent(handle_of(stream), event_of(handle_), 0), "cudaStreamWaitEvent"); }
void Event::synchronize() const { check(cudaEventSynchronize(event_of(handle_)), "cudaEventSynchronize"); }
bool Event::done() const {
  const cudaError_t status = cudaEventQuery(event_of(handle_));
  if (status == cudaErrorNotReady) return false;
  check(status, "cudaEventQuery");
  return true;
}
double Event::seconds_since(const Event& start) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, event_of(start.handle_), event_of(handle_)), "cudaEventElapsedTime");
  return double(milliseconds) / 1000;
}

// ---- memory ----

void* allocate_device(int64_t bytes) {
  if (bytes < 0) throw Error(ErrorCode::out_of_memory, "a negative number of bytes was asked for on the GPU");
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, size_t(bytes > 0 ? bytes : 1));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error(ErrorCode::out_of_memory, "could not allocate " + mebibytes(bytes) + " on the GPU, " + mebibytes(free_memory()) + " are free. Use a smaller --micro-batch-tokens, --recompute block, LoRA or a smaller model.");
  }
  check(status, "cudaMalloc");
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  note_taken(device, data, bytes);
  return data;
}
void release_device(void* data) {
  note_returned(data);
  cudaFree(data);
}

void* allocate_pinned(int64_t bytes) {
  void* data = nullptr;
  check(cudaMallocHost(&data, size_t(bytes > 0 ? bytes : 1)), "cudaMallocHost of " + mebibytes(bytes));
  return data;
}
void release_pinned(void* data) { cudaFreeHost(data); }

void copy_to_device(void* device, const void* host, int64_t bytes, const Stream& stream) { check(cudaMemcpyAsync(device, host, size_t(bytes), cudaMemcpyHostToDevice, handle_of(stream)), "cudaMemcpyAsync to the GPU"); }
void copy_to_host(void* host, const void* device, int64_t bytes, const Stream& stream) { check(cudaMemcpyAsync(host, device, size_t(bytes), cudaMemcpyDeviceToHost, handle_of(stream)), "cudaMemcpyAsync from the GPU"); }
void copy_on_device(void* to, const void* from, int64_t bytes, const Stream& stream) { check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToDevice, handle_of(stream)), "cudaMemcpyAsync on the GPU"); }
void copy_rows_on_device(void* to, int64_t to_pitch, const void* from, int64_t from_pitch, int64_t row_bytes, int64_t rows, const Stream& stream) {
  check(cudaMemcpy2DAsync(to, size_t(to_pitch), from, size_t(from_pitch), size_t(row_bytes), size_t(rows), cudaMemcpyDeviceToDevice, handle_of(stream)), "cudaMemcpy2DAsync on the GPU");
}
void copy_rows_to_device(void* to, int64_t to_pitch, const void* host, int64_t from_pitch, int64_t row_bytes, int64_t rows, const Stream& stream) {
  check(cudaMemcpy2DAsync(to, size_t(to_pitch), host, size_t(from_pitch), size_t(row_bytes), size_t(rows), cudaMemcpyHostToDevice, handle_of(stream)), "cudaMemcpy2DAsync to the GPU");
}
void fill_bytes(void* device, uint8_t value, int64_t bytes, const Stream& stream) { check(cudaMemsetAsync(device, value, size_t(bytes), handle_of(stream)), "cudaMemsetAsync"); }

// ---- launches ----

void launch_kernel(const void* kernel, const Grid& grid, int threads, int64_t shared_bytes, const Stream& stream, void** arguments) {
  if (shared_bytes > kSharedByDefault) allow_shared(kernel, shared_bytes, grid);
  const dim3 blocks{unsigned(grid.x), unsigned(grid.y), unsigned(grid.z)};
  const cudaError_t status = cudaLaunchKernel(kernel, blocks, dim3{unsigned(threads), 1, 1}, arguments, size_t(shared_bytes), handle_of(stream));
  if (status == cudaSuccess) return;
  cudaGetLastError();
  check(status, place_of(grid) + ": a kernel on " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) + " blocks of " + std::to_string(threads) + " threads, " + std::to_string(shared_bytes) + " bytes of shared memory");
}

// ---- graphs ----

Graph::~Graph() {
  if (executable_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}
void Graph::begin(const Stream& stream) { check(cudaStreamBeginCapture(handle_of(stream), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture"); }
void Graph::end(const Stream& stream) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(handle_of(stream), &graph), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  if (executable_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
  executable_ = executable;
}
void Graph::abandon(const Stream& stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(handle_of(stream), &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}
void Graph::launch(const Stream& stream) const { check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), handle_of(stream)), "cudaGraphLaunch"); }

ProfilerRange::ProfilerRange(const char* name) { nvtxRangePushA(name); }
ProfilerRange::~ProfilerRange() { nvtxRangePop(); }

}  // namespace polypaca::cuda
