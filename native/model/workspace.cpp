#include "model/workspace.h"

#include <algorithm>

namespace polypaca {

int64_t head_chunk_rows(int64_t tokens, int64_t vocab_size, DType compute, bool trains_head) {
  const int64_t budget = (trains_head ? int64_t(160) : int64_t(64)) << 20, least = 256;
  int64_t rows = std::max(least, budget / (vocab_size * size_of(compute))) / 16 * 16;
  return std::max<int64_t>(1, std::min(rows, tokens));
}

Workspace::Workspace(const DecoderSpec& spec, const Backend& backend, const WorkspaceShape& s, Arena& arena) : shape(s) {
  const int64_t N = s.tokens, C = spec.hidden_size, QKV = spec.qkv_size(), HD = spec.q_size(), H = spec.heads;
  const bool training = s.kind != WorkspaceKind::forward, keeps_all = s.kind == WorkspaceKind::train;
  auto residual = [&] { return arena.matrix(N, C, s.residual); };
  auto activations = [&] {
    LayerActivations a;
    a.mean1 = arena.take<float>(N);
    a.rstd1 = arena.take<float>(N);
    a.mean2 = arena.take<float>(N);
    a.rstd2 = arena.take<float>(N);
    a.qkv = arena.matrix(N, QKV, s.compute);
    a.attention = arena.matrix(N, HD, s.compute);
    a.lse = arena.take<float>(N * H);
    a.u = arena.matrix(N, spec.up_size(), s.compute);
    for (int site = 0; site < kLinearSites; ++site) {
      if (s.ranks[size_t(site)] > 0) a.h[size_t(site)] = arena.matrix(N, s.ranks[size_t(site)], s.compute);
    }
    if (training && spec.residual != Residual::parallel) a.x_mid = residual();
    return a;
  };
  input_ids = arena.take<int32_t>(N);
  positions = arena.take<int32_t>(N);
  examples = arena.take<int32_t>(N);
  cu_seqlens = arena.take<int32_t>(N + 1);
  target_rows = arena.take<int32_t>(N);
  targets = arena.take<int32_t>(N);

  x_out = residual();
  LayerActivations shared;
  if (!keeps_all) shared = activations();
  for (int64_t l = 0; l < spec.layers; ++l) {
    LayerActivations a = keeps_all ? activations() : shared;
    a.x_in = training ? residual() : x_out;
    if (!training) a.x_mid = x_out;
    layers.push_back(a);
  }
  normed = arena.matrix(N, C, s.compute);
  hidden = arena.matrix(N, spec.intermediate_size, s.compute);
  if (training) {
    dx = residual();
    dx_other = residual();
    if (spec.residual == Residual::parallel || spec.embedding_norm) dx_third = residual();
    d_hidden = arena.matrix(N, spec.intermediate_size, s.compute);
    d_attention = arena.matrix(N, HD, s.compute);
    d_qkv = arena.matrix(N, QKV, s.compute);
    const int64_t R = *std::max_element(s.ranks.begin(), s.ranks.end());
    if (R > 0) dh = arena.matrix(N, R, s.compute);
    AttentionShape attention;
    attention.H = H;
    attention.G = spec.kv_heads;
    attention.D = spec.head_dim;
    attention_scratch = arena.take<char>(backend.attention_scratch_bytes(N, attention));
  }
  const int64_t before_head = arena.used();
  head_x = residual();
  head_normed = arena.matrix(N, C, s.compute);
  head_mean = arena.take<float>(N);
  head_rstd = arena.take<float>(N);
  losses = arena.take<float>(N);
  logits = arena.matrix(s.head_rows, spec.vocab_size, s.compute);
  if (training) d_head_normed = residual();
  head_bytes = arena.used() - before_head;
  total_bytes = arena.used();
}

}  // namespace polypaca
