#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/dtype.h"
#include "core/error.h"

namespace polypaca {

MappedFile::MappedFile(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error(ErrorCode::io, path + ": cannot be opened: " + std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    int reason = errno;
    ::close(fd);
    throw Error(ErrorCode::io, path + ": " + std::strerror(reason));
  }
  size_ = info.st_size;
  if (size_ > 0) {
    void* at = ::mmap(nullptr, size_t(size_), PROT_READ, MAP_PRIVATE, fd, 0);
    int reason = errno;
    ::close(fd);
    if (at == MAP_FAILED) throw Error(ErrorCode::io, path + ": cannot be mapped: " + std::strerror(reason));
    data_ = static_cast<const char*>(at);
  } else {
    ::close(fd);
  }
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<char*>(data_), size_t(size_));
}

void MappedFile::drop(int64_t offset, int64_t bytes) const {
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  int64_t first = (offset + page - 1) / page * page, last = (offset + bytes) / page * page;
  if (data_ && last > first) ::madvise(const_cast<char*>(data_) + first, size_t(last - first), MADV_DONTNEED);
}

int64_t stored_size(StoredDType dtype) { return dtype == StoredDType::f32 ? 4 : dtype == StoredDType::u8 ? 1 : 2; }
const char* stored_name(StoredDType dtype) {
  return dtype == StoredDType::f32 ? "F32" : dtype == StoredDType::bf16 ? "BF16" : dtype == StoredDType::f16 ? "F16" : "U8";
}

int64_t TensorSource::count() const {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

namespace {

float element(const char* at, StoredDType dtype) {
  if (dtype == StoredDType::f32) {
    float x;
    std::memcpy(&x, at, 4);
    return x;
  }
  if (dtype == StoredDType::u8) return float(uint8_t(*at));
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return dtype == StoredDType::bf16 ? to_float(bf16{bits}) : half_to_float(bits);
}

void read_dense(float* dst, const char* at, StoredDType dtype, int64_t count) {
  if (dtype == StoredDType::f32) {
    std::memcpy(dst, at, size_t(count) * 4);
    return;
  }
  const int64_t width = stored_size(dtype);
#pragma omp parallel for
  for (int64_t i = 0; i < count; ++i) dst[i] = element(at + width * i, dtype);
}

}  // namespace

void TensorReader::read(const TensorSource& source, float* dst, int64_t first, int64_t n) {
  auto known = std::find_if(files_.begin(), files_.end(), [&](const auto& f) { return f.first == source.file; });
  if (known == files_.end()) {
    files_.emplace_back(source.file, std::make_unique<MappedFile>(source.file));
    known = files_.end() - 1;
  }
  const MappedFile& file = *known->second;
  const int64_t count = source.count(), width = stored_size(source.dtype);
  int64_t last = count - 1;  // largest element offset that is read
  if (!source.strides.empty()) {
    last = 0;
    for (size_t d = 0; d < source.shape.size(); ++d) last += (source.shape[d] - 1) * source.strides[d];
  }
  if (count > 0 && (source.offset < 0 || last < 0 || source.offset + (last + 1) * width > file.size())) {
    throw Error(ErrorCode::checkpoint_mismatch, source.file + ": \"" + source.name + "\" reaches past the end of the file (" +
                                                    std::to_string(source.offset + (last + 1) * width) + " of " + std::to_string(file.size()) +
                                                    " bytes). The file is cut off: copy it again.");
  }
  const char* base = file.data() + source.offset;
  if (source.strides.empty()) {
    read_dense(dst, base + first * width, source.dtype, n);
    file.drop(source.offset + first * width, n * width);
    return;
  }
  std::vector<int64_t> index(source.shape.size(), 0);
  for (int64_t rest = first, d = int64_t(index.size()) - 1; d >= 0; --d) {
    index[size_t(d)] = rest % source.shape[size_t(d)];
    rest /= source.shape[size_t(d)];
  }
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = 0;
    for (size_t d = 0; d < index.size(); ++d) at += index[d] * source.strides[d];
    dst[i] = element(base + at * width, source.dtype);
    for (size_t d = index.size(); d-- > 0;) {
      if (++index[d] < source.shape[d]) break;
      index[d] = 0;
    }
  }
}

}  // namespace polypaca
