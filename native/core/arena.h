// Bump allocation of a plan: the same function that lays out a workspace is run once to count bytes and once on real memory,
// so that what is predicted is what is used.
#pragma once
#include <memory>

#include "backend/backend.h"

namespace polypaca {

class Arena {
 public:
  /// Counts only: pointers handed out are null.
  Arena() = default;
  /// `bytes` of the back end's memory, committed.
  Arena(std::shared_ptr<Backend> backend, int64_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  template <typename T>
  T* take(int64_t count) {
    return static_cast<T*>(take_bytes(count * int64_t(sizeof(T))));
  }
  Matrix matrix(int64_t rows, int64_t cols, DType dtype) { return {take_bytes(rows * cols * size_of(dtype)), dtype, cols}; }
  int64_t used() const { return used_; }

 private:
  void* take_bytes(int64_t bytes);

  std::shared_ptr<Backend> backend_;
  char* base_ = nullptr;
  int64_t capacity_ = 0, used_ = 0;
};

}  // namespace polypaca
