#include "model/batch.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace polypaca {
namespace {

constexpr int64_t kFillerLength = 64;  // attention's cost grows with the square of a sequence's length

int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace

PaddedSizes padded_sizes(const BatchTables& tables, int64_t capacity) {
  const int64_t step = std::max<int64_t>(1, capacity / 16);
  PaddedSizes sizes;
  sizes.N = std::min(capacity, rounded_up(tables.N, step));
  sizes.targets = std::min(sizes.N, rounded_up(int64_t(tables.targets.size()), step));
  const int64_t sequences = tables.S + (sizes.N - tables.N + kFillerLength - 1) / kFillerLength;
  for (sizes.S = 1; sizes.S < sequences;) sizes.S *= 2;
  return sizes;
}

void pad_batch(std::vector<int32_t>& input_ids, BatchTables& t, const PaddedSizes& sizes) {
  input_ids.resize(size_t(sizes.N), 0);
  t.examples.resize(size_t(sizes.N), 0);
  while (t.N < sizes.N) {
    const int64_t length = std::min(kFillerLength, sizes.N - t.N);
    for (int64_t i = 0; i < length; ++i) t.positions.push_back(int32_t(i));
    t.N += length;
    t.longest = std::max(t.longest, length);
    t.cu_seqlens.push_back(int32_t(t.N));
    ++t.S;
  }
  t.cu_seqlens.resize(size_t(sizes.S + 1), int32_t(t.N));
  t.S = sizes.S;
  // Rows without a target, anywhere, so that rows still ascend.
  int64_t missing = sizes.targets - int64_t(t.targets.size());
  std::vector<int32_t> rows, targets;
  size_t next = 0;
  for (int64_t row = 0; row < t.N; ++row) {
    if (next < t.targets.size() && t.target_rows[next] == row) {
      rows.push_back(int32_t(row));
      targets.push_back(t.targets[next++]);
    } else if (missing > 0) {
      --missing;
      rows.push_back(int32_t(row));
      targets.push_back(-1);
    }
  }
  t.target_rows = std::move(rows);
  t.targets = std::move(targets);
}

BatchTables make_tables(const Batch& batch, int64_t vocab_size, int64_t max_positions) {
  BatchTables t;
  t.N = int64_t(batch.input_ids.size());
  t.S = int64_t(batch.sequence_lengths.size());
  if (!batch.labels.empty() && int64_t(batch.labels.size()) != t.N) {
    throw Error(ErrorCode::shape_mismatch, "labels has " + std::to_string(batch.labels.size()) + " entries, inputIds " + std::to_string(t.N));
  }
  if (!batch.example_indices.empty() && int64_t(batch.example_indices.size()) != t.S) {
    throw Error(ErrorCode::shape_mismatch, "exampleIndices has " + std::to_string(batch.example_indices.size()) + " entries, sequenceLengths " + std::to_string(t.S));
  }
  for (int64_t i = 0; i < t.N; ++i) {
    int32_t id = batch.input_ids[size_t(i)];
    if (id < 0 || id >= vocab_size) {
      throw Error(ErrorCode::invalid_argument, "inputIds[" + std::to_string(i) + "] is " + std::to_string(id) + ", the vocabulary has " + std::to_string(vocab_size) + " entries");
    }
  }
  t.cu_seqlens.push_back(0);
  for (int64_t s = 0; s < t.S; ++s) {
    const int64_t length = batch.sequence_lengths[size_t(s)], first = t.cu_seqlens.back();
    if (length < 1 || first + length > t.N) {
      throw Error(ErrorCode::shape_mismatch, "sequenceLengths[" + std::to_string(s) + "] is " + std::to_string(length) + ", but " + std::to_string(t.N - first) + " tokens are left");
    }
    if (max_positions > 0 && length > max_positions) {
      throw Error(ErrorCode::invalid_argument, "sequence " + std::to_string(s) + " has " + std::to_string(length) + " tokens, the model's max_position_embeddings is " + std::to_string(max_positions) + ". Use a smaller --cutoff.");
    }
    t.longest = std::max(t.longest, length);
    const int32_t example = batch.example_indices.empty() ? int32_t(s) : batch.example_indices[size_t(s)];
    for (int64_t i = 0; i < length; ++i) {
      t.positions.push_back(int32_t(i));
      t.examples.push_back(example);
      if (batch.labels.empty() || i == 0) continue;
      const int32_t label = batch.labels[size_t(first + i)];
      if (label == kIgnoredLabel) continue;
      if (label < 0 || label >= vocab_size) {
        throw Error(ErrorCode::invalid_argument, "labels[" + std::to_string(first + i) + "] is " + std::to_string(label) + "; expected -100 or an id below " + std::to_string(vocab_size));
      }
      t.target_rows.push_back(int32_t(first + i - 1));
      t.targets.push_back(label);
    }
    t.cu_seqlens.push_back(int32_t(first + length));
  }
  if (t.cu_seqlens.back() != t.N) {
    throw Error(ErrorCode::shape_mismatch, "sequenceLengths sum to " + std::to_string(t.cu_seqlens.back()) + ", inputIds has " + std::to_string(t.N));
  }
  return t;
}

}  // namespace polypaca
