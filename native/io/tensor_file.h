// Writing tensors behind a header that TypeScript laid out (safetensors): create, write, fsync, close.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "io/mapped_file.h"

namespace polypaca {

struct TensorToWrite {
  std::string name;
  StoredDType dtype = StoredDType::f32;
  int64_t count = 0;
  /// Copies `n` fp32 values from element `first` on into dst.
  std::function<void(float* dst, int64_t first, int64_t n)> read;
};

/// Throws io naming the path and the system's reason (ENOSPC among them); the incomplete file is removed.
void write_tensor_file(const std::string& path, const std::vector<uint8_t>& header, const std::vector<TensorToWrite>& tensors);

}  // namespace polypaca
