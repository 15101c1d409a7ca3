#include "model/continuous_batch.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace polypaca {
namespace {

/// Gives the model back with the adapter that it had.
class AdapterScope {
 public:
  explicit AdapterScope(Model& model) : model_(model), before_(model.adapter_name()) {}
  ~AdapterScope() { model_.activate_adapter(before_); }

 private:
  Model& model_;
  const std::string before_;
};

}  // namespace

ContinuousBatch::ContinuousBatch(std::shared_ptr<Model> model, std::shared_ptr<Decoder> decoder, int64_t slots, int64_t max_length)
    : model_(std::move(model)),
      decoder_(std::move(decoder)),
      cached_(*model_, *decoder_, {slots, max_length, std::min(kMostChosen, model_->spec.vocab_size)}, "caches of " + std::to_string(slots) + " sequences of up to " + std::to_string(max_length) + " tokens") {
  for (int64_t slot = slots; slot-- > 0;) free_slots_.push_back(slot);
}

std::vector<DecodedToken> ContinuousBatch::step(const std::vector<int64_t>& removals, std::vector<Admission> admissions, const StopFlag& stop) {
  const auto leaving = std::count_if(removals.begin(), removals.end(), [this](int64_t number) { return sequences_.count(number) > 0; });
  check(admissions, int64_t(free_slots_.size()) + leaving);
  for (int64_t number : removals) leave(number);

  const AdapterScope scope(*model_);
  std::map<std::string, std::vector<Sequence*>> running, arriving;  // by adapter: its passes are its own
  for (auto& [number, sequence] : sequences_) running[sequence.options.adapter].push_back(&sequence);
  for (Admission& admission : admissions) {
    Sequence& sequence = admit(std::move(admission));
    arriving[sequence.options.adapter].push_back(&sequence);
  }
  std::vector<DecodedToken> decoded;
  for (auto& [adapter, sequences] : arriving) {
    model_->activate_adapter(adapter);
    std::vector<CachedDecoder::Prompt> prompts;
    for (const Sequence* s : sequences) prompts.push_back({&s->tokens, s->slot});
    cached_.read(prompts, stop, [&](size_t first, size_t last, Matrix scores) {
      advance({sequences.begin() + ptrdiff_t(first), sequences.begin() + ptrdiff_t(last)}, scores, decoded);
    });
  }
  for (auto& [adapter, sequences] : running) {
    model_->activate_adapter(adapter);
    // Rows that choose alike lie together.
    std::stable_sort(sequences.begin(), sequences.end(), [](const Sequence* a, const Sequence* b) { return a->options.decoding.repetition_penalty < b->options.decoding.repetition_penalty; });
    CachedDecoder::Rows rows;
    for (const Sequence* s : sequences) {
      rows.ids.push_back(s->tokens.back());
      rows.positions.push_back(int32_t(s->tokens.size()) - 1);
      rows.cache_rows.push_back(int32_t(s->slot));
    }
    advance(sequences, cached_.next(rows), decoded);
  }
  for (const DecodedToken& token : decoded) {
    if (token.finish != DecodedToken::Finish::none) leave(token.sequence);
  }
  return decoded;
}

void ContinuousBatch::check(const std::vector<Admission>& admissions, int64_t places) const {
  if (int64_t(admissions.size()) > places) throw Error(ErrorCode::invalid_argument, std::to_string(admissions.size()) + " sequences for " + std::to_string(places) + " free places");
  const int64_t V = model_->spec.vocab_size, positions = model_->spec.max_positions;
  const int64_t longest = positions > 0 ? std::min(positions, cached_.sizes().max_length) : cached_.sizes().max_length;
  for (const Admission& a : admissions) {
    check_prompt(a.prompt, V, "the prompt");
    check_choice(a.options.decoding);
    if (int64_t(a.prompt.size()) >= longest) throw Error(ErrorCode::invalid_argument, "a prompt of " + std::to_string(a.prompt.size()) + " tokens leaves no room for an answer: prompt and answer may have " + std::to_string(longest));
    if (a.options.decoding.num_beams != 1) fail(ErrorCode::invalid_argument, "sequences of a running batch have one beam");
    if (a.options.alternatives < 0 || a.options.alternatives > std::min(kMostAlternatives, V)) fail(ErrorCode::invalid_argument, "topLogprobs must be 0 to 20, and at most the vocabulary");
    if (!model_->knows_adapter(a.options.adapter)) throw Error(ErrorCode::invalid_argument, "no adapter named \"" + a.options.adapter + "\" is loaded");
    if (sequences_.count(a.sequence) > 0) throw Error(ErrorCode::invalid_argument, "sequence " + std::to_string(a.sequence) + " is in the batch already");
  }
}

