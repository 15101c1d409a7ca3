#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "core/clock.h"
#include "core/error.h"
#include "core/memory.h"

namespace polypaca {
Trainer::Trainer(std::shared_ptr<Model> model, std::shared_ptr<Decoder> decoder, TrainerOptions options)
    : model_(std::move(model)), decoder_(std::move(decoder)), options_(options) {
  Model& m = *model_;
  if (options_.micro_batch_tokens < 1) throw Error(ErrorCode::invalid_argument, "micro-batch tokens must be at least 1");
  if (options_.full && m.has_adapter()) throw Error(ErrorCode::invalid_argument, "full fine-tuning of a model with an adapter: merge the adapter first, or train with method lora");
  if (!options_.full && !m.has_adapter()) throw Error(ErrorCode::invalid_argument, "method lora needs an adapter: call addLora or loadAdapter first");
  if (m.matrices.grad || m.adapters.grad) throw Error(ErrorCode::invalid_argument, "this model has a trainer already: dispose of it first");

  const bool low = m.options.dtype == DType::bf16;
  const WorkspaceKind kind = options_.recompute ? WorkspaceKind::train_recompute : WorkspaceKind::train;
  memory_ = plan_memory(m, options_);
  require_memory(m.backend->memory(), memory_.gradients + memory_.optimizer + memory_.activations + memory_.head + memory_.scratch, "training", m.options.allow_overcommit);
  try {
    if (options_.full) {
      m.is_trained = true;
      m.weights_changed();  // trained weights may be laid out differently: frees what frozen ones keep
      if (low) m.allocate_masters();
    }
    for (FlatValues* values : trained_spaces()) {
      values->allocate_gradient();
      if (!options_.quantized_moments) values->allocate_moments();
    }
    if (options_.quantized_moments) quantized_ = std::make_unique<QuantizedMoments>(m.backend, trained());
    decoder_->release_workspaces();  // laid out before the gradients were there
    decoder_->workspace(kind, options_.micro_batch_tokens);
  } catch (...) {
    release();
    throw;
  }
}

Trainer::~Trainer() { release(); }

std::vector<FlatValues*> Trainer::trained_spaces() const {
  if (options_.full) return {&model_->matrices, &model_->vectors};
  return {&model_->adapters};
}

void Trainer::release() {
  Model& m = *model_;
  quantized_.reset();
  for (FlatValues* values : {&m.matrices, &m.vectors, &m.adapters}) {
    values->release_gradient();
    values->release_moments();
  }
  if (m.options.dtype == DType::bf16) m.matrices.release_remainder();
  if (m.is_trained) {
    m.is_trained = false;
    m.weights_changed();
  }
  decoder_->release_workspaces();
}

StepResult Trainer::step(const std::vector<Batch>& micro_batches, float learning_rate, int64_t target_tokens, const StopFlag& stop) {
  Model& m = *model_;
  StepResult result;
  std::vector<BatchTables> tables;
  for (const Batch& batch : micro_batches) {  // everything is checked before anything is computed
    tables.push_back(make_tables(batch, m.spec.vocab_size, m.spec.max_positions));
    if (tables.back().N > options_.micro_batch_tokens) {
      throw Error(ErrorCode::shape_mismatch, "a micro-batch has " + std::to_string(tables.back().N) + " tokens, its capacity is " + std::to_string(options_.micro_batch_tokens));
    }
    result.tokens += tables.back().N;
    result.target_tokens += int64_t(tables.back().targets.size());
  }
  if (result.target_tokens != target_tokens) {
    throw Error(ErrorCode::invalid_argument, "targetTokens is " + std::to_string(target_tokens) + ", the micro-batches hold " + std::to_string(result.target_tokens) + " targets");
  }
  if (target_tokens == 0) throw Error(ErrorCode::invalid_argument, "the step has no target tokens: every label is -100");

  PassOptions pass;
  pass.with_dropout = !options_.full && m.lora.dropout > 0;
  StepState state;
  state.grad_scale = 1.0f / float(target_tokens);
  state.max_grad_norm = options_.max_grad_norm;
  set_update(state, learning_rate, options_.beta1, options_.beta2, steps_ + 1);
  // Key of the masks: a function of seed and step alone.
  Philox4 key = philox4x32<10>(uint32_t(steps_), uint32_t(uint64_t(steps_) >> 32), 0x44524F50u, 0, uint32_t(options_.seed), uint32_t(options_.seed >> 32));
  state.dropout_key[0] = key.v[0];
  state.dropout_key[1] = key.v[1];

  Clock total;
  Backend& backend = *m.backend;
  backend.forget_marks();
  Workspace& ws = decoder_->workspace(options_.recompute ? WorkspaceKind::train_recompute : WorkspaceKind::train, options_.micro_batch_tokens);
  decoder_->begin_step(state);
  decoder_->begin_gradients();
  std::vector<PassMoments> moments;
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    check_stop(stop);
    moments.push_back(decoder_->train_micro_batch(ws, micro_batches[i], std::move(tables[i]), pass, stop));
  }
  check_stop(stop);
  const int64_t update_start = backend.mark();
  StepState* held = decoder_->step_state();
  backend.run_recorded({kUpdateRecord, decoder_->started_gradients()}, [&] {
    decoder_->finish_gradients();
    for (FlatValues* values : {&m.matrices, &m.vectors, &m.adapters}) {
      if (values->grad) backend.add_squares(&held->sum_of_squares, values->grad, values->count());
    }
    backend.finish_norm(held);
    update({options_.beta1, options_.beta2, options_.epsilon, held});
    values_changed();
  });
  const int64_t end = backend.mark();
  state = decoder_->read_step();  // the one wait of a step
  result.loss = state.loss_sum / double(target_tokens);
  result.grad_norm = std::sqrt(state.sum_of_squares);
  if (!state.applies) {
    throw Error(ErrorCode::not_finite, "loss " + std::to_string(result.loss) + ", gradient norm " + std::to_string(result.grad_norm) + " at step " + std::to_string(steps_ + 1) + ": the weights were left as they were");
  }
  ++steps_;
  for (const PassMoments& at : moments) {
    const double head = backend.seconds_between(at.forward, at.head), head_forward = at.head_forward_share * head;
    result.forward_seconds += backend.seconds_between(at.start, at.forward) + head_forward;
    result.backward_seconds += head - head_forward + backend.seconds_between(at.head, at.backward);
  }
  result.optimizer_seconds = backend.seconds_between(update_start, end);
  result.seconds = total.lap();
  return result;
}

