// Backward pass: the chain rule over decoder.cpp, layer by layer. ws.dx holds the gradient of the residual stream.
// Norm and activation outputs were not kept: they are computed again where a weight or an adapter needs them as its input.
#include <algorithm>

#include "core/error.h"
#include "model/decoder.h"

namespace polypaca {

void Decoder::norm_backward(const Norm& norm, Matrix dx, float beta, Matrix dy, Matrix x, const float* mean, const float* rstd, int64_t N) {
  float* grad = trains_weights() ? model_.vectors.grad : nullptr;
  backend_.norm_backward(spec_.norm, dx, beta, grad ? grad + norm.weight : nullptr, grad && norm.bias >= 0 ? grad + norm.bias : nullptr, dy, x, mean, rstd, model_.vectors.fp32 + norm.weight, N, spec_.hidden_size);
}

/// Everything that leaves one linear layer backwards: the gradients of what is trained in it and, unless `dx` is empty,
/// dx = beta * dx + the gradient of its input. x is read only where something is trained.
void Decoder::linear_backward(Workspace& ws, Linear& linear, LinearSite site, int64_t layer, Matrix dy, Matrix x, const LayerActivations& saved, Matrix dx, float beta, const PassOptions& options, int64_t N) {
  const int64_t rows = linear.weight.rows, cols = linear.weight.cols;
  if (trains_weights()) {
    backend_.linear_backward_weight(model_.matrices.grad + linear.offset, cols, dy, x, N, rows, cols, 1, linear.gradient_started ? 1.0f : 0.0f);
    linear.gradient_started = true;
    if (linear.bias >= 0) backend_.linear_backward_bias(model_.vectors.grad + linear.bias, dy, N, rows);
  }
  if (dx) backend_.linear_backward_input(dx, dy, linear.weight, N, beta);
  const Adapter& adapter = linear.adapter;
  if (adapter.R == 0) return;
  Matrix dh = ws.dh, h = saved.h[size_t(site)];
  dh.ld = h.ld = adapter.R;
  backend_.lora_up_backward(dh, dy, adapter.up, N, rows, adapter.R);
  float* grad = model_.adapters.grad;
  for (const AdapterPart& part : adapter.parts) {
    backend_.linear_backward_weight(grad + part.up, model_.lora.rank, dy.at(0, part.first_row), h.at(0, part.first_rank), N, part.rows, model_.lora.rank, float(model_.lora.scaling), 1);
  }
  backend_.lora_down_backward(dx, grad + adapter.down, dh, x, model_.adapters.compute(adapter.down, cols), dropout(ws, site, layer, options), N, cols, adapter.R);
}

/// MLP half: reads ws.dx as the gradient of its output; leaves d_norm = beta * d_norm + the gradient of its norm's output.
void Decoder::backward_mlp(Workspace& ws, int64_t l, int64_t N, const PassOptions& options, Matrix d_norm, float beta, bool input_gradient) {
  Layer& layer = model_.layers[size_t(l)];
  LayerActivations& s = ws.layers[size_t(l)];
  const int64_t I = spec_.intermediate_size;
  Linear &up = layer.linear[kMlpUp], &down = layer.linear[kMlpDown];
  const bool needs_hidden_gradient = input_gradient || trains(up);
  if (trains(down)) backend_.activation_forward(spec_.activation, ws.hidden, s.u, N, I);
  Matrix d_hidden = needs_hidden_gradient ? ws.d_hidden : Matrix{};
  linear_backward(ws, down, kMlpDown, l, ws.dx, ws.hidden, s, d_hidden, 0, options, N);
  if (!needs_hidden_gradient) return;
  backend_.activation_backward(spec_.activation, s.u, ws.d_hidden, s.u, N, I);  // du takes u's place
  const Matrix x = spec_.residual == Residual::parallel ? s.x_in : s.x_mid;
  if (trains(up)) norm_recompute(layer.mlp_norm, ws.normed, s.mean2, s.rstd2, x, N);
  linear_backward(ws, up, kMlpUp, l, s.u, ws.normed, s, input_gradient ? d_norm : Matrix{}, beta, options, N);
}

/// Attention half: reads ws.dx as the gradient of its output; d_norm as above.
void Decoder::backward_attention(Workspace& ws, int64_t l, const BatchTables& tables, const PassOptions& options, Matrix d_norm, float beta, bool input_gradient) {
  Layer& layer = model_.layers[size_t(l)];
  LayerActivations& s = ws.layers[size_t(l)];
  const int64_t N = tables.N;
  Linear &in = layer.linear[kQkv], &out = layer.linear[kAttentionOutput];
  const bool through_attention = input_gradient || trains(in);
  linear_backward(ws, out, kAttentionOutput, l, ws.dx, s.attention, s, through_attention ? ws.d_attention : Matrix{}, 0, options, N);
  if (!through_attention) return;
  const Qkv qkv = split(s.qkv), d = split(ws.d_qkv);
  auto heads = [&](Matrix m) { return HeadView{m.data, m.dtype, m.ld, spec_.head_dim}; };
  backend_.attention_backward(d.q, d.k, d.v, heads(ws.d_attention), heads(s.attention), s.lse, qkv.q, qkv.k, qkv.v, ws.attention_scratch, sequences(ws, tables), model_.attention_shape(tables.longest));
  if (trains(in)) norm_recompute(layer.attention_norm, ws.normed, s.mean1, s.rstd1, s.x_in, N);
  linear_backward(ws, in, kQkv, l, ws.d_qkv, ws.normed, s, input_gradient ? d_norm : Matrix{}, beta, options, N);
}

/// ws.dx: gradient of x_out, becomes the gradient of x_in (where input_gradient).
void Decoder::backward_layer(Workspace& ws, int64_t l, const BatchTables& tables, const PassOptions& options, bool input_gradient) {
  Layer& layer = model_.layers[size_t(l)];
  LayerActivations& s = ws.layers[size_t(l)];
  const int64_t N = tables.N;
  const bool attention_trains = trains(layer.linear[kQkv]) || trains(layer.linear[kAttentionOutput]);
  const bool mlp_trains = trains(layer.linear[kMlpUp]) || trains(layer.linear[kMlpDown]);

  switch (spec_.residual) {
    case Residual::parallel:
      // Both halves read dx as it came: their gradients are added only at the end.
      if (input_gradient || mlp_trains) backward_mlp(ws, l, N, options, ws.dx_other, 0, input_gradient);
      if (input_gradient || attention_trains) backward_attention(ws, l, tables, options, ws.dx_third, 0, input_gradient);
      if (!input_gradient) return;
      norm_backward(layer.mlp_norm, ws.dx, 1, ws.dx_other, s.x_in, s.mean2, s.rstd2, N);
      norm_backward(layer.attention_norm, ws.dx, 1, ws.dx_third, s.x_in, s.mean1, s.rstd1, N);
      return;
    case Residual::sequential: {
      const bool middle = input_gradient || attention_trains;
      backward_mlp(ws, l, N, options, ws.dx_other, 0, middle);
      if (!middle) return;
      norm_backward(layer.mlp_norm, ws.dx, 1, ws.dx_other, s.x_mid, s.mean2, s.rstd2, N);
      backward_attention(ws, l, tables, options, ws.dx_other, 0, input_gradient);
      if (input_gradient) norm_backward(layer.attention_norm, ws.dx, 1, ws.dx_other, s.x_in, s.mean1, s.rstd1, N);
      return;
    }
    case Residual::post_norm: {
      // The residual starts from the norm's output: dx itself is part of that output's gradient.
      const bool middle = input_gradient || attention_trains;
      copy_rows(ws.dx_other, ws.dx, N, spec_.hidden_size);
      backward_mlp(ws, l, N, options, ws.dx_other, 1, middle);
      if (!middle) return;
      norm_backward(layer.mlp_norm, ws.dx, 0, ws.dx_other, s.x_mid, s.mean2, s.rstd2, N);
      copy_rows(ws.dx_other, ws.dx, N, spec_.hidden_size);
      backward_attention(ws, l, tables, options, ws.dx_other, 1, input_gradient);
      if (input_gradient) norm_backward(layer.attention_norm, ws.dx, 0, ws.dx_other, s.x_in, s.mean1, s.rstd1, N);
      return;
    }
  }
}

void Decoder::backward(Workspace& ws, const BatchTables& tables, const PassOptions& options, const StopFlag& stop) {
  const int64_t N = tables.N, C = spec_.hidden_size;
  // Nothing is computed below the lowest layer that has something to train.
  int64_t lowest = 0;
  if (!trains_weights()) {
    auto layer_trains = [&](const Layer& layer) { return std::any_of(layer.linear.begin(), layer.linear.end(), [&](const Linear& x) { return trains(x); }); };
    while (lowest < spec_.layers && !layer_trains(model_.layers[size_t(lowest)])) ++lowest;
  }
  const AttentionShape shape = model_.attention_shape(tables.longest);
  const Attend attend = [&](int64_t, const LayerActivations& s) {
    const Qkv qkv = split(s.qkv);
    backend_.attention_forward({s.attention.data, s.attention.dtype, s.attention.ld, spec_.head_dim}, s.lse, qkv.q, qkv.k, qkv.v, sequences(ws, tables), shape);
  };
  for (int64_t l = spec_.layers - 1; l >= lowest; --l) {
    check_stop(stop);
    if (ws.shape.kind == WorkspaceKind::train_recompute) forward_layer(ws, l, N, options, attend, false);
    backward_layer(ws, l, tables, options, l > lowest || trains_weights());
  }
  if (!trains_weights()) return;
  float* grad = model_.matrices.grad + model_.embedding.offset;
  if (!model_.embedding.gradient_started) {
    backend_.fill_zero(grad, spec_.vocab_size * C * 4);
    model_.embedding.gradient_started = true;
  }
  Matrix d = ws.dx;
  if (spec_.embedding_norm) {
    // The embedding's rows were not kept: look them up again, with the statistics of their norm.
    backend_.embedding_forward(ws.dx_other, model_.embedding.weight.value, ws.input_ids, N, C);
    norm_forward(model_.embedding_norm, ws.normed, ws.head_mean, ws.head_rstd, ws.dx_other, N);
    norm_backward(model_.embedding_norm, ws.dx_third, 0, ws.dx, ws.dx_other, ws.head_mean, ws.head_rstd, N);
    d = ws.dx_third;
  }
  backend_.embedding_backward(grad, d, ws.input_ids, N, C);
}

void Decoder::begin_gradients() {
  auto start = [](Linear& linear) { linear.gradient_started = false; };
  for (Layer& layer : model_.layers) std::for_each(layer.linear.begin(), layer.linear.end(), start);
  start(model_.embedding);
  start(model_.head);
  if (trains_weights()) backend_.fill_zero(model_.vectors.grad, model_.vectors.count() * 4);
  if (model_.adapters.grad) backend_.fill_zero(model_.adapters.grad, model_.adapters.count() * 4);
}

int64_t Decoder::started_gradients() const {
  return int64_t(model_.layers.front().linear[kQkv].gradient_started) | int64_t(model_.embedding.gradient_started) << 1 | int64_t(model_.head.gradient_started) << 2;
}

/// What a backward pass leaves started; said again here, because a record of it changes nothing on the host.
void Decoder::note_layer_gradients() {
  if (!trains_weights()) return;
  for (Layer& layer : model_.layers) {
    for (Linear& linear : layer.linear) linear.gradient_started = true;
  }
  model_.embedding.gradient_started = true;
}

void Decoder::finish_gradients() {
  if (!trains_weights()) return;
  auto clear_unless_started = [&](Linear& linear) {
    if (!linear.gradient_started) backend_.fill_zero(model_.matrices.grad + linear.offset, linear.weight.rows * linear.weight.cols * 4);
  };
  if (spec_.head != HeadKind::tied) clear_unless_started(model_.head);  // no target in the whole step
  if (spec_.head == HeadKind::normalized) {
    // So far the gradient of the normalised rows; now that of the rows themselves.
    float* d = model_.matrices.grad + model_.head.offset;
    backend_.normalize_rows_backward(d, d, model_.normalized_head.value, model_.head_inverse_norm, spec_.vocab_size, spec_.hidden_size);
  }
}

}  // namespace polypaca
