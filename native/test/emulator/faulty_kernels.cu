// Kernels with and without a planted fault; kernel_cases() says what the emulator must find in each.
#include "test/emulator/faulty_kernels.h"

#include <cstring>

#include "core/error.h"
#include "cuda/device.h"
#include "cuda/launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

// ---- memory of a case, with values from its index ----

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : data_(static_cast<T*>(allocate_device(count * int64_t(sizeof(T))))), count_(count) {}
  ~Buffer() { release_device(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  template <typename F>
  void fill(F&& value) {
    for (int64_t i = 0; i < count_; ++i) data_[i] = value(i);
  }
  T* data() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_;
  int64_t count_;
};

void require(bool holds, const char* what) {
  if (!holds) fail(ErrorCode::internal, what);
}

bf16 small_value(int64_t i, int64_t period) { return to_bf16(float(i % period - period / 2)); }

// ---- row sums by two rounds of warp sums ----

enum class RowFault { none, no_barrier, warp_returns_early, shared_past_struct, unwritten_shared, global_past_end, global_write_past_end };

struct RowShared {
  float partial[8];
};

template <RowFault kFault>
KERNEL BOUNDS(256, 2) void row_sums(float* y, const float* x, int C) {
  RowShared& s = shared_memory<RowShared>();
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  float sum = 0;
  const int end = kFault == RowFault::global_past_end && blockIdx.x + 1 == gridDim.x ? C + 1 : C;
  for (int c = int(threadIdx.x); c < end; c += int(blockDim.x)) sum += x[int64_t(blockIdx.x) * C + c];
  for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  const int slot = kFault == RowFault::shared_past_struct ? warp + 1 : warp;
  if (lane == 0 && !(kFault == RowFault::unwritten_shared && warp == 3)) s.partial[slot] = sum;
  if (kFault == RowFault::warp_returns_early && warp == 7) return;
  if (kFault != RowFault::no_barrier) sync_threads();
  if (warp != 0) return;
  const float total = warp_sum(lane < 8 ? s.partial[lane] : 0.0f);
  if (lane == 0) y[blockIdx.x + (kFault == RowFault::global_write_past_end ? gridDim.x : 0)] = total;
}

template <RowFault kFault>
void run_row_sums() {
  constexpr int kRows = 5, kColumns = 515;
  const Stream stream;
  Buffer<float> y(kRows), x(kRows * kColumns);
  x.fill([](int64_t i) { return float(i % 13); });
  launch(row_sums<kFault>, Grid(kRows), 256, sizeof(RowShared), stream, y.data(), x.data(), kColumns);
  for (int row = 0; row < kRows; ++row) {
    float expected = 0;
    for (int c = 0; c < kColumns; ++c) expected += float((row * kColumns + c) % 13);
    require(y[row] == expected, "row_sums: wrong sum");
  }
}

// ---- a product d [32, 8] = a [32, K] b by two warps on tensor cores, copies one tile ahead ----

enum class ProductFault { none, no_barrier_after_wait, no_barrier_before_reuse, no_wait, misaligned_row, lane_left };

template <bool kTransposed>  // b is [K, 8] instead of [8, K]
struct ProductShared {
  bf16 a[2][32][24];
  bf16 b[2][kTransposed ? 16 : 8][kTransposed ? 8 : 24];
};

template <ProductFault kFault, bool kTransposed>
KERNEL BOUNDS(64, 1) void tile_product(float* d, const bf16* a, const bf16* b, int K) {
  ProductShared<kTransposed>& s = shared_memory<ProductShared<kTransposed>>();
  const int thread = int(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const auto load = [&](int k, int stage) {
    const int row = thread / 2, column = thread % 2 * 8;
    copy_async_16(&s.a[stage][row][column], a + row * K + k + column, true);
    if constexpr (kTransposed) {
      if (thread < 16) copy_async_16(&s.b[stage][thread][0], b + (k + thread) * 8, true);
    } else {
      if (thread < 16) copy_async_16(&s.b[stage][row][column], b + row * K + k + column, true);
    }
    copy_async_commit();
  };
  float sums[4] = {};
  load(0, 0);
  for (int k = 0; k < K; k += 16) {
    const int stage = k / 16 % 2;
    if (k + 16 < K) load(k + 16, 1 - stage);
    else copy_async_commit();
    if (kFault != ProductFault::no_wait) copy_async_wait<1>();
    if (kFault != ProductFault::no_barrier_after_wait) sync_threads();
    if (kFault == ProductFault::lane_left && thread == 40) return;
    uint32_t fa[4], fb[2];
    ldmatrix_x4(fa, &s.a[stage][warp * 16 + lane % 16][lane / 16 * 8 + (kFault == ProductFault::misaligned_row ? 4 : 0)]);
    if constexpr (kTransposed) ldmatrix_x2_transposed(fb, &s.b[stage][lane % 16][0]);
    else ldmatrix_x2(fb, &s.b[stage][lane % 8][lane / 8 % 2 * 8]);
    mma_m16n8k16(sums, fa, fb);
    if (kFault != ProductFault::no_barrier_before_reuse) sync_threads();
  }
  float* to = d + (warp * 16 + lane / 4) * 8 + lane % 4 * 2;
  to[0] = sums[0];
  to[1] = sums[1];
  to[64] = sums[2];
  to[65] = sums[3];
}

template <ProductFault kFault, bool kTransposed = false>
void run_tile_product() {
  constexpr int K = 80;
  const Stream stream;
  Buffer<float> d(32 * 8);
  Buffer<bf16> a(32 * K), b(8 * K);
  a.fill([](int64_t i) { return small_value(i, 7); });
  b.fill([](int64_t i) { return small_value(i, 5); });
  launch(tile_product<kFault, kTransposed>, Grid(1), 64, sizeof(ProductShared<kTransposed>), stream, d.data(), a.data(), b.data(), K);
  for (int row = 0; row < 32; ++row) {
    for (int column = 0; column < 8; ++column) {
      float expected = 0;
      for (int k = 0; k < K; ++k) expected += to_float(a[row * K + k]) * to_float(b[kTransposed ? k * 8 + column : column * K + k]);
      require(d[row * 8 + column] == expected, "tile_product: wrong element");
    }
  }
}

// ---- reversing 32 values through shared memory, in one warp ----

enum class WarpFault { none, no_sync, different_operations, barrier_and_shuffle, lane_skips_shuffle };

struct WarpShared {
  float values[kWarp];
};

template <WarpFault kFault>
KERNEL BOUNDS(32, 1) void reverse(float* y, const float* x) {
  WarpShared& s = shared_memory<WarpShared>();
  const int lane = int(threadIdx.x);
  s.values[lane] = x[lane];
  if (kFault != WarpFault::no_sync) sync_warp();
  float value = s.values[kWarp - 1 - lane];
  if (kFault == WarpFault::different_operations) {
    if (lane < 16) value += shuffle_xor(value, 1) * 0.0f;
    else value += shuffle_down(value, 1) * 0.0f;
  }
  if (kFault == WarpFault::barrier_and_shuffle) {
    if (lane == 3) sync_threads();
    else value += shuffle_xor(value, 1) * 0.0f;
  }
  if (kFault == WarpFault::lane_skips_shuffle && lane != 9) value = shuffle(value, 9);
  y[lane] = value;
}

template <WarpFault kFault>
void run_reverse() {
  const Stream stream;
  Buffer<float> y(kWarp), x(kWarp);
  x.fill([](int64_t i) { return float(i); });
  launch(reverse<kFault>, Grid(1), kWarp, sizeof(WarpShared), stream, y.data(), x.data());
  for (int i = 0; i < kWarp; ++i) require(y[i] == float(kWarp - 1 - i), "reverse: wrong element");
}

// ---- copying with vectors ----

enum class CopyFault { none, misaligned_load, misaligned_pointer, past_end, unequal_barriers, too_little_shared, read_of_host_memory, global_store_to_shared };

struct CopyShared {
  Vec16 value[kWarp];
};

template <CopyFault kFault>
KERNEL BOUNDS(32, 1) void copy(float* y, const float* x) {
  CopyShared& s = shared_memory<CopyShared>();
  const int lane = int(threadIdx.x);
  const int shift = kFault == CopyFault::misaligned_load ? 2 : kFault == CopyFault::past_end ? 4 : 0;
  if (kFault == CopyFault::misaligned_pointer) {
    const char* bytes = reinterpret_cast<const char*>(x) + 2;
    y[lane] = reinterpret_cast<const float*>(bytes)[lane];
  }
  s.value[lane] = load_16(x + 4 * lane + shift);
  if (kFault == CopyFault::global_store_to_shared) store_global_16(&s.value[lane], s.value[lane]);
  if (kFault == CopyFault::unequal_barriers && lane == 5) return;
  sync_threads();
  store_16(y + 4 * lane, s.value[lane]);
}

template <CopyFault kFault>
void run_copy() {
  const Stream stream;
  Buffer<float> y(4 * kWarp), x(4 * kWarp);
  x.fill([](int64_t i) { return float(i); });
  const float host[4 * kWarp] = {};
  const float* from = kFault == CopyFault::read_of_host_memory ? host : x.data();
  const int64_t shared = int64_t(sizeof(CopyShared)) - (kFault == CopyFault::too_little_shared ? 16 : 0);
  launch(copy<kFault>, Grid(1), kWarp, shared, stream, y.data(), from);
  for (int i = 0; i < 4 * kWarp; ++i) require(y[i] == float(i), "copy: wrong element");
}

/// Memory that was given back.
void run_copy_from_released() {
  const Stream stream;
  Buffer<float> y(4 * kWarp);
  const float* released;
  {
    const Buffer<float> x(4 * kWarp);
    released = x.data();
  }
  launch(copy<CopyFault::none>, Grid(1), kWarp, int64_t(sizeof(CopyShared)), stream, y.data(), released);
}

// ---- bytes, atomics, votes, copies of 4 and 8 bytes, zero-filled copies ----

struct MixedShared {
  int32_t counter;
  uint8_t codes[64];
  alignas(8) float floats[64];  // copy_async_8
};

KERNEL BOUNDS(64, 1) void mixed(int32_t* y, const float* x) {
  MixedShared& s = shared_memory<MixedShared>();
  const int thread = int(threadIdx.x), lane = thread % kWarp;
  if (thread == 0) s.counter = 0;
  s.codes[thread] = uint8_t(thread);  // neighbours write the two bytes of a cell
  if (thread < 32) copy_async_8(&s.floats[2 * thread], x + 2 * thread, thread % 2 == 0);
  copy_async_commit();
  copy_async_wait<0>();
  sync_threads();
  if (thread >= 60) copy_async_4(&s.floats[thread], x + thread, true);
  copy_async_commit();
  copy_async_wait<0>();
  atomic_add(&s.counter, int(s.codes[63 - thread]));
  const uint32_t odd = ballot(lane % 2 != 0);
  const int32_t next = shuffle_down(thread, 1), first = shuffle(thread, 0);
  const float largest = warp_max(float(thread));
  sync_threads();
  y[thread] = s.counter + (odd == 0xAAAAAAAAu) + (next == (lane == 31 ? thread : thread + 1)) + (first == thread - lane) + (largest == float(thread | 31)) + int(s.floats[thread]);
}

void run_mixed() {
  const Stream stream;
  Buffer<int32_t> y(64);
  Buffer<float> x(64);
  x.fill([](int64_t i) { return float(100 * i); });
  launch(mixed, Grid(1), 64, sizeof(MixedShared), stream, y.data(), x.data());
  for (int i = 0; i < 64; ++i) require(y[i] == 63 * 64 / 2 + 4 + (i / 2 % 2 == 0 || i >= 60 ? 100 * i : 0), "mixed: wrong element");
}

// ---- global memory between warps and between blocks ----

enum class GlobalFault { none, warp_reads_unordered, warps_write_the_same, blocks_write_the_same, block_reads_another };

template <GlobalFault kFault>
KERNEL BOUNDS(64, 1) void neighbours(int32_t* y, int32_t* x, int32_t* total) {
  const int thread = int(threadIdx.x), i = int(blockIdx.x) * 64 + thread;
  x[i] = i;
  if (kFault != GlobalFault::warp_reads_unordered) sync_threads();
  int value = x[i ^ 32];
  if (kFault == GlobalFault::block_reads_another && thread == 7) value = x[(i + 64) % int(gridDim.x * 64)];
  y[i] = value;
  if (kFault == GlobalFault::warps_write_the_same && thread % 32 == 0) *total = i;
  if (kFault == GlobalFault::blocks_write_the_same && thread == 0) *total = i;
  atomic_add(total + 1, 1);
}

template <GlobalFault kFault>
void run_neighbours() {
  constexpr int kBlocks = 3;
  const Stream stream;
  Buffer<int32_t> y(kBlocks * 64), x(kBlocks * 64), total(2);
  total.fill([](int64_t) { return 0; });
  for (int times = 1; times <= 2; ++times) {  // what an earlier launch touched is no conflict
    launch(neighbours<kFault>, Grid(kBlocks), 64, 0, stream, y.data(), x.data(), total.data());
    for (int i = 0; i < kBlocks * 64; ++i) require(y[i] == (i ^ 32), "neighbours: wrong element");
    require(total[1] == times * kBlocks * 64, "neighbours: wrong count");
  }
}

// ---- every block and thread runs, arguments of any kind arrive ----

struct Weights {
  int64_t a[6];
};
constexpr int kFactors[4] = {1, 10, 100, 1000};

KERNEL BOUNDS(64, 1) void count_all(int32_t* counts, Weights weights, int16_t offset) {
  const int64_t block = blockIdx.x + int64_t(gridDim.x) * (blockIdx.y + int64_t(gridDim.y) * blockIdx.z);
  counts[block * blockDim.x + threadIdx.x] += int32_t(weights.a[blockIdx.y]) + offset + kFactors[threadIdx.x % 4];
}

void run_count_all() {
  const Stream stream;
  Buffer<int32_t> counts(3 * 5 * 2 * 64);
  counts.fill([](int64_t) { return 0; });
  launch(count_all, Grid(3, 5, 2), 64, 0, stream, counts.data(), Weights{{5, 6, 7, 8, 9, 10}}, 20);
  for (int i = 0; i < 3 * 5 * 2 * 64; ++i) require(counts[i] == 5 + i / 64 / 3 % 5 + 20 + kFactors[i % 4], "count_all: a thread did not run once");
}

}  // namespace

const std::vector<KernelCase>& kernel_cases() {
  static const std::vector<KernelCase> cases = {
      {"row sums", nullptr, run_row_sums<RowFault::none>},
      {"row sums without the barrier", "nothing has written|with no sync_threads", run_row_sums<RowFault::no_barrier>},
      {"row sums, one warp gone before the barrier", "passed 0 sync_threads", run_row_sums<RowFault::warp_returns_early>},
      {"row sums, shared index past the struct", "at shared offset 32 of the 32 bytes", run_row_sums<RowFault::shared_past_struct>},
      {"row sums, one partial sum not written", "at shared offset 12, which nothing has written", run_row_sums<RowFault::unwritten_shared>},
      {"row sums, a load past the buffer", "past the end of a buffer of 10300", run_row_sums<RowFault::global_past_end>},
      {"row sums, a store past the buffer", "writes 4 bytes at", run_row_sums<RowFault::global_write_past_end>},
      {"tensor-core product", nullptr, run_tile_product<ProductFault::none>},
      {"tensor-core product, b transposed", nullptr, run_tile_product<ProductFault::none, true>},
      {"product without the barrier after the wait", "with no sync_threads|nothing has written|not waited for", run_tile_product<ProductFault::no_barrier_after_wait>},
      {"product without the barrier before reuse", "with no sync_threads|not waited for", run_tile_product<ProductFault::no_barrier_before_reuse>},
      {"product without the wait for its copies", "nothing has written|not waited for", run_tile_product<ProductFault::no_wait>},
      {"product, ldmatrix off by 8 bytes", "8 past a multiple of 16", run_tile_product<ProductFault::misaligned_row>},
      {"product, one lane gone", "needs all 32", run_tile_product<ProductFault::lane_left>},
      {"reversal in a warp", nullptr, run_reverse<WarpFault::none>},
      {"reversal without sync_warp", "nothing has written|with no sync_threads or sync_warp", run_reverse<WarpFault::no_sync>},
      {"lanes in different operations", "other lanes of its warp are in shuffle", run_reverse<WarpFault::different_operations>},
      {"one lane in a barrier, others in a shuffle", "neither goes on", run_reverse<WarpFault::barrier_and_shuffle>},
      {"copy by vectors", nullptr, run_copy<CopyFault::none>},
      {"a 16-byte load off by 8 bytes", "reads 16 bytes of global memory at an address that is 8 past", run_copy<CopyFault::misaligned_load>},
      {"a float read off by 2 bytes", "2 past a multiple of 4", run_copy<CopyFault::misaligned_pointer>},
      {"a vector past the buffer", "in no buffer|past its end", run_copy<CopyFault::past_end>},
      {"a thread that skips a barrier", "passed 0 sync_threads", run_copy<CopyFault::unequal_barriers>},
      {"less shared memory than the kernel's struct", "takes 512 bytes of shared memory, the launch declared 496", run_copy<CopyFault::too_little_shared>},
      {"a pointer to host memory", "in no buffer of the device", run_copy<CopyFault::read_of_host_memory>},
      {"a global store to shared memory", "writes to global memory at shared offset", run_copy<CopyFault::global_store_to_shared>},
      {"memory that was released", "in no buffer of the device", run_copy_from_released},
      {"bytes, atomics, votes, small copies", nullptr, run_mixed},
      {"global memory between warps", nullptr, run_neighbours<GlobalFault::none>},
      {"a warp that reads what another may not have written", "with no sync_threads between", run_neighbours<GlobalFault::warp_reads_unordered>},
      {"two warps that write the same element", "wrote with no sync_threads between", run_neighbours<GlobalFault::warps_write_the_same>},
      {"two blocks that write the same element", "which another block of this launch wrote", run_neighbours<GlobalFault::blocks_write_the_same>},
      {"a block that reads what another writes", "which another block of this launch", run_neighbours<GlobalFault::block_reads_another>},
      {"all blocks and threads, arguments", nullptr, run_count_all},
  };
  return cases;
}

}  // namespace polypaca::POLYPACA_CUDA
