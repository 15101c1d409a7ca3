// Memory of the CUDA back end and its traffic with the host.
#include "cuda/cuda_backend.h"

#include <algorithm>
#include <cstring>

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
  use_device(device_.index);
  release_device(data);
}

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
