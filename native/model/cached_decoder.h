// A decoder that goes on from what it has read: prompts in, scores of the next token out, keys and values kept in between.
//
// A cache row holds the keys and values of up to `max_length` positions. Which row each position of a sequence is read from is data
// (`source`), so that sequences can share what they have in common: beams share their prompt and whatever else, and reordering them
// moves small integers, never keys and values.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "core/arena.h"
#include "model/decoder.h"
#include "model/token_choice.h"

namespace polypaca {

class CachedDecoder {
 public:
  struct Sizes {
    int64_t cache_rows = 0;    // also the most rows of a step
    int64_t max_length = 0;    // positions of a cache row
    int64_t most_chosen = 0;   // the largest `count` of choose()
  };
  /// Throws out_of_memory where the caches do not fit; `purpose` says what they are for.
  CachedDecoder(Model& model, Decoder& decoder, const Sizes& sizes, const std::string& purpose);

  struct Prompt {
    const std::vector<int32_t>* tokens;
    int64_t cache_row;
  };
  /// Runs prompts packed, a few thousand tokens at a time, into their cache rows. After each pack `scored(first, last, scores)` is given
  /// the next token's scores [last - first, V] of prompts first .. last - 1.
  void read(const std::vector<Prompt>& prompts, const StopFlag& stop, const std::function<void(size_t, size_t, Matrix)>& scored);

  /// One token each for so many rows.
  struct Rows {
    std::vector<int32_t> ids, positions, cache_rows;  // [rows]
    std::vector<int32_t> source;                      // [rows, max_length] cache row of each earlier position; empty: each row's own
  };
  /// Scores of the tokens that follow [rows, V], in the back end's memory until the next call.
  Matrix next(const Rows& rows);

  /// What the back end found in rows of scores.
  struct Choices {
    int64_t count = 0, V = 0;
    std::vector<float> log_sums;   // [rows] logsumexp of the scores as the model gave them
    std::vector<float> best;       // [rows, count] after all changes
    std::vector<int32_t> tokens;   // [rows, count]
    std::vector<float> whole;      // [rows, V] after all changes, where asked for; else empty

    RowScores row(int64_t r) const { return row(r, whole.empty() ? count : 0); }
    /// As a row needs them: its `needed` best, or, for 0, all of it.
    RowScores row(int64_t r, int64_t needed) const {
      return {log_sums[size_t(r)], best.data() + r * count, tokens.data() + r * count, needed, needed == 0 ? whole.data() + r * V : nullptr};
    }
  };
  struct Asked {
    bool log_probabilities = false;   // change log-probabilities, not scores
    float repetition_penalty = 1;     // of `changes.penalised`
    int64_t count = 1;
    bool whole = false;
  };
  /// Changes `scores` and finds the best of each of `rows` rows. The scores stay where they are: only what is asked for is copied.
  Choices choose(Matrix scores, int64_t rows, const RowChanges& changes, const Asked& asked);

  const Sizes& sizes() const { return sizes_; }

 private:
  void upload_source(const Rows& rows);
  const int32_t* upload(RowToken* to, const std::vector<RowToken>& pairs);

  Model& model_;
  Decoder& decoder_;
  Backend& backend_;
  const Sizes sizes_;
  const int64_t identity_;  // tells this cache's recorded work from another's
  int64_t most_changes_ = 0;
  std::vector<int32_t> own_rows_;  // cache rows of which source_ holds "each row's own"; empty: it holds something else
  std::unique_ptr<Arena> arena_;
  std::vector<char*> k_, v_;
  int32_t *source_ = nullptr, *cache_rows_ = nullptr, *positions_ = nullptr, *ids_ = nullptr;
  Matrix logits_;
  float *log_sums_ = nullptr, *best_ = nullptr;
  int32_t* best_tokens_ = nullptr;
  RowToken *penalised_ = nullptr, *banned_ = nullptr;
  AttentionShape shape_;
};

}  // namespace polypaca
