// From a row of scores to the tokens to go on with: log-softmax, the changes that generation asks for, the best few.
//   log_sums[r] = logsumexp(x[r]);  x = x - log_sums where log-probabilities are wanted;  x = x < 0 ? x * penalty : x / penalty for
//   penalised pairs;  x = -inf for banned ones;  best, tokens: the `count` largest, best first, ties to the smaller token
// scores fp32 [rows, V], rows ld apart, changed in place; log_sums fp32 [rows], best fp32 and tokens int32 [rows, count] assign.
// One block per row. For the best, each warp keeps the best of a stripe of the row; the best of these is taken `count` times, and only
// the warp it came from looks through its stripe again, for what comes next in order. With 8 wanted of 250,880 the row is read once
// and an eighth of a stripe's share of it per token more, from L2. Nothing depends on the order of threads.
#include "cuda/cuda_backend.h"
#include "cuda/row_launch.h"
#include "cuda/softmax_rows.cuh"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kPairThreads = 256;

KERNEL BOUNDS(kMostRowThreads, 1) void log_sums_of_rows(Rows<float> scores, float* log_sums, int64_t V, bool subtracts) {
  SoftmaxShared& s = shared_memory<SoftmaxShared>();
  const int64_t r = blockIdx.x;
  float* x = scores[r];
  Softmax own{kLowest, 0.0f};
  visit_row(
      x, V, [&](float*, const float(&v)[4]) { absorb(own, v); },
      [&](float* p) {
        const float v[1] = {*p};
        absorb(own, v);
      });
  const Softmax row = merged(own, s);
  const float log_sum = row.max + logf(row.sum);
  if (threadIdx.x == 0) log_sums[r] = log_sum;
  if (!subtracts) return;
  visit_row(
      x, V,
      [&](float* p, const float(&v)[4]) {
        const float y[4] = {v[0] - log_sum, v[1] - log_sum, v[2] - log_sum, v[3] - log_sum};
        store_16(p, pack(y, 0.0f));
      },
      [&](float* p) { *p -= log_sum; });
}

/// A thread per pair (row, token); each pair is there once.
KERNEL BOUNDS(kPairThreads, 8) void penalise(Rows<float> scores, const int32_t* pairs, int64_t count, float penalty) {
  const int64_t i = int64_t(blockIdx.x) * kPairThreads + threadIdx.x;
  if (i >= count) return;
  float* x = scores[pairs[2 * i]] + pairs[2 * i + 1];
  *x = *x < 0.0f ? *x * penalty : *x / penalty;
}

KERNEL BOUNDS(kPairThreads, 8) void ban(Rows<float> scores, const int32_t* pairs, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * kPairThreads + threadIdx.x;
  if (i < count) scores[pairs[2 * i]][pairs[2 * i + 1]] = -INFINITY;
}

struct Scored {
  float score;
  int32_t token;
};
constexpr int32_t kNoToken = 0x7FFFFFFF;

/// Whether a comes before b: the larger score, of equal ones the smaller token.
DEVICE bool precedes(Scored a, Scored b) { return a.score > b.score || (a.score == b.score && a.token < b.token); }

/// The first of the lanes' in that order, the same in every lane.
DEVICE Scored first_of_warp(Scored own) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    const Scored other{shuffle_xor(own.score, mask), shuffle_xor(own.token, mask)};
    if (precedes(other, own)) own = other;
  }
  return own;
}

/// The first of x[begin .. end) that comes after `last`; NaN comes nowhere.
DEVICE Scored first_after(const float* x, int64_t begin, int64_t end, Scored last, int lane) {
  Scored first{-INFINITY, kNoToken};
  for (int64_t v = begin + lane; v < end; v += kWarp) {
    const Scored one{x[v], int32_t(v)};
    if (precedes(last, one) && precedes(one, first)) first = one;
  }
  return first_of_warp(first);
}

struct BestShared {
  float score[kMostRowThreads / kWarp];
  int32_t token[kMostRowThreads / kWarp];
};

KERNEL BOUNDS(kMostRowThreads, 1) void best_of_rows(float* best, int32_t* tokens, Rows<const float> scores, int64_t V, int count) {
  BestShared& s = shared_memory<BestShared>();
  const int64_t r = blockIdx.x;
  const float* x = scores[r];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
  const int64_t stripe = (V + warps - 1) / warps, begin = warp * stripe, end = smaller(begin + stripe, V);
  Scored own = first_after(x, begin, end, {INFINITY, -1}, lane);
  for (int i = 0; i < count; ++i) {
    if (lane == 0) s.score[warp] = own.score, s.token[warp] = own.token;
    sync_threads();
    const Scored taken = first_of_warp(lane < warps ? Scored{s.score[lane], s.token[lane]} : Scored{-INFINITY, kNoToken});
    if (threadIdx.x == 0) {
      best[r * count + i] = taken.score;
      tokens[r * count + i] = taken.token == kNoToken ? -1 : taken.token;
    }
    if (taken.token == own.token && taken.token != kNoToken) own = first_after(x, begin, end, taken, lane);
    sync_threads();  // every warp has read the others' before one is replaced
  }
}

}  // namespace

void CudaBackend::choose_tokens(float* log_sums, float* best, int32_t* tokens, Matrix scores, const ScoreChanges& changes, int64_t rows, int64_t V, int64_t count) {
  if (rows == 0) return;
  const int threads = row_block_threads(V);
  const Rows<float> x = rows_of<float>(scores);
  launch(log_sums_of_rows, Grid(rows), threads, sizeof(SoftmaxShared), stream(), x, log_sums, V, changes.log_probabilities);
  if (changes.penalised_count > 0) launch(penalise, Grid(ceil_divide(changes.penalised_count, kPairThreads)), kPairThreads, 0, stream(), x, changes.penalised, changes.penalised_count, changes.repetition_penalty);
  if (changes.banned_count > 0) launch(ban, Grid(ceil_divide(changes.banned_count, kPairThreads)), kPairThreads, 0, stream(), x, changes.banned, changes.banned_count);
  if (count > 0) launch(best_of_rows, Grid(rows), threads, sizeof(BestShared), stream(), best, tokens, rows_of<const float>(scores), V, count);
}

}  // namespace polypaca::POLYPACA_CUDA
