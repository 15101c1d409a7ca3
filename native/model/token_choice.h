// What to do with a row of scores: the processors and samplers of transformers' generate(), on the host.
#pragma once
#include <cstdint>
#include <vector>

#include "model/generate.h"

namespace polypaca {

/// Scores become log-probabilities: x - logsumexp(x). The sum is taken in double.
void log_softmax(float* scores, int64_t V);

/// Repetition penalty (Keskar et al. 2019), then no repeated n-gram, then EOS suppression; `tokens` is prompt + generated.
void process_scores(float* scores, int64_t V, const std::vector<int32_t>& tokens, int64_t prompt_length, const GenerateOptions& options);

int32_t arg_max(const float* scores, int64_t V);

/// Temperature, top-k, top-p (nucleus), then one draw that is a function of (seed, prompt, number of the token).
int32_t sample(const float* scores, int64_t V, const GenerateOptions& options, uint64_t prompt_hash, int64_t index);

/// The `count` best of a row, best first: (score, token). Ties go to the smaller token.
struct Candidate {
  float score = 0;
  int32_t token = 0;
  int64_t beam = 0;
};
void best_of_row(const float* scores, int64_t V, int64_t beam, int64_t count, std::vector<Candidate>& out);

}  // namespace polypaca
