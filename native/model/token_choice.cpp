#include "model/token_choice.h"

#include <algorithm>
#include <cmath>

#include "backend/backend.h"
#include "core/error.h"
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

void check_choice(const GenerateOptions& o) {
  auto need = [](bool ok, const char* what) {
    if (!ok) fail(ErrorCode::invalid_argument, what);
  };
  need(o.max_new_tokens >= 1, "maxNewTokens must be at least 1");
  need(o.repetition_penalty > 0, "repetitionPenalty must be positive");
  need(o.temperature >= 0 && o.top_p > 0 && o.top_p <= 1 && o.top_k >= 0, "temperature must be at least 0, topP in (0, 1], topK at least 0");
}

void check_prompt(const std::vector<int32_t>& tokens, int64_t V, const std::string& what) {
  if (tokens.empty()) throw Error(ErrorCode::invalid_argument, what + " is empty");
  for (int32_t id : tokens) {
    if (id < 0 || id >= V) throw Error(ErrorCode::invalid_argument, what + " holds id " + std::to_string(id) + ", the vocabulary has " + std::to_string(V) + " entries");
  }
}

int64_t scores_needed(const GenerateOptions& o, int64_t V) {
  if (o.temperature == 0) return 1;
  return o.top_k > 0 && o.top_k <= std::min(kMostChosen, V) ? o.top_k : 0;
}

uint64_t hash_of_prompt(const std::vector<int32_t>& tokens) {
  uint64_t h = 0xCBF29CE484222325ull;
  for (int32_t t : tokens) h = (h ^ uint32_t(t)) * 0x100000001B3ull;
  return h;
}

void check_finite(float log_sum) {
  if (!std::isfinite(log_sum)) fail(ErrorCode::not_finite, "the model's scores for the next token are not finite. Are the weights whole, and the adapter this model's?");
}

namespace {

struct Candidate {
  float score = 0;
  int32_t token = 0;
};

bool comes_first(const Candidate& a, const Candidate& b) { return a.score != b.score ? a.score > b.score : a.token < b.token; }

std::vector<Candidate> candidates_of(const RowScores& row, int64_t V) {
  std::vector<Candidate> candidates;
  for (int64_t v = 0; row.whole && v < V; ++v) {
    if (!std::isnan(row.whole[v])) candidates.push_back({row.whole[v], int32_t(v)});
  }
  for (int64_t i = 0; !row.whole && i < row.count && row.tokens[i] >= 0; ++i) candidates.push_back({row.best[i], row.tokens[i]});
  return candidates;
}

/// Candidates best first, sorted only as far as they are asked for: most of a vocabulary is never reached.
class BestFirst {
 public:
  explicit BestFirst(std::vector<Candidate> candidates) : all_(std::move(candidates)) {}
  size_t size() const { return all_.size(); }
  void keep(size_t count) {
    if (count >= all_.size()) return;
    sort_to(count);
    all_.resize(count);
  }
  const Candidate& at(size_t i) {
    if (i >= sorted_) sort_to(std::max<size_t>(256, 8 * sorted_));
    return all_[i];
  }
  const std::vector<Candidate>& any_order() const { return all_; }

 private:
  void sort_to(size_t count) {
    const auto begin = all_.begin() + ptrdiff_t(sorted_), end = all_.begin() + ptrdiff_t(std::min(count, all_.size()));
    if (begin >= end) return;
    if (end != all_.end()) std::nth_element(begin, end - 1, all_.end(), comes_first);
    std::sort(begin, end, comes_first);
    sorted_ = std::min(count, all_.size());
  }

  std::vector<Candidate> all_;
  size_t sorted_ = 0;
};

/// A number in [0, 1) that is a function of the seed, the prompt and the number of the token.
double draw_of(const GenerateOptions& o, uint64_t prompt_hash, int64_t index) {
  const Philox4 r = philox4x32<10>(uint32_t(index), uint32_t(prompt_hash), uint32_t(prompt_hash >> 32), 0x53414D50u, uint32_t(o.seed), uint32_t(o.seed >> 32));
  return (double(r.v[0]) + double(r.v[1]) / 4294967296.0) / 4294967296.0;
}

Candidate sample(std::vector<Candidate> candidates, const GenerateOptions& o, double draw) {
  BestFirst order(std::move(candidates));
  if (o.top_k > 0) order.keep(size_t(o.top_k));
  const float best = order.at(0).score;
  auto weight = [&](const Candidate& c) { return double(std::exp((c.score - best) / o.temperature)); };
  double total = 0;
  for (const Candidate& c : order.any_order()) total += weight(c);
  if (o.top_p < 1) {
    // The nucleus (Holtzman et al. 2020): the fewest best whose probability reaches top_p; at least one.
    double reached = 0;
    size_t kept = 0;
    while (kept < order.size() && reached < double(o.top_p) * total) reached += weight(order.at(kept++));
    order.keep(std::max<size_t>(1, kept));
    total = reached;
  }
  double at = draw * total;
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    const double w = weight(order.at(i));
    if (at < w) return order.at(i);
    at -= w;
  }
  return order.at(order.size() - 1);
}

float unpenalised(const Candidate& c, const std::vector<int32_t>& tokens, float penalty) {
  if (penalty == 1.0f || std::find(tokens.begin(), tokens.end(), c.token) == tokens.end()) return c.score;
  return c.score < 0 ? c.score / penalty : c.score * penalty;
}

}  // namespace

ChosenToken next_token(const RowScores& row, const std::vector<int32_t>& tokens, int64_t prompt_length, uint64_t prompt_hash, int64_t V, const GenerateOptions& options) {
  check_finite(row.log_sum);
  const Candidate chosen = options.temperature == 0 ? Candidate{row.best[0], row.tokens[0]} : sample(candidates_of(row, V), options, draw_of(options, prompt_hash, int64_t(tokens.size()) - prompt_length));
  return {chosen.token, unpenalised(chosen, tokens, options.repetition_penalty) - row.log_sum};
}

}  // namespace polypaca
