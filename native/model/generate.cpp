// A prompt has `beams` cache rows. Position t of a row is read through `source`, so that beams share the prompt and whatever
// they have in common, and reordering beams moves small integers, never keys and values.
#include "model/generate.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/memory.h"
#include "model/token_choice.h"

namespace polypaca {
namespace {

constexpr int64_t kPrefillTokens = 2048;  // prompts run packed, in batches of about so many tokens

uint64_t hash_of(const std::vector<int32_t>& tokens) {  // FNV-1a
  uint64_t h = 0xCBF29CE484222325ull;
  for (int32_t t : tokens) h = (h ^ uint32_t(t)) * 0x100000001B3ull;
  return h;
}

/// What the back end found in a row's scores.
struct Choice {
  float log_sum;              // logsumexp of the scores as the model gave them
  const float* best;          // the best after all changes, as many as were asked for
  const int32_t* tokens;
  const float* scores;        // [V] after all changes, where the whole row is wanted; else null
};

/// One row that is being continued.
struct Row {
  std::vector<int32_t> tokens;  // prompt and generated
  float sum = 0;                // of log-probabilities, fp32 as transformers keeps it
  std::vector<int32_t> source;  // [max_length] cache row of each position
};

/// One prompt and its rows: a single one, or the running beams.
struct Search {
  int64_t prompt = 0, prompt_length = 0;
  uint64_t hash = 0;
  std::vector<Row> rows;
  std::vector<Hypothesis> finished;  // beam search: at most num_beams, kept sorted, best first
  bool done = false;
};

class Generation {
 public:
  Generation(Model& model, Decoder& decoder, const std::vector<std::vector<int32_t>>& prompts, const GenerateOptions& options, const OnToken& on_token, const StopFlag& stop)
      : model_(model), decoder_(decoder), backend_(*model.backend), options_(options), on_token_(on_token), stop_(stop), beams_(options.num_beams) {
    check(prompts);
    for (size_t p = 0; p < prompts.size(); ++p) {
      Search s;
      s.prompt = int64_t(p);
      s.prompt_length = int64_t(prompts[p].size());
      s.hash = hash_of(prompts[p]);
      Row row;
      row.tokens = prompts[p];
      row.source.assign(size_t(max_length_), int32_t(p * size_t(beams_)));
      s.rows.push_back(std::move(row));
      searches_.push_back(std::move(s));
    }
    allocate();
  }

  std::vector<Generated> run() {
    prefill();
    for (int64_t taken = 1; taken < max_new_; ++taken) {
      check_stop(stop_);
      if (!decode()) break;
    }
    std::vector<Generated> results;
    for (Search& s : searches_) results.push_back(result(s));
    return results;
  }

 private:
  void check(const std::vector<std::vector<int32_t>>& prompts) {
    const GenerateOptions& o = options_;
    auto need = [](bool ok, const char* what) {
      if (!ok) fail(ErrorCode::invalid_argument, what);
    };
    need(!prompts.empty(), "there are no prompts");
    need(o.max_new_tokens >= 1, "maxNewTokens must be at least 1");
    need(beams_ >= 1 && beams_ <= 64, "numBeams must be 1 to 64");
    need(beams_ == 1 || o.temperature == 0, "sampling (temperature above 0) goes with one beam");
    need(2 * beams_ <= model_.spec.vocab_size, "numBeams is more than half the vocabulary");
    need(o.repetition_penalty > 0, "repetitionPenalty must be positive");
    static_assert(2 * 64 <= kMostChosen);
    need(o.temperature >= 0 && o.top_p > 0 && o.top_p <= 1 && o.top_k >= 0, "temperature must be at least 0, topP in (0, 1], topK at least 0");
    int64_t longest = 0;
    for (size_t p = 0; p < prompts.size(); ++p) {
      if (prompts[p].empty()) throw Error(ErrorCode::invalid_argument, "prompt " + std::to_string(p) + " is empty");
      for (int32_t id : prompts[p]) {
        if (id < 0 || id >= model_.spec.vocab_size) throw Error(ErrorCode::invalid_argument, "prompt " + std::to_string(p) + " holds id " + std::to_string(id) + ", the vocabulary has " + std::to_string(model_.spec.vocab_size) + " entries");
      }
      longest = std::max(longest, int64_t(prompts[p].size()));
    }
    // Sampling from more than the back end finds sorts whole rows on the host.
    const bool samples = o.temperature > 0, few = o.top_k > 0 && o.top_k <= std::min(kMostChosen, model_.spec.vocab_size);
    chosen_ = samples ? (few ? o.top_k : 0) : beams_ == 1 ? 1 : 2 * beams_;
    max_new_ = o.max_new_tokens;
    const int64_t limit = model_.spec.max_positions;
    if (limit > 0 && longest >= limit) throw Error(ErrorCode::invalid_argument, "a prompt of " + std::to_string(longest) + " tokens leaves no room below the model's max_position_embeddings, " + std::to_string(limit));
    if (limit > 0) max_new_ = std::min(max_new_, limit - longest);
    max_length_ = longest + max_new_;
  }

