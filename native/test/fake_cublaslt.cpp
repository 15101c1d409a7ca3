// A cuBLASLt of three algorithms that computes on the host, for tests of what polypaca asks of the library: its interface is written
// here a second time, from NVIDIA's documentation (matrices by columns, D = alpha op(A) op(B) + beta C + bias along D's rows), so
// that a wrong transposition, leading dimension, bias or type in cublaslt_products.cpp gives wrong numbers.
//   algorithm 0  correct and slow
//   algorithm 1  correct and fast: the one that tuning is to find
//   algorithm 2  as fast, but its last bit differs from call to call: tuning is to refuse it
// There is none for a single row of D. FAKE_CUBLASLT_LOG names a file that gets a line for every call that matters.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

constexpr int kSuccess = 0, kInvalidValue = 7, kNotSupported = 15;
constexpr uint64_t kMark = 0x706F6C7970616361;  // of this library's algorithms

struct Matmul {
  int32_t transpose_a = 0, transpose_b = 0, bias_type = -1;
  uint32_t epilogue = 1;
  const void* bias = nullptr;
};
struct Layout {
  int32_t type;
  uint64_t rows, cols;
  int64_t ld;
};
struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = ~0u, alignments[4] = {256, 256, 256, 256};
};
struct Algorithm {
  uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};

void log_call(const char* text) {
  const char* path = std::getenv("FAKE_CUBLASLT_LOG");
  if (!path) return;
  if (FILE* file = std::fopen(path, "a")) {
    std::fprintf(file, "%s\n", text);
    std::fclose(file);
  }
}

