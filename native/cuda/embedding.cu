// Token embedding: a row look-up and, backwards, a scatter-add.
//   forward   x[n] = table[ids[n]]
//   backward  d_table[ids[n]] += dx[n]
// ids int32 [N], each in [0, V) (checked where a batch enters); x, dx [N, C], table [V, C] fp32 or bf16; d_table fp32 [V, C] dense.
// x assigns, d_table adds; rows of ids that do not occur are not touched.
// backward is deterministic and its work balanced, however often one id occurs. Tokens are taken kSortTokens at a time, in order:
//   1. sort_ids    one block per such part sorts its (id, place) pairs in shared memory
//   2. add_runs    a block takes kRunTokens sorted tokens and adds up every run of one id, in token order. A run that lies inside the
//                  block goes to d_table; one that touches the block's first or last token may go on beside it: its sum goes to scratch
//   3. join_runs   the block in which a run of several blocks begins adds its sums to d_table, in order
// Scratch: N keys of 8 bytes and, per kRunTokens tokens, two rows of C floats.
#include "cuda/cuda_backend.h"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kSortTokens = 8192, kSortThreads = 1024;
constexpr int kRunTokens = 32;
constexpr int kRunThreads = 128;

struct SortShared {
  uint64_t key[kSortTokens];
};

/// keys [N]: (id << 32 | n), ascending within each part of kSortTokens. Bitonic sort (Batcher 1968) of the next power of two.
KERNEL BOUNDS(kSortThreads, 1) void sort_ids(uint64_t* keys, const int32_t* ids, int64_t N) {
  SortShared& s = shared_memory<SortShared>();
  const int64_t first = int64_t(blockIdx.x) * kSortTokens;
  const int count = int(smaller<int64_t>(N - first, kSortTokens)), threads = blockDim.x;
  int size = 1;
  while (size < count) size *= 2;
  for (int i = threadIdx.x; i < size; i += threads) s.key[i] = i < count ? uint64_t(uint32_t(ids[first + i])) << 32 | uint64_t(first + i) : ~uint64_t(0);
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      sync_threads();
      for (int i = threadIdx.x; i < size / 2; i += threads) {
        const int low = 2 * i - i % distance, high = low + distance;  // pair i of those at this distance
        const bool ascends = (low & run) == 0;
        const uint64_t a = s.key[low], b = s.key[high];
        if ((a > b) == ascends) s.key[low] = b, s.key[high] = a;
      }
    }
  }
  sync_threads();
  for (int i = threadIdx.x; i < count; i += threads) keys[first + i] = s.key[i];
}

DEVICE int32_t id_of(uint64_t key) { return int32_t(key >> 32); }

struct RunShared {
  uint64_t key[kRunTokens];
};

/// Both run kernels: keys [count] of one part. blockIdx.x takes kRunTokens of them, blockIdx.y a slice of the columns, kVector a
/// thread. ends [blocks][2][C]: what a block leaves of the run at its start and of the one at its end.
template <bool kAligned, typename T>
KERNEL BOUNDS(kRunThreads, 4) void add_runs(float* d_table, float* ends, Rows<const T> dx, const uint64_t* keys, int count, int64_t C) {
  RunShared& s = shared_memory<RunShared>();
  const int first = int(blockIdx.x) * kRunTokens, tokens = smaller(kRunTokens, count - first);
  if (int(threadIdx.x) < tokens) s.key[threadIdx.x] = keys[first + threadIdx.x];
  sync_threads();
  const int64_t c = (int64_t(blockIdx.y) * kRunThreads + threadIdx.x) * kVector, left = C - c;
  if (left <= 0) return;
  const int32_t before = first > 0 ? id_of(keys[first - 1]) : -1, behind = first + tokens < count ? id_of(keys[first + tokens]) : -1;

  float sum[kVector] = {}, next[kVector];
  load_elements<kAligned>(next, dx[int64_t(uint32_t(s.key[0]))] + c, left);
  int begin = 0;  // of the run
  for (int i = 0; i < tokens; ++i) {
    const int32_t id = id_of(s.key[i]);
    for (int j = 0; j < kVector; ++j) sum[j] += next[j];
    if (i + 1 < tokens) load_elements<kAligned>(next, dx[int64_t(uint32_t(s.key[i + 1]))] + c, left);
    if (i + 1 < tokens && id_of(s.key[i + 1]) == id) continue;

    const bool from_before = begin == 0 && id == before, goes_on = i + 1 == tokens && id == behind;
    if (from_before || goes_on) {
      store_elements<kAligned>(ends + (2 * int64_t(blockIdx.x) + (from_before ? 0 : 1)) * C + c, sum, left);
    } else {
      float total[kVector];
      float* out = d_table + int64_t(id) * C + c;
      load_elements<kAligned>(total, out, left);
      for (int j = 0; j < kVector; ++j) total[j] += sum[j];
      store_elements<kAligned>(out, total, left);
    }
    for (int j = 0; j < kVector; ++j) sum[j] = 0.0f;
    begin = i + 1;
  }
}