  void allocate() {
    const int64_t rows = int64_t(searches_.size()) * beams_, head = model_.spec.kv_size(), width = size_of(model_.options.dtype);
    const int64_t cache = rows * max_length_ * head * width, logits = rows * model_.spec.vocab_size * 4;
    // A row's tokens are penalised at most once each, and ban at most one n-gram's end each, and EOS.
    most_changes_ = rows * (max_length_ + 1);
    const int64_t tables = rows * (max_length_ + 4 + 2 * chosen_) * 4 + 2 * most_changes_ * int64_t(sizeof(RowToken));
    require_memory(backend_.memory(), 2 * cache * model_.spec.layers + tables + logits, "generation for " + std::to_string(searches_.size()) + " prompts of up to " + std::to_string(max_length_) + " tokens", model_.options.allow_overcommit);
    auto lay_out = [&](Arena& arena) {
      k_.clear();
      v_.clear();
      for (int64_t l = 0; l < model_.spec.layers; ++l) {
        k_.push_back(arena.take<char>(cache));
        v_.push_back(arena.take<char>(cache));
      }
      source_ = arena.take<int32_t>(rows * max_length_);
      cache_rows_ = arena.take<int32_t>(rows);
      positions_ = arena.take<int32_t>(rows);
      ids_ = arena.take<int32_t>(rows);
      logits_ = arena.matrix(rows, model_.spec.vocab_size, DType::f32);
      log_sums_ = arena.take<float>(rows);
      best_ = arena.take<float>(rows * chosen_);
      best_tokens_ = arena.take<int32_t>(rows * chosen_);
      penalised_ = arena.take<RowToken>(most_changes_);
      banned_ = arena.take<RowToken>(most_changes_);
    };
    Arena counting;
    lay_out(counting);
    arena_ = std::make_unique<Arena>(model_.backend, counting.used());
    lay_out(*arena_);
    shape_ = model_.attention_shape(max_length_);
  }

