// What generation asks of a row's scores, as transformers' generate() has it: which tokens are penalised or banned, and one draw from
// what is left. The scores themselves are the back end's (Backend::choose_tokens).
#pragma once
#include <cstdint>
#include <vector>

#include "model/generate.h"

namespace polypaca {

/// A score's place, as ScoreChanges has it.
struct RowToken {
  int32_t row, token;
};

struct RowChanges {
  std::vector<RowToken> penalised, banned;
};

/// Adds what happens to row `row`: the repetition penalty of every distinct token (Keskar et al. 2019), then no repeated n-gram, then
/// EOS suppression; `tokens` is prompt + generated.
void add_changes(RowChanges& changes, int32_t row, const std::vector<int32_t>& tokens, int64_t prompt_length, int64_t V, const GenerateOptions& options);

struct Candidate {
  float score = 0;
  int32_t token = 0;
};

/// All of a row, best first; ties go to the smaller token.
std::vector<Candidate> sorted_row(const float* scores, int64_t V);

/// Temperature and top-p (nucleus), then one draw that is a function of (seed, prompt, number of the token). `order`: what may be
/// drawn, best first.
Candidate sample(const std::vector<Candidate>& order, const GenerateOptions& options, uint64_t prompt_hash, int64_t index);

}  // namespace polypaca
