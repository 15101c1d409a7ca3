// Bytes of device memory that this process holds, by device: what allocate_device gave and release_device took back, whoever asked.
#pragma once
#include <cstdint>

#include "cuda/namespace.h"

namespace polypaca::POLYPACA_CUDA {

struct HeldMemory {
  int64_t now = 0, most = 0;  // bytes; the most since the process started
};

HeldMemory held_memory(int device);

/// For allocate_device and release_device.
void note_taken(int device, const void* data, int64_t bytes);
void note_returned(const void* data) noexcept;

}  // namespace polypaca::POLYPACA_CUDA
