// A packed micro batch on the host: sequences end to end, no padding.
#pragma once
#include <cstdint>
#include <vector>

namespace polypaca {

constexpr int32_t kIgnoredLabel = -100;

struct Batch {
  std::vector<int32_t> input_ids, labels;   // [N]; labels aligned with their input token, may be empty (no loss)
  std::vector<int32_t> sequence_lengths;    // [S]
  std::vector<int32_t> example_indices;     // [S]; empty: 0, 1, 2, ...
};

/// What the passes need of a batch, derived once on the host.
struct BatchTables {
  std::vector<int32_t> cu_seqlens, positions, examples;  // [S + 1], [N], [N]
  std::vector<int32_t> target_rows, targets;             // rows of the head that have a target, and the target
  int64_t N = 0, S = 0, longest = 0;
};

/// Checks lengths, ids and labels against the vocabulary (0: unchecked positions). Row t predicts labels[t + 1] of its sequence.
/// Throws shape_mismatch or invalid_argument naming the position.
BatchTables make_tables(const Batch& batch, int64_t vocab_size, int64_t max_positions);

/// Sizes that batches are padded to where work is recorded: few, so that few records serve a run.
struct PaddedSizes {
  int64_t N = 0, S = 0, targets = 0;
};

/// The next sixteenth of `capacity` tokens, for tokens and for rows of the head; sequences to a power of two.
PaddedSizes padded_sizes(const BatchTables& tables, int64_t capacity);

/// Fills the batch up without changing what is learnt: tokens with id 0 in short sequences of their own, empty sequences, and rows of the
/// head with the ignored label. `input_ids` grows with it.
void pad_batch(std::vector<int32_t>& input_ids, BatchTables& tables, const PaddedSizes& sizes);

}  // namespace polypaca
