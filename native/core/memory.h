// How much memory this process may still take, and how much it has taken.
#pragma once
#include <cstdint>
#include <limits>
#include <string>

namespace polypaca {

struct MemoryLimits {
  int64_t available = 0;  // the least of free memory, what the cgroup still allows and what the address-space limit still allows
  int64_t total = 0;      // of the machine or device
  std::string limited_by; // "free memory", "the cgroup's limit", "the address-space limit (ulimit -v)", "the GPU"
};

MemoryLimits memory_limits();

constexpr int64_t kNoMemoryLimit = std::numeric_limits<int64_t>::max();

/// Bytes that control groups still allow this process: the least over its group and all above it, of version 2 and of version 1's
/// memory controller. Page cache is given back under pressure and counts as free. kNoMemoryLimit where none is set.
/// `file_system`: stands before /proc and /sys; tests lay out their own.
int64_t cgroup_available(const std::string& file_system = "");

/// VmHWM, VmRSS of this process in bytes.
int64_t peak_resident_bytes();
int64_t resident_bytes();

/// Throws out_of_memory with figures where `bytes` for `what` do not fit, unless `allow_overcommit`.
void require_memory(const MemoryLimits& limits, int64_t bytes, const std::string& what, bool allow_overcommit);

std::string human_bytes(int64_t bytes);

}  // namespace polypaca
