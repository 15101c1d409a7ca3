#include "cuda/held_memory.h"

#include <algorithm>
#include <map>
#include <mutex>

namespace polypaca::POLYPACA_CUDA {
namespace {

struct Taken {
  int device;
  int64_t bytes;
};

std::mutex mutex;
std::map<const void*, Taken> taken;
std::map<int, HeldMemory> held;

}  // namespace

HeldMemory held_memory(int device) {
  const std::lock_guard lock(mutex);
  return held[device];
}

void note_taken(int device, const void* data, int64_t bytes) {
  const std::lock_guard lock(mutex);
  taken[data] = {device, bytes};
  HeldMemory& h = held[device];
  h.now += bytes;
  h.most = std::max(h.most, h.now);
}

void note_returned(const void* data) noexcept {
  const std::lock_guard lock(mutex);
  const auto at = taken.find(data);
  if (at == taken.end()) return;
  held[at->second.device].now -= at->second.bytes;
  taken.erase(at);
}

}  // namespace polypaca::POLYPACA_CUDA
