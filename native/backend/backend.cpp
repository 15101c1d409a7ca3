// What a back end does unless it has something better: the host's memory and clock, and work that runs as it is queued.
// Compiled once, not per instruction set.
#include "backend/backend.h"

#include <chrono>

namespace polypaca {

Backend::Backend() = default;
Backend::~Backend() = default;

MemoryLimits Backend::memory() const { return memory_limits(); }

void Backend::run_recorded(const RecordKey&, const std::function<void()>& work) { work(); }
bool Backend::records() const { return false; }

int64_t Backend::mark() {
  marks_.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count());
  return int64_t(marks_.size()) - 1;
}

double Backend::seconds_between(int64_t from, int64_t to) const { return marks_[size_t(to)] - marks_[size_t(from)]; }
void Backend::forget_marks() { marks_.clear(); }

}  // namespace polypaca
