// From a row of scores to the tokens to go on with: log-softmax, the changes that generation asks for, the best few.
//   log_sums[r] = logsumexp(x[r]);  x = x - log_sums where log-probabilities are wanted;  x = x < 0 ? x * penalty : x / penalty for
//   penalised pairs;  x = -inf for banned ones;  best, tokens: the `count` largest, best first, ties to the smaller token
// scores fp32 [rows, V], rows ld apart, changed in place; log_sums fp32 [rows], best fp32 and tokens int32 [rows, count] assign.
// Rows are independent and run on all threads. A row's best are kept sorted; a block whose largest is no better than the worst of them
// is passed over, which after the first few blocks is nearly every one.
#include <math.h>

#include "cpu/cpu_backend.h"
#include "cpu/softmax_statistics.h"

namespace polypaca::POLYPACA_ISA {
namespace {

/// The first pair of `row` or of a later one.
POLYPACA_INLINE int64_t first_of_row(const int32_t* pairs, int64_t count, int64_t row) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (pairs[2 * middle] < row) low = middle + 1;
    else high = middle;
  }
  return low;
}

/// Calls f(token) for every pair of the row.
template <typename F>
POLYPACA_INLINE void for_row(const int32_t* pairs, int64_t count, int64_t row, F&& f) {
  for (int64_t i = first_of_row(pairs, count, row); i < count && pairs[2 * i] == row; ++i) f(pairs[2 * i + 1]);
}

void change_row(float* x, int64_t row, float log_sum, int64_t V, const ScoreChanges& c) {
  if (c.log_probabilities) {
    for (int64_t v = 0; v < V; ++v) x[v] -= log_sum;
  }
  for_row(c.penalised, c.penalised_count, row, [&](int32_t t) { x[t] = x[t] < 0.0f ? x[t] * c.repetition_penalty : x[t] / c.repetition_penalty; });
  for_row(c.banned, c.banned_count, row, [&](int32_t t) { x[t] = -INFINITY; });
}

void best_of_row(float* best, int32_t* tokens, const float* x, int64_t V, int64_t count) {
  constexpr int64_t kPassed = 8 * kLanes;
  int64_t held = 0;
  for (int64_t begin = 0; begin < V; begin += kPassed) {
    const int64_t end = smaller(begin + kPassed, V);
    if (held == count && !(largest(x + begin, end - begin) > best[count - 1])) continue;
    for (int64_t v = begin; v < end; ++v) {
      if (isnan(x[v]) || (held == count && !(x[v] > best[count - 1]))) continue;
      int64_t at = held < count ? held++ : count - 1;
      for (; at > 0 && x[v] > best[at - 1]; --at) best[at] = best[at - 1], tokens[at] = tokens[at - 1];
      best[at] = x[v], tokens[at] = int32_t(v);
    }
  }
  for (; held < count; ++held) best[held] = -INFINITY, tokens[held] = -1;
}

}  // namespace

void CpuBackend::choose_tokens(float* log_sums, float* best, int32_t* tokens, Matrix scores, const ScoreChanges& changes, int64_t rows, int64_t V, int64_t count) {
#pragma omp parallel for schedule(static) if (rows * V >= kParallelElements)
  for (int64_t r = 0; r < rows; ++r) {
    float* x = row_of<float>(scores, r);
    const SoftmaxStatistics s = softmax_statistics(x, V);
    log_sums[r] = float(double(s.max) + log(s.sum));
    change_row(x, r, log_sums[r], V, changes);
    if (count > 0) best_of_row(best + r * count, tokens + r * count, x, V, count);
  }
}

}  // namespace polypaca::POLYPACA_ISA
