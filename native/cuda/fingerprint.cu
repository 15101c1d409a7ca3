// Fingerprint of a matrix: the sum modulo 2^64 of a mix of each element's bits and place. A sum of integers does not depend on its order.
#include "cuda/device.h"
#include "cuda/fingerprint.h"
#include "cuda/launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kThreads = 256, kBlocks = int(kFingerprintBytes / 8);

struct FingerprintShared {
  uint64_t sums[kThreads];
};

DEVICE uint64_t mixed(uint64_t place, uint64_t bits) {
  uint64_t x = (place + 1) * 0x9E3779B97F4A7C15u + bits;
  x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
  x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93u;
  return x ^ (x >> 32);
}

template <typename Bits>
KERNEL BOUNDS(kThreads, 4) void sum_of_mixed(uint64_t* sums, const Bits* data, int64_t rows, int64_t cols, int64_t ld) {
  FingerprintShared& s = shared_memory<FingerprintShared>();
  uint64_t sum = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t col = threadIdx.x; col < cols; col += kThreads) sum += mixed(uint64_t(row * cols + col), data[row * ld + col]);
  }
  s.sums[threadIdx.x] = sum;
  sync_threads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kThreads; ++i) sum += s.sums[i];
  sums[blockIdx.x] = sum;
}

}  // namespace

uint64_t fingerprint(Matrix m, int64_t rows, int64_t cols, void* scratch, const Stream& stream) {
  uint64_t* sums = static_cast<uint64_t*>(scratch);
  if (m.dtype == DType::f32) {
    launch(sum_of_mixed<uint32_t>, Grid(kBlocks), kThreads, sizeof(FingerprintShared), stream, sums, static_cast<const uint32_t*>(m.data), rows, cols, m.ld);
  } else {
    launch(sum_of_mixed<uint16_t>, Grid(kBlocks), kThreads, sizeof(FingerprintShared), stream, sums, static_cast<const uint16_t*>(m.data), rows, cols, m.ld);
  }
  uint64_t host[kBlocks], total = 0;
  copy_to_host(host, sums, kFingerprintBytes, stream);
  stream.synchronize();
  for (uint64_t sum : host) total += sum;
  return total;
}

}  // namespace polypaca::POLYPACA_CUDA
