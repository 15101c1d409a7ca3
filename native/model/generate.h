// Text generation from token ids: greedy, sampling and beam search over a batch of prompts, with a key/value cache.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace polypaca {

struct GenerateOptions {
  int64_t max_new_tokens = 256, num_beams = 1, no_repeat_ngram_size = 0, min_new_tokens = 0;
  float repetition_penalty = 1, length_penalty = 1, temperature = 0, top_p = 1;
  int64_t top_k = 0;
  uint64_t seed = 0;
  int32_t eos_token_id = -1;
};

struct Hypothesis {
  std::vector<int32_t> tokens;  // without the prompt; ends with EOS where EOS was produced
  double score = 0;             // sum of log-probabilities; beam search: divided by length^length_penalty
};

struct Generated {
  Hypothesis best;
  bool stopped = false;            // ended by EOS
  std::vector<Hypothesis> beams;   // beam search: all kept, best first
};

/// Called with (prompt, token) as tokens are decided; only without beams.
using OnToken = std::function<void(int64_t, int32_t)>;

/// Throws invalid_argument for an empty or over-long prompt, out_of_memory where the cache does not fit.
std::vector<Generated> generate(Model& model, Decoder& decoder, const std::vector<std::vector<int32_t>>& prompts, const GenerateOptions& options, const OnToken& on_token, const StopFlag& stop);

}  // namespace polypaca