void Trainer::update(const AdamWOptions& options) {
  const auto decay = [&](const FlatValues& values) { return &values == &model_->vectors ? 0.0f : options_.weight_decay; };
  if (quantized_) {
    for (size_t i = 0; i < trained().size(); ++i) {
      const FlatValues& values = model_->space(trained()[i].space);
      quantized_->update(i, values, decay(values), options);
    }
    return;
  }
  for (const FlatValues* values : trained_spaces()) {
    model_->backend->adamw({values->masters(), values->m, values->v, values->grad, values->count(), decay(*values)}, options);
  }
}

void Trainer::values_changed() { options_.full ? model_->weights_changed() : model_->adapters_changed(); }

int64_t Trainer::StateTensor::count() const {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

std::vector<Trainer::StateTensor> Trainer::state() const {
  std::vector<StateTensor> list;
  // In fp32 the checkpoint's weights are the masters; adapters and vectors are saved in fp32 as they are only for LoRA.
  const bool masters = options_.full && model_->options.dtype == DType::bf16;
  for (size_t i = 0; i < trained().size(); ++i) {
    const Parameter& p = trained()[i];
    const FlatValues& values = model_->space(p.space);
    const auto add = [&](const char* prefix, StoredDType dtype, void* data, const std::vector<int64_t>& shape, bool is_master = false) {
      list.push_back({prefix + p.name, &p, shape, dtype, data, is_master});
    };
    if (masters) add("master.", StoredDType::f32, nullptr, p.shape, true);
    if (!quantized_) {
      add("exp_avg.", StoredDType::f32, values.m + p.offset, p.shape);
      add("exp_avg_sq.", StoredDType::f32, values.v + p.offset, p.shape);
      continue;
    }
    const QuantizedMoments::Moments& moments = quantized_->at(i);
    if (!moments.m_codes) {
      add("exp_avg.", StoredDType::f32, moments.m, p.shape);
      add("exp_avg_sq.", StoredDType::f32, moments.v, p.shape);
      continue;
    }
    const std::vector<int64_t> blocks{QuantizedMoments::blocks(p)};
    add("exp_avg.", StoredDType::u8, moments.m_codes, p.shape);
    add("exp_avg_scale.", StoredDType::f32, moments.m, blocks);
    add("exp_avg_sq.", StoredDType::u8, moments.v_codes, p.shape);
    add("exp_avg_sq_scale.", StoredDType::f32, moments.v, blocks);
  }
  return list;
}

void Trainer::read_state(const StateTensor& tensor, float* dst, int64_t first, int64_t n) const {
  if (tensor.is_master) return model_->read(*tensor.parameter, dst, first, n);
  if (tensor.dtype == StoredDType::f32) return model_->backend->copy_out(dst, static_cast<float*>(tensor.data) + first, n * 4);
  std::vector<uint8_t> codes(static_cast<size_t>(n));
  model_->backend->copy_out(codes.data(), static_cast<uint8_t*>(tensor.data) + first, n);
  std::copy(codes.begin(), codes.end(), dst);
}

void Trainer::write_state(const StateTensor& tensor, const float* src, int64_t first, int64_t n) {
  if (tensor.is_master) return model_->write(*tensor.parameter, src, first, n);
  if (tensor.dtype == StoredDType::f32) return model_->backend->copy_in(static_cast<float*>(tensor.data) + first, src, n * 4);
  const std::vector<uint8_t> codes(src, src + n);
  model_->backend->copy_in(static_cast<uint8_t*>(tensor.data) + first, codes.data(), n);
}

void Trainer::restore(const std::vector<TensorSource>& sources, int64_t steps_taken) {
  TensorReader reader;
  std::vector<float> chunk(size_t(1) << 20);
  for (const StateTensor& t : state()) {
    auto at = std::find_if(sources.begin(), sources.end(), [&](const TensorSource& s) { return s.name == t.name; });
    if (at == sources.end()) throw Error(ErrorCode::checkpoint_mismatch, "\"" + t.name + "\" is missing from the optimiser state");
    if (at->shape != t.shape || at->dtype != t.dtype) {
      throw Error(ErrorCode::checkpoint_mismatch, at->file + ": \"" + t.name + "\" has another shape or type than this optimiser's state");
    }
    for (int64_t first = 0; first < t.count(); first += int64_t(chunk.size())) {
      const int64_t n = std::min(int64_t(chunk.size()), t.count() - first);
      reader.read(*at, chunk.data(), first, n);
      write_state(t, chunk.data(), first, n);
    }
  }
  steps_ = steps_taken;
  values_changed();
}

}  // namespace polypaca
