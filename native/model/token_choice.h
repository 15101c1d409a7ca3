// What generation asks of a row's scores, as transformers' generate() has it: which tokens are penalised or banned, and one draw from
// what is left. The scores themselves are the back end's (Backend::choose_tokens).
#pragma once
#include <cstdint>
#include <string>
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

/// Throws invalid_argument where a setting of how tokens are chosen is out of its range.
void check_choice(const GenerateOptions& options);
/// Throws invalid_argument for an empty prompt or an id outside the vocabulary; `what` names the prompt.
void check_prompt(const std::vector<int32_t>& tokens, int64_t V, const std::string& what);

/// How many of a row's best scores decide its next token, without beams; 0: the whole row, as sampling from more than a back end finds.
int64_t scores_needed(const GenerateOptions& options, int64_t V);

/// Of a prompt: FNV-1a. A sequence's draws are a function of it, so that they do not depend on what is decoded beside it.
uint64_t hash_of_prompt(const std::vector<int32_t>& tokens);

/// What the back end found in one row of scores.
struct RowScores {
  float log_sum = 0;                // logsumexp of the scores as the model gave them
  const float* best = nullptr;      // [count] best after all changes, best first
  const int32_t* tokens = nullptr;  // [count]; -1: there are no more
  int64_t count = 0;
  const float* whole = nullptr;     // [V] after all changes, where scores_needed() is 0
};

struct ChosenToken {
  int32_t token = 0;
  float log_probability = 0;  // as the model gave it, not the processors
};

/// The next token of a row: the best, or one draw (temperature, then top-k, then top-p) that is a function of (seed, prompt, number of the
/// token) and the scores. `tokens` is prompt + generated. Throws not_finite where the scores are of no use.
ChosenToken next_token(const RowScores& row, const std::vector<int32_t>& tokens, int64_t prompt_length, uint64_t prompt_hash, int64_t V, const GenerateOptions& options);

/// Throws not_finite for a row whose scores are of no use.
void check_finite(float log_sum);

}  // namespace polypaca