  /// Runs the prompts packed, fills row p * beams of the caches, and decides every first token.
  void prefill() {
    const int64_t V = model_.spec.vocab_size, C = model_.spec.hidden_size;
    for (size_t first = 0; first < searches_.size();) {
      Batch batch;
      size_t last = first;
      while (last < searches_.size() && (last == first || int64_t(batch.input_ids.size()) + searches_[last].prompt_length <= kPrefillTokens)) {
        const std::vector<int32_t>& tokens = searches_[last].rows[0].tokens;
        batch.input_ids.insert(batch.input_ids.end(), tokens.begin(), tokens.end());
        batch.sequence_lengths.push_back(int32_t(tokens.size()));
        ++last;
      }
      const BatchTables tables = make_tables(batch, V, model_.spec.max_positions);
      Workspace& ws = decoder_.workspace(WorkspaceKind::forward, std::max<int64_t>(tables.N, int64_t(searches_.size()) * beams_));
      decoder_.upload(ws, batch.input_ids, tables);
      decoder_.forward(ws, tables, {}, stop_, [&](int64_t layer, const LayerActivations& a) {
        const Decoder::Qkv qkv = decoder_.split(a.qkv);
        for (size_t p = first; p < last; ++p) {
          const int64_t at = tables.cu_seqlens[p - first];
          backend_.cache_prompt(k_[size_t(layer)], v_[size_t(layer)], model_.options.dtype, qkv.k, qkv.v, at, searches_[p].prompt_length, int64_t(p) * beams_, max_length_, shape_);
        }
      });
      std::vector<int32_t> ends;
      for (size_t i = 1; i < tables.cu_seqlens.size(); ++i) ends.push_back(tables.cu_seqlens[i] - 1);
      backend_.copy_in(ws.target_rows, ends.data(), int64_t(ends.size()) * 4);
      backend_.gather_rows(ws.head_x, ws.x_out, ws.target_rows, int64_t(ends.size()), C);
      const Matrix out = logits_.at(int64_t(first), 0);
      decoder_.head_rows(ws, ws.head_x, int64_t(ends.size()), out);
      std::vector<Search*> searches;
      for (size_t p = first; p < last; ++p) searches.push_back(&searches_[p]);
      advance(searches, out);
      first = last;
    }
  }

  /// One more token for every row that is still running; false when there is none.
  bool decode() {
    std::vector<int32_t> ids, positions, cache_rows, source;
    std::vector<Search*> running;
    for (Search& s : searches_) {
      if (s.done) continue;
      running.push_back(&s);
      for (size_t b = 0; b < s.rows.size(); ++b) {
        Row& row = s.rows[b];
        ids.push_back(row.tokens.back());
        positions.push_back(int32_t(row.tokens.size()) - 1);
        cache_rows.push_back(int32_t(s.prompt * beams_ + int64_t(b)));
        row.source[row.tokens.size() - 1] = cache_rows.back();
        source.insert(source.end(), row.source.begin(), row.source.end());
      }
    }
    const int64_t rows = int64_t(ids.size());
    if (rows == 0) return false;
    backend_.copy_in(ids_, ids.data(), rows * 4);
    backend_.copy_in(positions_, positions.data(), rows * 4);
    backend_.copy_in(cache_rows_, cache_rows.data(), rows * 4);
    backend_.copy_in(source_, source.data(), rows * max_length_ * 4);
    Workspace& ws = decoder_.workspace(WorkspaceKind::forward, rows);
    const Decoder::Attend attend = [&](int64_t layer, const LayerActivations& a) {
      const Decoder::Qkv qkv = decoder_.split(a.qkv);
      backend_.attention_decode({a.attention.data, a.attention.dtype, a.attention.ld, model_.spec.head_dim}, qkv.q, qkv.k, qkv.v, k_[size_t(layer)], v_[size_t(layer)], model_.options.dtype, source_, cache_rows_, positions_, rows, max_length_, shape_);
    };
    backend_.run_recorded({kDecodeRecord, rows, max_length_}, [&] {
      decoder_.embed(ws, ids_, rows, ws.layers[0].x_in);
      for (int64_t l = 0; l < model_.spec.layers; ++l) decoder_.forward_layer(ws, l, rows, {}, attend, true);
      decoder_.head_rows(ws, ws.x_out, rows, logits_);
    });
    advance(running, logits_);
    return true;
  }

