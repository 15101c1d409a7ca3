#include "model/token_choice.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/random.h"

namespace polypaca {

void log_softmax(float* scores, int64_t V) {
  const float largest = *std::max_element(scores, scores + V);
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t v = 0; v < V; ++v) sum += std::exp(double(scores[v] - largest));
  const float lse = largest + float(std::log(sum));
  for (int64_t v = 0; v < V; ++v) scores[v] -= lse;
}

void process_scores(float* scores, int64_t V, const std::vector<int32_t>& tokens, int64_t prompt_length, const GenerateOptions& o) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  if (o.repetition_penalty != 1.0f) {
    std::vector<int32_t> seen(tokens);  // each distinct token is penalised once
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    for (int32_t t : seen) scores[t] = scores[t] < 0 ? scores[t] * o.repetition_penalty : scores[t] / o.repetition_penalty;
  }
  const int64_t n = o.no_repeat_ngram_size, length = int64_t(tokens.size());
  if (n > 0 && length + 1 >= n) {
    const int32_t* prefix = tokens.data() + length - (n - 1);
    for (int64_t i = 0; i + n <= length; ++i) {
      if (std::equal(prefix, prefix + (n - 1), tokens.data() + i)) scores[tokens[size_t(i + n - 1)]] = kNever;
    }
  }
  if (o.eos_token_id >= 0 && o.eos_token_id < V && length - prompt_length < o.min_new_tokens) scores[o.eos_token_id] = kNever;
}

int32_t arg_max(const float* scores, int64_t V) { return int32_t(std::max_element(scores, scores + V) - scores); }

int32_t sample(const float* scores, int64_t V, const GenerateOptions& o, uint64_t prompt_hash, int64_t index) {
  std::vector<Candidate> order;
  const int64_t keep = o.top_k > 0 ? std::min(o.top_k, V) : V;
  best_of_row(scores, V, 0, keep, order);
  std::vector<double> weight(order.size());
  double total = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    weight[i] = std::exp(double(order[i].score - order[0].score) / o.temperature);
    total += weight[i];
  }
  // Nucleus: the smallest set of best tokens whose probability reaches top_p; at least one.
  if (o.top_p < 1) {
    double reached = 0;
    size_t kept = 0;
    while (kept < weight.size() && reached < double(o.top_p) * total) reached += weight[kept++];
    weight.resize(std::max<size_t>(1, kept));
    total = 0;
    for (double w : weight) total += w;
  }
  Philox4 r = philox4x32<10>(uint32_t(index), uint32_t(prompt_hash), uint32_t(prompt_hash >> 32), 0x53414D50u, uint32_t(o.seed), uint32_t(o.seed >> 32));
  double at = (double(r.v[0]) + double(r.v[1]) / 4294967296.0) / 4294967296.0 * total;
  for (size_t i = 0; i < weight.size(); ++i) {
    if (at < weight[i]) return order[i].token;
    at -= weight[i];
  }
  return order[weight.size() - 1].token;
}

void best_of_row(const float* scores, int64_t V, int64_t beam, int64_t count, std::vector<Candidate>& out) {
  auto better = [](const Candidate& a, const Candidate& b) { return a.score != b.score ? a.score > b.score : a.token < b.token; };
  const size_t first = out.size();
  if (count >= V) {
    for (int64_t v = 0; v < V; ++v) out.push_back({scores[v], int32_t(v), beam});
    std::sort(out.begin() + long(first), out.end(), better);
    return;
  }
  // A heap of the best so far, its worst on top: most of the row is passed over after one comparison.
  float worst = -std::numeric_limits<float>::infinity();
  for (int64_t v = 0; v < V; ++v) {
    const int64_t held = int64_t(out.size() - first);
    if (held == count && !(scores[v] > worst)) continue;
    out.push_back({scores[v], int32_t(v), beam});
    std::push_heap(out.begin() + long(first), out.end(), better);
    if (held == count) {
      std::pop_heap(out.begin() + long(first), out.end(), better);
      out.pop_back();
    }
    if (int64_t(out.size() - first) == count) worst = out[first].score;
  }
  std::sort(out.begin() + long(first), out.end(), better);
}

}  // namespace polypaca