ContinuousBatch::Sequence& ContinuousBatch::admit(Admission&& admission) {
  Sequence s;
  s.number = admission.sequence;
  s.slot = free_slots_.back();
  free_slots_.pop_back();
  s.prompt_length = int64_t(admission.prompt.size());
  const int64_t positions = model_->spec.max_positions, length = cached_.sizes().max_length;
  s.most_tokens = std::min(s.prompt_length + admission.options.decoding.max_new_tokens, positions > 0 ? std::min(positions, length) : length);
  s.hash = hash_of_prompt(admission.prompt);
  s.tokens = std::move(admission.prompt);
  s.options = std::move(admission.options);
  return sequences_.emplace(admission.sequence, std::move(s)).first->second;
}

void ContinuousBatch::leave(int64_t number) {
  const auto at = sequences_.find(number);
  if (at == sequences_.end()) return;  // it finished before it was taken out
  free_slots_.push_back(at->second.slot);
  sequences_.erase(at);
}

/// Rows of one repetition penalty at a time: it is one number for the back end.
void ContinuousBatch::advance(const std::vector<Sequence*>& sequences, Matrix scores, std::vector<DecodedToken>& decoded) {
  for (size_t first = 0; first < sequences.size();) {
    size_t last = first + 1;
    while (last < sequences.size() && sequences[last]->options.decoding.repetition_penalty == sequences[first]->options.decoding.repetition_penalty) ++last;
    advance_alike({sequences.begin() + ptrdiff_t(first), sequences.begin() + ptrdiff_t(last)}, scores.at(int64_t(first), 0), decoded);
    first = last;
  }
}

void ContinuousBatch::advance_alike(const std::vector<Sequence*>& sequences, Matrix scores, std::vector<DecodedToken>& decoded) {
  const int64_t V = model_->spec.vocab_size, count = int64_t(sequences.size());
  RowChanges changes;
  CachedDecoder::Asked asked{false, sequences[0]->options.decoding.repetition_penalty, 1, false};
  int64_t alternatives = 0;
  for (int64_t r = 0; r < count; ++r) {
    const Sequence& s = *sequences[size_t(r)];
    add_changes(changes, int32_t(r), s.tokens, s.prompt_length, V, s.options.decoding);
    const int64_t needed = scores_needed(s.options.decoding, V);
    asked.count = std::max(asked.count, needed);
    asked.whole = asked.whole || needed == 0;
    alternatives = std::max(alternatives, s.options.alternatives);
  }
  // The alternatives are the model's own: they are found before anything changes.
  CachedDecoder::Choices likeliest;
  if (alternatives > 0) likeliest = cached_.choose(scores, count, {}, {false, 1.0f, alternatives, false});
  const CachedDecoder::Choices found = cached_.choose(scores, count, changes, asked);
  for (int64_t r = 0; r < count; ++r) {
    Sequence& s = *sequences[size_t(r)];
    DecodedToken result;
    result.sequence = s.number;
    const RowScores row = found.row(r, scores_needed(s.options.decoding, V));
    if (!std::isfinite(row.log_sum)) {
      result.finish = DecodedToken::Finish::not_finite;  // this sequence's trouble (a broken adapter), not the others'
      decoded.push_back(std::move(result));
      continue;
    }
    const ChosenToken chosen = next_token(row, s.tokens, s.prompt_length, s.hash, V, s.options.decoding);
    s.tokens.push_back(chosen.token);
    result.token = chosen.token;
    result.log_probability = chosen.log_probability;
    for (int64_t i = 0; i < s.options.alternatives; ++i) {
      const size_t at = size_t(r * alternatives + i);
      if (likeliest.tokens[at] >= 0) result.alternatives.push_back({likeliest.tokens[at], likeliest.best[at] - likeliest.log_sums[size_t(r)]});
    }
    if (chosen.token == s.options.decoding.eos_token_id) result.finish = DecodedToken::Finish::stop;
    else if (int64_t(s.tokens.size()) >= s.most_tokens) result.finish = DecodedToken::Finish::length;
    decoded.push_back(std::move(result));
  }
}

}  // namespace polypaca
