// A prompt has `beams` cache rows: its keys and values lie in the first, the others begin with what each beam has of its own.
#include "model/generate.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "model/cached_decoder.h"

namespace polypaca {
namespace {

/// One row that is being continued.
struct Row {
  std::vector<int32_t> tokens;  // prompt and generated
  float sum = 0;                // of log-probabilities, fp32 as transformers keeps it
  std::vector<int32_t> source;  // beams: [max_length] cache row of each position
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
      : model_(model), options_(options), on_token_(on_token), stop_(stop), beams_(options.num_beams) {
    check(prompts);
    for (size_t p = 0; p < prompts.size(); ++p) {
      Search s;
      s.prompt = int64_t(p);
      s.prompt_length = int64_t(prompts[p].size());
      s.hash = hash_of_prompt(prompts[p]);
      Row row;
      row.tokens = prompts[p];
      if (beams_ > 1) row.source.assign(size_t(max_length_), int32_t(p * size_t(beams_)));
      s.rows.push_back(std::move(row));
      searches_.push_back(std::move(s));
    }
    const std::string purpose = "generation for " + std::to_string(searches_.size()) + " prompts of up to " + std::to_string(max_length_) + " tokens";
    cached_ = std::make_unique<CachedDecoder>(model, decoder, CachedDecoder::Sizes{int64_t(searches_.size()) * beams_, max_length_, chosen_}, purpose);
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
    static_assert(2 * 64 <= kMostChosen);
    check_choice(o);
    int64_t longest = 0;
    for (size_t p = 0; p < prompts.size(); ++p) {
      check_prompt(prompts[p], model_.spec.vocab_size, "prompt " + std::to_string(p));
      longest = std::max(longest, int64_t(prompts[p].size()));
    }
    chosen_ = beams_ == 1 ? scores_needed(o, model_.spec.vocab_size) : 2 * beams_;
    max_new_ = o.max_new_tokens;
    const int64_t limit = model_.spec.max_positions;
    if (limit > 0 && longest >= limit) throw Error(ErrorCode::invalid_argument, "a prompt of " + std::to_string(longest) + " tokens leaves no room below the model's max_position_embeddings, " + std::to_string(limit));
    if (limit > 0) max_new_ = std::min(max_new_, limit - longest);
    max_length_ = longest + max_new_;
  }

  /// Reads the prompts into the first cache row of each, and decides every first token.
  void prefill() {
    std::vector<CachedDecoder::Prompt> prompts;
    for (const Search& s : searches_) prompts.push_back({&s.rows[0].tokens, s.prompt * beams_});
    cached_->read(prompts, stop_, [&](size_t first, size_t last, Matrix scores) {
      std::vector<Search*> searches;
      for (size_t p = first; p < last; ++p) searches.push_back(&searches_[p]);
      advance(searches, scores);
    });
  }

  /// One more token for every row that is still running; false when there is none.
  bool decode() {
    CachedDecoder::Rows rows;
    std::vector<Search*> running;
    for (Search& s : searches_) {
      if (s.done) continue;
      running.push_back(&s);
      for (size_t b = 0; b < s.rows.size(); ++b) {
        Row& row = s.rows[b];
        rows.ids.push_back(row.tokens.back());
        rows.positions.push_back(int32_t(row.tokens.size()) - 1);
        rows.cache_rows.push_back(int32_t(s.prompt * beams_ + int64_t(b)));
        if (beams_ == 1) continue;
        row.source[row.tokens.size() - 1] = rows.cache_rows.back();
        rows.source.insert(rows.source.end(), row.source.begin(), row.source.end());
      }
    }
    if (running.empty()) return false;
    advance(running, cached_->next(rows));
    return true;
  }

  /// Decides the next token of each search from the scores of its rows, which lie below one another in `scores`.
  void advance(const std::vector<Search*>& searches, const Matrix& scores) {
    int64_t rows = 0;
    RowChanges changes;
    for (const Search* s : searches) {
      for (const Row& row : s->rows) add_changes(changes, int32_t(rows++), row.tokens, s->prompt_length, model_.spec.vocab_size, options_);
    }
    // transformers changes beams' log-probabilities, and a single row's scores.
    const CachedDecoder::Choices found = cached_->choose(scores, rows, changes, {beams_ > 1, options_.repetition_penalty, chosen_, chosen_ == 0});
    int64_t at = 0;
    for (Search* s : searches) {
      std::vector<RowScores> found_rows;
      for (size_t b = 0; b < s->rows.size(); ++b) found_rows.push_back(found.row(at++));
      beams_ == 1 ? advance_single(*s, found_rows[0]) : advance_beams(*s, found_rows);
    }
  }

  void advance_single(Search& s, const RowScores& found) {
    Row& row = s.rows[0];
    const ChosenToken chosen = next_token(found, row.tokens, s.prompt_length, s.hash, model_.spec.vocab_size, options_);
    row.sum += chosen.log_probability;
    row.tokens.push_back(chosen.token);
    if (on_token_) on_token_(s.prompt, chosen.token);
    if (chosen.token == options_.eos_token_id || int64_t(row.tokens.size()) - s.prompt_length == max_new_) s.done = true;
  }

  struct BeamCandidate {
    float score;
    int32_t token;
    size_t beam;
  };

  /// transformers' BeamSearchScorer: 2 * beams best candidates; EOS among the first `beams` of them finishes a hypothesis.
  void advance_beams(Search& s, const std::vector<RowScores>& found) {
    const int64_t length = int64_t(s.rows[0].tokens.size()) + 1 - s.prompt_length;
    std::vector<BeamCandidate> candidates;
    for (size_t b = 0; b < s.rows.size(); ++b) {
      check_finite(found[b].log_sum);
      for (int64_t i = 0; i < found[b].count && found[b].tokens[i] >= 0; ++i) candidates.push_back({found[b].best[i] + s.rows[b].sum, found[b].tokens[i], b});
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
  const GenerateOptions& options_;
  const OnToken& on_token_;
  const StopFlag& stop_;
  const int64_t beams_;
  int64_t max_new_ = 0, max_length_ = 0;
  int64_t chosen_ = 0;  // best scores of a row that decide; 0: the whole row
  std::vector<Search> searches_;
  std::unique_ptr<CachedDecoder> cached_;
};

}  // namespace

std::vector<Generated> generate(Model& model, Decoder& decoder, const std::vector<std::vector<int32_t>>& prompts, const GenerateOptions& options, const OnToken& on_token, const StopFlag& stop) {
  return Generation(model, decoder, prompts, options, on_token, stop).run();
}

}  // namespace polypaca
