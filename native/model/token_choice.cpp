#include "model/token_choice.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"

namespace polypaca {

void add_changes(RowChanges& changes, int32_t row, const std::vector<int32_t>& tokens, int64_t prompt_length, int64_t V, const GenerateOptions& o) {
  if (o.repetition_penalty != 1.0f) {
    std::vector<int32_t> seen(tokens);  // each distinct token is penalised once
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    for (int32_t t : seen) changes.penalised.push_back({row, t});
  }
  const int64_t n = o.no_repeat_ngram_size, length = int64_t(tokens.size());
  if (n > 0 && length + 1 >= n) {
    const int32_t* prefix = tokens.data() + length - (n - 1);
    for (int64_t i = 0; i + n <= length; ++i) {
      if (std::equal(prefix, prefix + (n - 1), tokens.data() + i)) changes.banned.push_back({row, tokens[size_t(i + n - 1)]});
    }
  }
  if (o.eos_token_id >= 0 && o.eos_token_id < V && length - prompt_length < o.min_new_tokens) changes.banned.push_back({row, o.eos_token_id});
}

std::vector<Candidate> sorted_row(const float* scores, int64_t V) {
  std::vector<Candidate> order;
  for (int64_t v = 0; v < V; ++v) {
    if (!std::isnan(scores[v])) order.push_back({scores[v], int32_t(v)});
  }
  std::sort(order.begin(), order.end(), [](const Candidate& a, const Candidate& b) { return a.score != b.score ? a.score > b.score : a.token < b.token; });
  return order;
}

Candidate sample(const std::vector<Candidate>& order, const GenerateOptions& o, uint64_t prompt_hash, int64_t index) {
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
    if (at < weight[i]) return order[i];
    at -= weight[i];
  }
  return order[weight.size() - 1];
}

}  // namespace polypaca