template <bool kAligned>
KERNEL BOUNDS(kRunThreads, 4) void join_runs(float* d_table, const float* ends, const uint64_t* keys, int count, int64_t C) {
  const int first = int(blockIdx.x) * kRunTokens, last = first + kRunTokens - 1;
  if (last + 1 >= count) return;
  const int32_t id = id_of(keys[last]);
  if (id_of(keys[last + 1]) != id) return;                // no run goes on from here,
  if (first > 0 && id_of(keys[first - 1]) == id) return;  // or it began before this block
  const int64_t c = (int64_t(blockIdx.y) * kRunThreads + threadIdx.x) * kVector, left = C - c;
  if (left <= 0) return;
  float total[kVector], sum[kVector];
  float* out = d_table + int64_t(id) * C + c;
  load_elements<kAligned>(total, out, left);
  load_elements<kAligned>(sum, ends + (2 * int64_t(blockIdx.x) + 1) * C + c, left);
  for (int j = 0; j < kVector; ++j) total[j] += sum[j];
  for (int block = blockIdx.x + 1; block * kRunTokens < count && id_of(keys[block * kRunTokens]) == id; ++block) {
    load_elements<kAligned>(sum, ends + 2 * int64_t(block) * C + c, left);
    for (int j = 0; j < kVector; ++j) total[j] += sum[j];
  }
  store_elements<kAligned>(out, total, left);
}

int64_t key_bytes(int64_t N) { return ceil_divide(N, 2) * 16; }

}  // namespace

void CudaBackend::embedding_forward(Matrix x, Matrix table, const int32_t* ids, int64_t N, int64_t C) { gather_rows(x, table, ids, N, C); }

/// Sort keys first, on 16 bytes, then the two ends of every block's runs.
int64_t CudaBackend::embedding_scratch_bytes(int64_t N, int64_t C) {
  const int64_t most_blocks = ceil_divide(std::min<int64_t>(N, kSortTokens), kRunTokens);
  return key_bytes(N) + most_blocks * 2 * C * int64_t(sizeof(float));
}

void CudaBackend::embedding_backward(float* d_table, Matrix dx, const int32_t* ids, int64_t N, int64_t C) {
  if (N == 0 || C == 0) return;
  char* memory = static_cast<char*>(scratch(embedding_scratch_bytes(N, C)));
  uint64_t* keys = reinterpret_cast<uint64_t*>(memory);
  float* ends = reinterpret_cast<float*>(memory + key_bytes(N));
  const int sort_threads = int(std::min<int64_t>(kSortThreads, ceil_divide(N, 2 * kWarp) * kWarp));
  launch(sort_ids, Grid(ceil_divide(N, kSortTokens)), sort_threads, sizeof(SortShared), stream(), keys, ids, N);
  with_type(dx.dtype, [&]<typename T>(TypeTag<T>) {
    with_flag(takes_vectors(C, dx, d_table), [&]<bool kAligned>(std::bool_constant<kAligned>) {
      for (int64_t first = 0; first < N; first += kSortTokens) {
        const int count = int(std::min<int64_t>(N - first, kSortTokens));
        const Grid grid(ceil_divide(count, kRunTokens), ceil_divide(C, kRunThreads * kVector));
        launch(add_runs<kAligned, T>, grid, kRunThreads, sizeof(RunShared), stream(), d_table, ends, rows_of<const T>(dx), keys + first, count, C);
        launch(join_runs<kAligned>, grid, kRunThreads, 0, stream(), d_table, ends, keys + first, count, C);
      }
    });
  });
}

}  // namespace polypaca::POLYPACA_CUDA
