#include "io/tensor_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/dtype.h"
#include "core/error.h"

namespace polypaca {
namespace {

class OutputFile {
 public:
  explicit OutputFile(const std::string& path) : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
    if (fd_ < 0) raise("cannot be created");
  }
  ~OutputFile() {
    if (fd_ >= 0) {  // left by an exception: nothing half written stays
      ::close(fd_);
      ::unlink(path_.c_str());
    }
  }
  void write(const void* data, size_t bytes) {
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
      ssize_t n = ::write(fd_, at, bytes);
      if (n < 0) {
        if (errno == EINTR) continue;
        raise("cannot be written");
      }
      at += n;
      bytes -= size_t(n);
    }
  }
  void finish() {
    if (::fsync(fd_) != 0) raise("cannot be synced to disk");
    int fd = fd_;
    if (::close(fd) != 0) raise("cannot be closed");
    fd_ = -1;
  }

 private:
  [[noreturn]] void raise(const char* what) {
    int reason = errno;
    throw Error(reason == ENOSPC || reason == EDQUOT ? ErrorCode::disk_full : ErrorCode::io, path_ + ": " + what + ": " + std::strerror(reason));
  }
  std::string path_;
  int fd_;
};

uint16_t float_to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return uint16_t(sign | 0x7E00u);
  if (magnitude >= 0x477FF000u) return uint16_t(sign | 0x7C00u);  // rounds to infinity
  if (magnitude < 0x38800000u) {                                   // subnormal or zero in fp16
    float scaled;
    std::memcpy(&scaled, &magnitude, 4);
    scaled += 0.5f;  // aligns the mantissa to multiples of 2^-24, rounding to nearest even
    std::memcpy(&bits, &scaled, 4);
    return uint16_t(sign | (bits - 0x3F000000u));
  }
  uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return uint16_t(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace

void write_tensor_file(const std::string& path, const std::vector<uint8_t>& header, const std::vector<TensorToWrite>& tensors) {
  OutputFile out(path);
  out.write(header.data(), header.size());
  constexpr int64_t kChunk = 1 << 20;
  std::vector<float> values(static_cast<size_t>(kChunk));
  std::vector<uint16_t> narrow;
  for (const TensorToWrite& t : tensors) {
    for (int64_t first = 0; first < t.count; first += kChunk) {
      int64_t n = std::min(kChunk, t.count - first);
      t.read(values.data(), first, n);
      if (t.dtype == StoredDType::f32) {
        out.write(values.data(), size_t(n) * 4);
        continue;
      }
      if (t.dtype == StoredDType::u8) {
        const std::vector<uint8_t> codes(values.begin(), values.begin() + n);
        out.write(codes.data(), codes.size());
        continue;
      }
      narrow.resize(size_t(n));
      for (int64_t i = 0; i < n; ++i) {
        narrow[size_t(i)] = t.dtype == StoredDType::bf16 ? to_bf16(values[size_t(i)]).bits : float_to_half(values[size_t(i)]);
      }
      out.write(narrow.data(), size_t(n) * 2);
    }
  }
  out.finish();
}

}  // namespace polypaca