float from_bf16(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

uint16_t to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return uint16_t((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

float element(const void* data, int32_t type, int64_t at) { return type == 14 ? from_bf16(static_cast<const uint16_t*>(data)[at]) : static_cast<const float*>(data)[at]; }

int set(void* field, size_t field_bytes, const void* value, size_t bytes) {
  if (bytes != field_bytes) return kInvalidValue;
  std::memcpy(field, value, bytes);
  return kSuccess;
}

bool fits(const Matmul& m, const Layout& a, const Layout& b, const Layout& d) {
  const uint64_t rows = m.transpose_a ? a.cols : a.rows, inner_a = m.transpose_a ? a.rows : a.cols;
  const uint64_t inner_b = m.transpose_b ? b.cols : b.rows, cols = m.transpose_b ? b.rows : b.cols;
  const bool strides = a.ld >= int64_t(a.rows) && b.ld >= int64_t(b.rows) && d.ld >= int64_t(d.rows);
  return strides && rows == d.rows && cols == d.cols && inner_a == inner_b && a.type == 14 && b.type == 14;
}

Algorithm algorithm_of(uint64_t id) { return {{kMark, id, 0, 0, 0, 0, 0, 0}}; }

}  // namespace

extern "C" {

int cublasLtCreate(void** handle) {
  *handle = new int(0);
  return kSuccess;
}
int cublasLtDestroy(void* handle) {
  delete static_cast<int*>(handle);
  return kSuccess;
}
size_t cublasLtGetVersion() {
  const char* version = std::getenv("FAKE_CUBLASLT_VERSION");
  return version ? size_t(std::atoll(version)) : 130000;
}
const char* cublasLtGetStatusString(int) { return "the fake's status"; }

int cublasLtMatmulDescCreate(void** descriptor, int compute_type, int scale_type) {
  if (compute_type != 68 || scale_type != 0) return kInvalidValue;
  *descriptor = new Matmul;
  return kSuccess;
}
int cublasLtMatmulDescDestroy(void* descriptor) {
  delete static_cast<Matmul*>(descriptor);
  return kSuccess;
}
int cublasLtMatmulDescSetAttribute(void* descriptor, int attribute, const void* value, size_t bytes) {
  Matmul& m = *static_cast<Matmul*>(descriptor);
  switch (attribute) {
    case 3: return set(&m.transpose_a, 4, value, bytes);
    case 4: return set(&m.transpose_b, 4, value, bytes);
    case 7: return set(&m.epilogue, 4, value, bytes);
    case 8: return set(&m.bias, 8, value, bytes);
    case 26: return set(&m.bias_type, 4, value, bytes);
    default: return kInvalidValue;
  }
}

int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  *layout = new Layout{type, rows, cols, ld};
  return kSuccess;
}
int cublasLtMatrixLayoutDestroy(void* layout) {
  delete static_cast<Layout*>(layout);
  return kSuccess;
}

int cublasLtMatmulPreferenceCreate(void** preference) {
  *preference = new Preference;
  return kSuccess;
}
int cublasLtMatmulPreferenceDestroy(void* preference) {
  delete static_cast<Preference*>(preference);
  return kSuccess;
}
int cublasLtMatmulPreferenceSetAttribute(void* preference, int attribute, const void* value, size_t bytes) {
  Preference& p = *static_cast<Preference*>(preference);
  if (attribute == 1) return set(&p.workspace, 8, value, bytes);
  if (attribute == 3) return set(&p.reductions, 4, value, bytes);
  if (attribute >= 5 && attribute <= 8) return set(&p.alignments[attribute - 5], 4, value, bytes);
  return kInvalidValue;
}

int cublasLtMatmulAlgoGetHeuristic(void*, void* descriptor, void* a, void* b, void*, void* d, void* preference, int wanted, HeuristicResult* results, int* found) {
  *found = 0;
  if (!fits(*static_cast<Matmul*>(descriptor), *static_cast<Layout*>(a), *static_cast<Layout*>(b), *static_cast<Layout*>(d))) return kInvalidValue;
  const Preference& p = *static_cast<Preference*>(preference);
  char line[160];
  std::snprintf(line, sizeof line, "heuristic wanted=%d reductions=%u align=%u,%u,%u,%u workspace=%llu", wanted, p.reductions, p.alignments[0], p.alignments[1], p.alignments[2], p.alignments[3], static_cast<unsigned long long>(p.workspace));
  log_call(line);
  if (static_cast<Layout*>(d)->rows == 1) return kNotSupported;
  for (uint64_t id = 0; id < 3 && *found < wanted; ++id) results[(*found)++] = {algorithm_of(id), 0, kSuccess, 1.0f, {}};
  return kSuccess;
}
int cublasLtMatmulAlgoCheck(void*, void*, void*, void*, void*, void*, const Algorithm* algorithm, HeuristicResult* result) {
  log_call("check");
  if (algorithm->data[0] != kMark || algorithm->data[1] > 2) return kNotSupported;
  *result = {*algorithm, 0, kSuccess, 1.0f, {}};
  return kSuccess;
}
int cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* algorithm, int attribute, void* value, size_t bytes, size_t* written) {
  if (bytes != 4) return kInvalidValue;
  const int32_t id = attribute == 0 ? int32_t(algorithm->data[1]) : 0;
  std::memcpy(value, &id, 4);
  *written = 4;
  return kSuccess;
}

int cublasLtMatmul(void*, void* descriptor, const float* alpha, const void* A, void* a_layout, const void* B, void* b_layout, const float* beta, const void* C, void*, void* D, void* d_layout, const Algorithm* algorithm, void*, size_t, void*) {
  const Matmul& m = *static_cast<Matmul*>(descriptor);
  const Layout &a = *static_cast<Layout*>(a_layout), &b = *static_cast<Layout*>(b_layout), &d = *static_cast<Layout*>(d_layout);
  if (!fits(m, a, b, d) || algorithm->data[0] != kMark) return kInvalidValue;
  static uint32_t calls = 0;
  const uint64_t id = algorithm->data[1];
  if (id == 0) {
    const timespec pause = {0, 2000000};
    nanosleep(&pause, nullptr);
  }
  log_call(id == 0 ? "matmul 0" : id == 1 ? "matmul 1" : "matmul 2");
  const int64_t inner = int64_t(m.transpose_a ? a.rows : a.cols);
  for (int64_t j = 0; j < int64_t(d.cols); ++j) {
    for (int64_t i = 0; i < int64_t(d.rows); ++i) {
      double sum = 0;
      for (int64_t k = 0; k < inner; ++k) sum += double(element(A, 14, m.transpose_a ? k + i * a.ld : i + k * a.ld)) * element(B, 14, m.transpose_b ? j + k * b.ld : k + j * b.ld);
      float value = float(*alpha * sum);
      const int64_t at = i + j * d.ld;
      if (*beta != 0) value += *beta * element(C, d.type, at);
      if (m.epilogue == 4) value += element(m.bias, m.bias_type, i);
      uint32_t flip = id == 2 && i == 0 && j == 0 ? calls++ & 1u : 0u;
      if (d.type == 14) static_cast<uint16_t*>(D)[at] = uint16_t(to_bf16(value) ^ flip);
      else {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        static_cast<uint32_t*>(D)[at] = bits ^ flip;
      }
    }
  }
  return kSuccess;
}

}  // extern "C"