  /// Decides the next token of each search from the scores of its rows, which lie below one another in `scores`. The scores stay where
  /// they are: the back end finds the few that matter.
  void advance(const std::vector<Search*>& searches, const Matrix& scores) {
    const int64_t V = model_.spec.vocab_size;
    int64_t rows = 0;
    RowChanges changes;
    for (const Search* s : searches) {
      for (const Row& row : s->rows) add_changes(changes, int32_t(rows++), row.tokens, s->prompt_length, V, options_);
    }
    ScoreChanges asked;
    asked.log_probabilities = beams_ > 1;  // transformers changes beams' log-probabilities, and a single row's scores
    asked.repetition_penalty = options_.repetition_penalty;
    asked.penalised = upload(penalised_, changes.penalised), asked.penalised_count = int64_t(changes.penalised.size());
    asked.banned = upload(banned_, changes.banned), asked.banned_count = int64_t(changes.banned.size());
    backend_.choose_tokens(log_sums_, best_, best_tokens_, scores, asked, rows, V, chosen_);
    std::vector<float> log_sums(static_cast<size_t>(rows)), best(size_t(rows * chosen_)), whole(size_t(chosen_ == 0 ? rows * V : 0));
    std::vector<int32_t> tokens(best.size());
    if (chosen_ == 0) backend_.copy_out(whole.data(), scores.data, rows * V * 4);
    backend_.copy_out(best.data(), best_, rows * chosen_ * 4);
    backend_.copy_out(tokens.data(), best_tokens_, rows * chosen_ * 4);
    backend_.copy_out(log_sums.data(), log_sums_, rows * 4);
    int64_t at = 0;
    for (Search* s : searches) {
      std::vector<Choice> choices;
      for (size_t b = 0; b < s->rows.size(); ++b, ++at) {
        if (!std::isfinite(log_sums[size_t(at)])) fail(ErrorCode::not_finite, "the model's scores for the next token are not finite. Are the weights whole, and the adapter this model's?");
        choices.push_back({log_sums[size_t(at)], best.data() + at * chosen_, tokens.data() + at * chosen_, chosen_ == 0 ? whole.data() + at * V : nullptr});
      }
      beams_ == 1 ? advance_single(*s, choices[0]) : advance_beams(*s, choices);
    }
  }

  const int32_t* upload(RowToken* to, const std::vector<RowToken>& pairs) {
    if (!pairs.empty()) backend_.copy_in(to, pairs.data(), int64_t(pairs.size() * sizeof(RowToken)));
    return reinterpret_cast<const int32_t*>(to);
  }

  void advance_single(Search& s, const Choice& choice) {
    Row& row = s.rows[0];
    const int64_t index = int64_t(row.tokens.size()) - s.prompt_length;
    Candidate chosen;
    if (options_.temperature == 0) {
      chosen = {choice.best[0], choice.tokens[0]};
    } else {
      std::vector<Candidate> order;
      if (choice.scores) order = sorted_row(choice.scores, model_.spec.vocab_size);
      if (choice.scores && options_.top_k > 0 && options_.top_k < int64_t(order.size())) order.resize(size_t(options_.top_k));
      for (int64_t i = 0; i < chosen_ && choice.tokens[i] >= 0; ++i) order.push_back({choice.best[i], choice.tokens[i]});
      chosen = sample(order, options_, s.hash, index);
    }
    row.sum += unpenalised(chosen, row.tokens) - choice.log_sum;
    row.tokens.push_back(chosen.token);
    if (on_token_) on_token_(s.prompt, chosen.token);
    if (chosen.token == options_.eos_token_id || index + 1 == max_new_) s.done = true;
  }

  /// The score as the model gave it: what is reported is the model's probability, not the processors'.
  float unpenalised(const Candidate& c, const std::vector<int32_t>& tokens) const {
    const float penalty = options_.repetition_penalty;
    if (penalty == 1.0f || std::find(tokens.begin(), tokens.end(), c.token) == tokens.end()) return c.score;
    return c.score < 0 ? c.score / penalty : c.score * penalty;
  }

  struct BeamCandidate {
    float score;
    int32_t token;
    size_t beam;
  };

