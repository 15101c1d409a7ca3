#include "core/arena.h"

#include "core/error.h"

namespace polypaca {

Arena::Arena(std::shared_ptr<Backend> backend, int64_t bytes) : backend_(std::move(backend)), capacity_(bytes) {
  base_ = static_cast<char*>(backend_->allocate(bytes > 0 ? bytes : 64));
}

Arena::~Arena() {
  if (base_) backend_->release(base_);
}

void* Arena::take_bytes(int64_t bytes) {
  constexpr int64_t kAlignment = 64;
  int64_t at = used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (!base_) return nullptr;
  if (used_ > capacity_) fail(ErrorCode::internal, "an arena is smaller than its own plan");
  return base_ + at;
}

}  // namespace polypaca
