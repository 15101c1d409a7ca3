// A file mapped for reading, and checkpoint tensors read from it.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace polypaca {

class MappedFile {
 public:
  /// Throws io with the path and the system's reason.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const char* data() const { return data_; }
  int64_t size() const { return size_; }
  /// Lets the kernel drop the pages of a range that will not be read again.
  void drop(int64_t offset, int64_t bytes) const;

 private:
  const char* data_ = nullptr;
  int64_t size_ = 0;
};

enum class StoredDType { f32, bf16, f16, u8 };  // u8: codes, of the optimiser's state only
int64_t stored_size(StoredDType dtype);
const char* stored_name(StoredDType dtype);

/// Where the bytes of one checkpoint tensor are (src/native/addon-types.ts, TensorSource).
struct TensorSource {
  std::string name, file;
  int64_t offset = 0;
  StoredDType dtype = StoredDType::f32;
  std::vector<int64_t> shape, strides;  // strides in elements; empty: dense row-major
  int64_t count() const;
};

/// Reads tensors, keeping one mapping per file open.
class TensorReader {
 public:
  /// Elements first .. first + n - 1 of the row-major tensor, as fp32. Throws checkpoint_mismatch where the tensor reaches past its file.
  void read(const TensorSource& source, float* dst, int64_t first, int64_t n);

 private:
  std::vector<std::pair<std::string, std::unique_ptr<MappedFile>>> files_;
};

}  // namespace polypaca
