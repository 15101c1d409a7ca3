// Forward pass. Residual stream x [N, C]; a block reads x_in and leaves x_out:
//   sequential   x_mid = x_in + attn(norm1(x_in));         x_out = x_mid + mlp(norm2(x_mid))
//   post_norm    a = norm1(x_in), x_mid = a + attn(a);     b = norm2(x_mid), x_out = b + mlp(b)
//   parallel     x_out = x_in + attn(norm1(x_in)) + mlp(norm2(x_in))
#include "model/decoder.h"

#include <algorithm>
#include <cmath>

#include "core/clock.h"
#include "core/error.h"
#include "core/memory.h"

namespace polypaca {

void check_stop(const StopFlag& stop) {
  if (stop.load(std::memory_order_relaxed)) throw Error(ErrorCode::cancelled, "stopped on request");
}

WorkspaceShape Decoder::shape_of(WorkspaceKind kind, int64_t tokens, bool trains_head) const {
  WorkspaceShape s;
  s.kind = kind;
  s.tokens = tokens;
  s.compute = model_.options.dtype;
  s.residual = DType::f32;
  for (int site = 0; site < kLinearSites; ++site) s.ranks[size_t(site)] = model_.largest_rank(LinearSite(site));
  s.head_rows = head_chunk_rows(tokens, spec_.vocab_size, s.compute, trains_head);
  return s;
}

Workspace Decoder::plan_training(bool recompute, int64_t tokens, bool full) const {
  Arena counting;
  return Workspace(spec_, backend_, shape_of(recompute ? WorkspaceKind::train_recompute : WorkspaceKind::train, tokens, full), counting);
}

Workspace& Decoder::workspace(WorkspaceKind kind, int64_t tokens) {
  Held& held = held_[int(kind)];
  WorkspaceShape shape = shape_of(kind, tokens, trains_weights());
  if (held.workspace) {
    const WorkspaceShape& have = held.workspace->shape;
    if (have.tokens >= tokens && have.ranks == shape.ranks) return *held.workspace;
    shape.tokens = std::max(shape.tokens, have.tokens);
    shape.head_rows = head_chunk_rows(shape.tokens, spec_.vocab_size, shape.compute, trains_weights());
    held = Held{};
  }
  Arena counting;
  int64_t bytes = Workspace(spec_, backend_, shape, counting).total_bytes;
  require_memory(backend_.memory(), bytes, "a micro-batch of " + std::to_string(shape.tokens) + " tokens", model_.options.allow_overcommit);
  held.arena = std::make_unique<Arena>(model_.backend, bytes);
  held.workspace = std::make_unique<Workspace>(spec_, backend_, shape, *held.arena);
  return *held.workspace;
}

Decoder::~Decoder() {
  if (step_state_) backend_.release(step_state_);
}

StepState* Decoder::step_state() {
  if (!step_state_) step_state_ = static_cast<StepState*>(backend_.allocate(sizeof(StepState)));
  return step_state_;
}

void Decoder::begin_step(const StepState& state) { backend_.copy_in(step_state(), &state, sizeof state); }

StepState Decoder::read_step() const {
  StepState state;
  backend_.copy_out(&state, step_state_, sizeof state);
  return state;
}

void Decoder::release_workspaces() {
  for (Held& held : held_) held = Held{};
}

Dropout Decoder::dropout(const Workspace& ws, LinearSite site, int64_t layer, const PassOptions& options) const {
  Dropout d;
  if (!options.with_dropout) return d;
  d.threshold = uint32_t(std::lround(model_.lora.dropout * 65536.0));
  d.keep_scale = float(1.0 / (1.0 - double(d.threshold) / 65536.0));
  d.key = step_state_->dropout_key;
  d.site = uint32_t(layer) * kLinearSites + uint32_t(site);
  d.positions = ws.positions;
  d.examples = ws.examples;
  return d;
}

Sequences Decoder::sequences(const Workspace& ws, const BatchTables& tables) const { return {ws.cu_seqlens, ws.positions, tables.S, tables.N}; }

Decoder::Qkv Decoder::split(Matrix qkv) const {
  const int64_t D = spec_.head_dim;
  const bool interleaved = spec_.qkv_layout == QkvLayout::interleaved;
  const int64_t head = interleaved ? 3 * D : D;
  auto view = [&](int64_t column) { return HeadView{qkv.at(0, column).data, qkv.dtype, qkv.ld, head}; };
  return {view(0), view(interleaved ? D : spec_.q_size()), view(interleaved ? 2 * D : spec_.q_size() + spec_.kv_size())};
}

void Decoder::norm_forward(const Norm& norm, Matrix y, float* mean, float* rstd, Matrix x, int64_t N) {
  const float* values = model_.vectors.fp32;
  backend_.norm_forward(spec_.norm, y, mean, rstd, x, values + norm.weight, norm.bias < 0 ? nullptr : values + norm.bias, N, spec_.hidden_size, spec_.norm_epsilon);
}

void Decoder::norm_recompute(const Norm& norm, Matrix y, const float* mean, const float* rstd, Matrix x, int64_t N) {
  const float* values = model_.vectors.fp32;
  backend_.norm_recompute(spec_.norm, y, mean, rstd, x, values + norm.weight, norm.bias < 0 ? nullptr : values + norm.bias, N, spec_.hidden_size);
}

void Decoder::linear_forward(Workspace& ws, Linear& linear, LinearSite site, int64_t layer, Matrix y, Matrix x, LayerActivations& saved, float beta, const PassOptions& options, int64_t N) {
  const Adapter& adapter = linear.adapter;
  LoraTerm lora;
  if (adapter.R > 0) {
    Matrix h = saved.h[size_t(site)];
    h.ld = adapter.R;
    backend_.lora_down_forward(h, x, model_.adapters.compute(adapter.down, linear.weight.cols), dropout(ws, site, layer, options), N, linear.weight.cols, adapter.R);
    lora = {h, adapter.up, adapter.R};
  }
  const float* bias = linear.bias < 0 ? nullptr : model_.vectors.fp32 + linear.bias;
  backend_.linear_forward(y, x, linear.weight, bias, lora, N, beta);
}

void Decoder::embed(Workspace& ws, const int32_t* ids, int64_t N, Matrix x) {
  backend_.embedding_forward(x, model_.embedding.weight.value, ids, N, spec_.hidden_size);
  if (spec_.embedding_norm) norm_forward(model_.embedding_norm, x, ws.head_mean, ws.head_rstd, x, N);
}

void Decoder::forward_layer(Workspace& ws, int64_t l, int64_t N, const PassOptions& options, const Attend& attend, bool output) {
  Layer& layer = model_.layers[size_t(l)];
  LayerActivations& s = ws.layers[size_t(l)];
  const Matrix x_out = l + 1 < spec_.layers ? ws.layers[size_t(l + 1)].x_in : ws.x_out;
  const int64_t C = spec_.hidden_size;
  auto mlp_hidden = [&] {
    linear_forward(ws, layer.linear[kMlpUp], kMlpUp, l, s.u, ws.normed, s, 0, options, N);
    backend_.activation_forward(spec_.activation, ws.hidden, s.u, N, spec_.intermediate_size);
  };
  auto attention = [&] {
    linear_forward(ws, layer.linear[kQkv], kQkv, l, s.qkv, ws.normed, s, 0, options, N);
    attend(l, s);
  };

  if (spec_.residual == Residual::parallel) {
    norm_forward(layer.attention_norm, ws.normed, s.mean1, s.rstd1, s.x_in, N);
    attention();
    norm_forward(layer.mlp_norm, ws.normed, s.mean2, s.rstd2, s.x_in, N);
    mlp_hidden();
    if (!output && layer.linear[kAttentionOutput].adapter.R + layer.linear[kMlpDown].adapter.R == 0) return;
    copy_rows(x_out, s.x_in, N, C);  // only now: x_out may be x_in
    linear_forward(ws, layer.linear[kAttentionOutput], kAttentionOutput, l, x_out, s.attention, s, 1, options, N);
    linear_forward(ws, layer.linear[kMlpDown], kMlpDown, l, x_out, ws.hidden, s, 1, options, N);
    return;
  }
  // post_norm carries the norm's output on in the residual's own type.
  const bool post = spec_.residual == Residual::post_norm;
  auto start_half = [&](const Norm& norm, Matrix next, float* mean, float* rstd, Matrix x) {
    norm_forward(norm, post ? next : ws.normed, mean, rstd, x, N);
    post ? backend_.convert(ws.normed, next, N, C) : copy_rows(next, x, N, C);
  };
  start_half(layer.attention_norm, s.x_mid, s.mean1, s.rstd1, s.x_in);
  attention();
  linear_forward(ws, layer.linear[kAttentionOutput], kAttentionOutput, l, s.x_mid, s.attention, s, 1, options, N);
  if (!output && layer.linear[kMlpDown].adapter.R == 0) {
    norm_forward(layer.mlp_norm, ws.normed, s.mean2, s.rstd2, s.x_mid, N);
    linear_forward(ws, layer.linear[kMlpUp], kMlpUp, l, s.u, ws.normed, s, 0, options, N);
    return;
  }
  start_half(layer.mlp_norm, x_out, s.mean2, s.rstd2, s.x_mid);
  mlp_hidden();
  linear_forward(ws, layer.linear[kMlpDown], kMlpDown, l, x_out, ws.hidden, s, 1, options, N);
}

void Decoder::upload(Workspace& ws, const std::vector<int32_t>& input_ids, const BatchTables& tables) {
  const int64_t N = tables.N, n = int64_t(tables.targets.size());
  backend_.copy_in(ws.input_ids, input_ids.data(), N * 4);
  backend_.copy_in(ws.positions, tables.positions.data(), N * 4);
  backend_.copy_in(ws.examples, tables.examples.data(), N * 4);
  backend_.copy_in(ws.cu_seqlens, tables.cu_seqlens.data(), (tables.S + 1) * 4);
  backend_.copy_in(ws.target_rows, tables.target_rows.data(), n * 4);
  backend_.copy_in(ws.targets, tables.targets.data(), n * 4);
}

void Decoder::forward(Workspace& ws, const BatchTables& tables, const PassOptions& options, const StopFlag& stop, const Attend& after_attention) {
  const int64_t N = tables.N;
  const AttentionShape shape = model_.attention_shape(tables.longest);
  const Sequences seqs = sequences(ws, tables);
  const Attend attend = [&](int64_t layer, const LayerActivations& s) {
    const Qkv qkv = split(s.qkv);
    backend_.attention_forward({s.attention.data, s.attention.dtype, s.attention.ld, spec_.head_dim}, s.lse, qkv.q, qkv.k, qkv.v, seqs, shape);
    if (after_attention) after_attention(layer, s);
  };
  embed(ws, ws.input_ids, N, ws.layers[0].x_in);
  for (int64_t l = 0; l < spec_.layers; ++l) {
    check_stop(stop);
    forward_layer(ws, l, N, options, attend, true);
  }
}

void Decoder::head_rows(Workspace& ws, Matrix x, int64_t n, Matrix out) {
  norm_forward(model_.final_norm, ws.head_normed, ws.head_mean, ws.head_rstd, x, n);
  backend_.linear_forward(out, ws.head_normed, model_.head_weight(), nullptr, {}, n, 0);
}

void Decoder::logits(Workspace& ws, int64_t first, int64_t n, float* host) {
  const int64_t V = spec_.vocab_size;
  // The chunk's buffer holds the compute type; fp32 rows need twice the room in bf16.
  const int64_t step = std::max<int64_t>(1, ws.shape.head_rows * size_of(ws.shape.compute) / 4);
  const Matrix rows{ws.logits.data, DType::f32, V};
  if (ws.shape.head_rows * size_of(ws.shape.compute) < 4) fail(ErrorCode::internal, "no room for a row of logits");
  for (int64_t done = 0; done < n; done += step) {
    const int64_t c = std::min(step, n - done);
    head_rows(ws, ws.x_out.at(first + done, 0), c, rows);
    backend_.copy_out(host + done * V, rows.data, c * V * 4);
  }
}

PassMoments Decoder::train_micro_batch(Workspace& ws, const Batch& batch, BatchTables tables, const PassOptions& options, const StopFlag& stop) {
  const bool records = backend_.records();
  std::vector<int32_t> input_ids = batch.input_ids;
  if (records) {
    pad_batch(input_ids, tables, padded_sizes(tables, ws.shape.tokens));
    tables.longest = ws.shape.tokens;  // the tables of angles are then of one size for the whole run
  }
  const int64_t n = int64_t(tables.targets.size());
  upload(ws, input_ids, tables);
  const auto key = [&](RecordedWork part) { return RecordKey{part, tables.N, tables.S, n, started_gradients(), options.with_dropout}; };
  PassMoments at;
  at.start = backend_.mark();
  backend_.run_recorded(key(kForwardRecord), [&] { forward(ws, tables, options, stop); });
  check_stop(stop);
  at.forward = backend_.mark();
  double head_forward_seconds = 0;
  backend_.run_recorded(key(kHeadRecord), [&] { head_forward_seconds = head_loss(ws, tables, true, stop); });
  check_stop(stop);
  at.head = backend_.mark();
  if (n > 0) model_.head_linear().gradient_started = true;  // a record changes nothing on the host
  backend_.run_recorded(key(kBackwardRecord), [&] { backward(ws, tables, options, stop); });
  note_layer_gradients();
  at.backward = backend_.mark();
  if (records) {
    at.head_forward_share = trains_weights() ? 1.0 / 3 : 1.0 / 2;  // by operations: one product forward, one or two backward
  } else if (const double seconds = backend_.seconds_between(at.forward, at.head); seconds > 0) {
    at.head_forward_share = head_forward_seconds / seconds;
  }
  return at;
}

double Decoder::head_loss(Workspace& ws, const BatchTables& tables, bool backward, const StopFlag& stop) {
  const int64_t n = int64_t(tables.targets.size()), C = spec_.hidden_size, V = spec_.vocab_size;
  if (n == 0) {
    if (backward) backend_.fill_zero(ws.dx.data, tables.N * C * size_of(ws.dx.dtype));
    return 0;
  }
  double forward_seconds = 0;
  Clock clock;
  backend_.gather_rows(ws.head_x, ws.x_out, ws.target_rows, n, C);
  norm_forward(model_.final_norm, ws.head_normed, ws.head_mean, ws.head_rstd, ws.head_x, n);
  const Weight& weight = model_.head_weight();
  Linear& trained = model_.head_linear();
  // Equal chunks, so that the last one is not a sliver.
  const int64_t chunks = (n + ws.shape.head_rows - 1) / ws.shape.head_rows, rows = (n + chunks - 1) / chunks;
  for (int64_t first = 0; first < n; first += rows) {
    check_stop(stop);
    const int64_t c = std::min(rows, n - first);
    const Matrix x = ws.head_normed.at(first, 0);
    backend_.linear_forward(ws.logits, x, weight, nullptr, {}, c, 0);
    backend_.cross_entropy(ws.logits, ws.losses + first, ws.targets + first, c, V, backward ? &step_state_->grad_scale : nullptr);
    forward_seconds += clock.lap();
    if (!backward) continue;
    backend_.linear_backward_input(ws.d_head_normed.at(first, 0), ws.logits, weight, c, 0);
    if (trains_weights()) {
      backend_.linear_backward_weight(model_.matrices.grad + trained.offset, C, ws.logits, x, c, V, C, 1, trained.gradient_started ? 1.0f : 0.0f);
      trained.gradient_started = true;
    }
    clock.lap();
  }
  backend_.add_losses(&step_state_->loss_sum, ws.losses, n);
  if (!backward) return forward_seconds;
  norm_backward(model_.final_norm, ws.dx_other, 0, ws.d_head_normed, ws.head_x, ws.head_mean, ws.head_rstd, n);
  backend_.scatter_rows(ws.dx, tables.N, ws.dx_other, ws.target_rows, n, C);
  return forward_seconds;
}

}  // namespace polypaca
