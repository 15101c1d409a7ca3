#include "model/cached_decoder.h"

#include <algorithm>
#include <atomic>

#include "core/error.h"
#include "core/memory.h"

namespace polypaca {
namespace {

constexpr int64_t kPackTokens = 2048;  // prompts run packed, in batches of about so many tokens

int64_t next_identity() {
  static std::atomic<int64_t> next{0};
  return next++;
}

}  // namespace

CachedDecoder::CachedDecoder(Model& model, Decoder& decoder, const Sizes& sizes, const std::string& purpose)
    : model_(model), decoder_(decoder), backend_(*model.backend), sizes_(sizes), identity_(next_identity()) {
  const int64_t rows = sizes.cache_rows, length = sizes.max_length, chosen = sizes.most_chosen, layers = model.spec.layers;
  const int64_t cache = rows * length * model.spec.kv_size() * size_of(model.options.dtype), logits = rows * model.spec.vocab_size * 4;
  // A row's tokens are penalised at most once each, and ban at most one n-gram's end each, and EOS.
  most_changes_ = rows * (length + 1);
  const int64_t tables = rows * (length + 4 + 2 * chosen) * 4 + 2 * most_changes_ * int64_t(sizeof(RowToken));
  require_memory(backend_.memory(), 2 * cache * layers + tables + logits, purpose, model.options.allow_overcommit);
  auto lay_out = [&](Arena& arena) {
    k_.clear();
    v_.clear();
    for (int64_t l = 0; l < layers; ++l) {
      k_.push_back(arena.take<char>(cache));
      v_.push_back(arena.take<char>(cache));
    }
    source_ = arena.take<int32_t>(rows * length);
    cache_rows_ = arena.take<int32_t>(rows);
    positions_ = arena.take<int32_t>(rows);
    ids_ = arena.take<int32_t>(rows);
    logits_ = arena.matrix(rows, model.spec.vocab_size, DType::f32);
    log_sums_ = arena.take<float>(rows);
    best_ = arena.take<float>(rows * chosen);
    best_tokens_ = arena.take<int32_t>(rows * chosen);
    penalised_ = arena.take<RowToken>(most_changes_);
    banned_ = arena.take<RowToken>(most_changes_);
  };
  Arena counting;
  lay_out(counting);
  arena_ = std::make_unique<Arena>(model.backend, counting.used());
  lay_out(*arena_);
}

void CachedDecoder::read(const std::vector<Prompt>& prompts, const StopFlag& stop, const std::function<void(size_t, size_t, Matrix)>& scored) {
  const int64_t V = model_.spec.vocab_size, C = model_.spec.hidden_size;
  shape_ = model_.attention_shape(sizes_.max_length);
  for (size_t first = 0; first < prompts.size();) {
    Batch batch;
    size_t last = first;
    while (last < prompts.size() && (last == first || int64_t(batch.input_ids.size() + prompts[last].tokens->size()) <= kPackTokens)) {
      const std::vector<int32_t>& tokens = *prompts[last].tokens;
      batch.input_ids.insert(batch.input_ids.end(), tokens.begin(), tokens.end());
      batch.sequence_lengths.push_back(int32_t(tokens.size()));
      ++last;
    }
    const BatchTables tables = make_tables(batch, V, model_.spec.max_positions);
    Workspace& ws = decoder_.workspace(WorkspaceKind::forward, std::max(tables.N, sizes_.cache_rows));
    decoder_.upload(ws, batch.input_ids, tables);
    decoder_.forward(ws, tables, {}, stop, [&](int64_t layer, const LayerActivations& a) {
      const Decoder::Qkv qkv = decoder_.split(a.qkv);
      for (size_t p = first; p < last; ++p) {
        const int64_t at = tables.cu_seqlens[p - first], length = int64_t(prompts[p].tokens->size());
        backend_.cache_prompt(k_[size_t(layer)], v_[size_t(layer)], model_.options.dtype, qkv.k, qkv.v, at, length, prompts[p].cache_row, sizes_.max_length, shape_);
      }
    });
    std::vector<int32_t> ends;
    for (size_t i = 1; i < tables.cu_seqlens.size(); ++i) ends.push_back(tables.cu_seqlens[i] - 1);
    backend_.copy_in(ws.target_rows, ends.data(), int64_t(ends.size()) * 4);
    backend_.gather_rows(ws.head_x, ws.x_out, ws.target_rows, int64_t(ends.size()), C);
    decoder_.head_rows(ws, ws.head_x, int64_t(ends.size()), logits_);
    scored(first, last, logits_);
    first = last;
  }
}

Matrix CachedDecoder::next(const Rows& rows) {
  const int64_t count = int64_t(rows.ids.size());
  shape_ = model_.attention_shape(sizes_.max_length);
  backend_.copy_in(ids_, rows.ids.data(), count * 4);
  backend_.copy_in(positions_, rows.positions.data(), count * 4);
  backend_.copy_in(cache_rows_, rows.cache_rows.data(), count * 4);
  upload_source(rows);
  Workspace& ws = decoder_.workspace(WorkspaceKind::forward, std::max(count, sizes_.cache_rows));
  const Decoder::Attend attend = [&](int64_t layer, const LayerActivations& a) {
    const Decoder::Qkv qkv = decoder_.split(a.qkv);
    backend_.attention_decode({a.attention.data, a.attention.dtype, a.attention.ld, model_.spec.head_dim}, qkv.q, qkv.k, qkv.v, k_[size_t(layer)], v_[size_t(layer)], model_.options.dtype, source_, cache_rows_, positions_, count, sizes_.max_length, shape_);
  };
  backend_.run_recorded({kDecodeRecord, count, identity_, model_.active_adapter()}, [&] {
    decoder_.embed(ws, ids_, count, ws.layers[0].x_in);
    for (int64_t l = 0; l < model_.spec.layers; ++l) decoder_.forward_layer(ws, l, count, {}, attend, true);
    decoder_.head_rows(ws, ws.x_out, count, logits_);
  });
  return logits_;
}

/// A batch of single rows changes only where a sequence joins or leaves, and its table with it.
void CachedDecoder::upload_source(const Rows& rows) {
  if (!rows.source.empty()) {
    own_rows_.clear();
    return backend_.copy_in(source_, rows.source.data(), int64_t(rows.source.size()) * 4);
  }
  if (own_rows_ == rows.cache_rows) return;
  std::vector<int32_t> own;
  for (int32_t row : rows.cache_rows) own.insert(own.end(), size_t(sizes_.max_length), row);
  backend_.copy_in(source_, own.data(), int64_t(own.size()) * 4);
  own_rows_ = rows.cache_rows;
}

CachedDecoder::Choices CachedDecoder::choose(Matrix scores, int64_t rows, const RowChanges& changes, const Asked& asked) {
  const int64_t V = model_.spec.vocab_size;
  if (asked.count > sizes_.most_chosen || int64_t(std::max(changes.penalised.size(), changes.banned.size())) > most_changes_) fail(ErrorCode::internal, "more is asked of a row of scores than was planned");
  ScoreChanges change;
  change.log_probabilities = asked.log_probabilities;
  change.repetition_penalty = asked.repetition_penalty;
  change.penalised = upload(penalised_, changes.penalised), change.penalised_count = int64_t(changes.penalised.size());
  change.banned = upload(banned_, changes.banned), change.banned_count = int64_t(changes.banned.size());
  backend_.choose_tokens(log_sums_, best_, best_tokens_, scores, change, rows, V, asked.count);
  Choices c;
  c.count = asked.count;
  c.V = V;
  c.log_sums.resize(size_t(rows));
  c.best.resize(size_t(rows * asked.count));
  c.tokens.resize(c.best.size());
  c.whole.resize(size_t(asked.whole ? rows * V : 0));
  if (asked.whole) backend_.copy_out(c.whole.data(), scores.data, rows * V * 4);
  backend_.copy_out(c.best.data(), best_, rows * asked.count * 4);
  backend_.copy_out(c.tokens.data(), best_tokens_, rows * asked.count * 4);
  backend_.copy_out(c.log_sums.data(), log_sums_, rows * 4);
  return c;
}

const int32_t* CachedDecoder::upload(RowToken* to, const std::vector<RowToken>& pairs) {
  if (!pairs.empty()) backend_.copy_in(to, pairs.data(), int64_t(pairs.size() * sizeof(RowToken)));
  return reinterpret_cast<const int32_t*>(to);
}

}  // namespace polypaca