  /// transformers' BeamSearchScorer: 2 * beams best candidates; EOS among the first `beams` of them finishes a hypothesis.
  void advance_beams(Search& s, const std::vector<Choice>& choices) {
    const int64_t length = int64_t(s.rows[0].tokens.size()) + 1 - s.prompt_length;
    std::vector<BeamCandidate> candidates;
    for (size_t b = 0; b < s.rows.size(); ++b) {
      for (int64_t i = 0; i < chosen_ && choices[b].tokens[i] >= 0; ++i) candidates.push_back({choices[b].best[i] + s.rows[b].sum, choices[b].tokens[i], b});
    }
    std::stable_sort(candidates.begin(), candidates.end(), [](const BeamCandidate& a, const BeamCandidate& b) { return a.score > b.score; });
    candidates.resize(size_t(std::min<int64_t>(2 * beams_, int64_t(candidates.size()))));
    std::vector<Row> next;
    for (size_t rank = 0; rank < candidates.size() && int64_t(next.size()) < beams_; ++rank) {
      const BeamCandidate& c = candidates[rank];
      const Row& parent = s.rows[c.beam];
      if (c.token == options_.eos_token_id) {
        if (int64_t(rank) < beams_) finish(s, parent, c.token, c.score, length);
        continue;
      }
      Row row = parent;
      row.tokens.push_back(c.token);
      row.sum = c.score;
      next.push_back(std::move(row));
    }
    s.rows = std::move(next);
    const double attainable = double(candidates[0].score) / std::pow(double(length), double(options_.length_penalty));
    if (int64_t(s.finished.size()) == beams_ && s.finished.back().score >= attainable) {
      s.done = true;
    } else if (length == max_new_) {
      for (const Row& row : s.rows) finish(s, row, -1, row.sum, length);
      s.done = true;
    }
  }

  void finish(Search& s, const Row& row, int32_t token, float sum, int64_t length) {
    Hypothesis h;
    h.tokens.assign(row.tokens.begin() + s.prompt_length, row.tokens.end());
    if (token >= 0) h.tokens.push_back(token);
    h.score = double(sum) / std::pow(double(length), double(options_.length_penalty));
    auto at = std::find_if(s.finished.begin(), s.finished.end(), [&](const Hypothesis& other) { return h.score > other.score; });
    s.finished.insert(at, std::move(h));
    if (int64_t(s.finished.size()) > beams_) s.finished.pop_back();
  }

  Generated result(Search& s) const {
    Generated g;
    if (beams_ == 1) {
      g.best.tokens.assign(s.rows[0].tokens.begin() + s.prompt_length, s.rows[0].tokens.end());
      g.best.score = s.rows[0].sum;
    } else {
      g.beams = s.finished;
      g.best = s.finished.front();
    }
    g.stopped = !g.best.tokens.empty() && g.best.tokens.back() == options_.eos_token_id;
    return g;
  }

  Model& model_;
  Decoder& decoder_;
  Backend& backend_;
  const GenerateOptions& options_;
  const OnToken& on_token_;
  const StopFlag& stop_;
  const int64_t beams_;
  int64_t max_new_ = 0, max_length_ = 0;
  int64_t chosen_ = 0;  // best scores of a row that decide; 0: the whole row
  int64_t most_changes_ = 0;
  std::vector<Search> searches_;
  std::unique_ptr<Arena> arena_;
  std::vector<char*> k_, v_;
  int32_t *source_ = nullptr, *cache_rows_ = nullptr, *positions_ = nullptr, *ids_ = nullptr;
  Matrix logits_;
  float *log_sums_ = nullptr, *best_ = nullptr;
  int32_t* best_tokens_ = nullptr;
  RowToken *penalised_ = nullptr, *banned_ = nullptr;
  AttentionShape shape_;
};

}  // namespace

std::vector<Generated> generate(Model& model, Decoder& decoder, const std::vector<std::vector<int32_t>>& prompts, const GenerateOptions& options, const OnToken& on_token, const StopFlag& stop) {
  return Generation(model, decoder, prompts, options, on_token, stop).run();
}

}  // namespace polypaca
