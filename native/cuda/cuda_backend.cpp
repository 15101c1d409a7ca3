// Memory of the CUDA back end, its traffic with the host, and the order of its work.
#include "cuda/cuda_backend.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "core/error.h"

namespace polypaca::POLYPACA_CUDA {

CudaBackend::CudaBackend(const DeviceProperties& device, std::unique_ptr<Products> products) : device_(device), products_(std::move(products)) { products_->prepare(stream_); }

CudaBackend::~CudaBackend() {
  use_device(device_.index);
  for (ScratchBlock& block : scratch_) release_device(block.data);
  for (UploadSlot& slot : slots_) release_pinned(slot.data);
}

std::string CudaBackend::describe() const {
#if defined(POLYPACA_EMULATED)
  return "cuda-emulated (the CUDA kernels as C++, slowly), " + products_->describe() + " products";
#else
  return "cuda " + device_.name + " sm_" + std::to_string(device_.major) + std::to_string(device_.minor) + ", " + products_->describe() + " products";
#endif
}

const Stream& CudaBackend::stream() {
  use_device(device_.index);
  return stream_;
}

void* CudaBackend::allocate(int64_t bytes) {
  use_device(device_.index);
  return allocate_device(bytes);
}

void CudaBackend::release(void* data) {
  if (!data) return;
  use_device(device_.index);
  graphs_.clear();  // one of them may use it
  release_device(data);
}

MemoryLimits CudaBackend::memory() const {
#if defined(POLYPACA_EMULATED)
  return memory_limits();
#else
  use_device(device_.index);
  return {free_memory(), device_.total_memory, "the GPU"};
#endif
}

// ---- the order of work ----

bool CudaBackend::records() const {
  const char* wanted = std::getenv("POLYPACA_CUDA_GRAPHS");
  return !wanted || std::string_view(wanted) != "off";
}

void CudaBackend::run_recorded(const RecordKey& key, const std::function<void()>& work) {
  if (!records()) return work();
  const auto [at, is_new] = graphs_.try_emplace(key);
  if (is_new) return work();
  Graph& graph = at->second;
  if (!graph.ready()) {
    graph.begin(stream());
    try {
      work();
      graph.end(stream_);
    } catch (...) {
      graph.abandon(stream_);
      graphs_.erase(key);
      throw;
    }
  }
  graph.launch(stream());
}

int64_t CudaBackend::mark() {
  if (marked_ == marks_.size()) marks_.push_back(std::make_unique<Event>());
  marks_[marked_]->record(stream());
  return int64_t(marked_++);
}

double CudaBackend::seconds_between(int64_t from, int64_t to) const { return marks_[size_t(to)]->seconds_since(*marks_[size_t(from)]); }
void CudaBackend::forget_marks() { marked_ = 0; }

void* CudaBackend::scratch(ScratchUse use, int64_t bytes) {
  ScratchBlock& block = scratch_[use];
  if (bytes <= block.bytes) return block.data;
  if (stream().recording()) fail(ErrorCode::internal, "scratch memory of a CUDA back end may not grow while a graph is recorded: run the same work once before");
  release(block.data);
  block = {};
  block.data = allocate(bytes);
  block.bytes = bytes;
  return block.data;
}

void CudaBackend::copy_in(void* dst, const void* host, int64_t bytes) {
  if (stream().recording()) fail(ErrorCode::internal, "host memory is copied to the GPU while a graph is recorded");
  for (int64_t done = 0; done < bytes; done += kSlotBytes) {
    const int64_t count = std::min(kSlotBytes, bytes - done);
    UploadSlot& slot = slots_[next_slot_];
    next_slot_ = (next_slot_ + 1) % kSlots;
    if (!slot.data) slot.data = allocate_pinned(kSlotBytes);
    if (slot.used) slot.copied.synchronize();
    std::memcpy(slot.data, static_cast<const char*>(host) + done, size_t(count));
    copy_to_device(static_cast<char*>(dst) + done, slot.data, count, stream());
    slot.copied.record(stream_);
    slot.used = true;
  }
}

void CudaBackend::copy_out(void* host, const void* src, int64_t bytes) {
  if (bytes > 0) copy_to_host(host, src, bytes, stream());
  stream().synchronize();
}

void CudaBackend::fill_zero(void* dst, int64_t bytes) {
  if (bytes > 0) fill_bytes(dst, 0, bytes, stream());
}

}  // namespace polypaca::POLYPACA_CUDA
