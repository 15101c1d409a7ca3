#include "model/parameters.h"

#include <utility>

namespace polypaca {

FlatValues::~FlatValues() { release_all(); }

int64_t FlatValues::reserve(int64_t elements) {
  constexpr int64_t kAlignment = 32;  // 64 bytes of bf16
  int64_t at = count_;
  count_ += (elements + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

template <typename T>
void FlatValues::allocate(T*& buffer) {
  if (buffer || count_ == 0) return;
  buffer = static_cast<T*>(backend_->allocate(count_ * int64_t(sizeof(T))));
  backend_->fill_zero(buffer, count_ * int64_t(sizeof(T)));
}

template <typename T>
void FlatValues::release(T*& buffer) {
  if (buffer) backend_->release(buffer);
  buffer = nullptr;
}

void FlatValues::allocate_fp32() { allocate(fp32); }
void FlatValues::allocate_low() { allocate(low); }
void FlatValues::allocate_remainder() { allocate(remainder); }
void FlatValues::allocate_gradient() { allocate(grad); }
void FlatValues::allocate_moments() {
  allocate(m);
  allocate(v);
}
void FlatValues::release_remainder() { release(remainder); }
void FlatValues::release_gradient() { release(grad); }
void FlatValues::release_moments() {
  release(m);
  release(v);
}
void FlatValues::release_all() {
  release(fp32);
  release(low);
  release(remainder);
  release(grad);
  release_moments();
}

void FlatValues::swap(FlatValues& other) {
  std::swap(fp32, other.fp32);
  std::swap(low, other.low);
  std::swap(remainder, other.remainder);
  std::swap(grad, other.grad);
  std::swap(m, other.m);
  std::swap(v, other.v);
  std::swap(count_, other.count_);
}

}  // namespace polypaca
