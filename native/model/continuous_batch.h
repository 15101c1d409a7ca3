// Continuous batching (Yu et al. 2022, "Orca"): sequences join and leave a running batch between two tokens, so that a short answer does
// not wait for a long one, nor a new prompt for the batch to end. Each has its own way of decoding and its own adapter.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/cached_decoder.h"

namespace polypaca {

/// The most tokens that are reported beside a chosen one.
constexpr int64_t kMostAlternatives = 20;

struct SequenceOptions {
  GenerateOptions decoding;   // one beam
  int64_t alternatives = 0;   // the likeliest tokens to report with each, at most kMostAlternatives
  std::string adapter;        // empty: the model alone
};

/// A sequence that asks for a place.
struct Admission {
  int64_t sequence = 0;       // the caller's number for it
  std::vector<int32_t> prompt;
  SequenceOptions options;
};

struct DecodedToken {
  enum class Finish : uint8_t { none, stop, length, not_finite };
  int64_t sequence = 0;
  int32_t token = -1;
  float log_probability = 0;                                // as the model gave it
  std::vector<std::pair<int32_t, float>> alternatives;      // the likeliest and their log-probabilities, best first
  Finish finish = Finish::none;                             // not_finite: the scores are of no use, and there is no token
};

class ContinuousBatch {
 public:
  /// Commits caches of slots x max_length positions; throws out_of_memory with figures.
  ContinuousBatch(std::shared_ptr<Model> model, std::shared_ptr<Decoder> decoder, int64_t slots, int64_t max_length);

  /// Takes sequences out, reads the prompts of new ones (each gives its first token) and decodes one more token of all the others.
  /// A sequence whose token has a `finish` is out. Throws invalid_argument, before anything changes, for an admission that cannot be.
  std::vector<DecodedToken> step(const std::vector<int64_t>& removals, std::vector<Admission> admissions, const StopFlag& stop);

 private:
  struct Sequence {
    int64_t number = 0, slot = 0, prompt_length = 0, most_tokens = 0;  // most_tokens: prompt and generated
    uint64_t hash = 0;
    std::vector<int32_t> tokens;
    SequenceOptions options;
  };

  void check(const std::vector<Admission>& admissions, int64_t places) const;
  Sequence& admit(Admission&& admission);
  void advance(const std::vector<Sequence*>& sequences, Matrix scores, std::vector<DecodedToken>& decoded);
  void advance_alike(const std::vector<Sequence*>& sequences, Matrix scores, std::vector<DecodedToken>& decoded);
  void leave(int64_t number);

  std::shared_ptr<Model> model_;
  std::shared_ptr<Decoder> decoder_;
  CachedDecoder cached_;
  std::map<int64_t, Sequence> sequences_;  // by number: the order of rows is the order of arrival
  std::vector<int64_t> free_slots_;
};

}  // namespace polypaca
