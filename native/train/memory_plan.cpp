// What training will take, from shapes alone.
#include <algorithm>
#include <vector>

#include "train/trainer.h"

namespace polypaca {
namespace {

/// The products of one linear layer, forward and backward, over up to N tokens. `rounded`: the gradient of its output is fp32, the
/// products are not.
void add_linear(std::vector<ProductShape>& list, int64_t N, int64_t rows, int64_t cols, int64_t R, bool full, DType dtype, bool rounded) {
  list.push_back({N, rows, cols, R, dtype, !full});
  list.push_back({N, cols, rows, 0, dtype, !full, false, rounded});
  if (full) list.push_back({rows, cols, N, 0, dtype});
  if (R == 0) return;
  list.push_back({N, R, cols, 0, dtype, false, true});  // down
  list.push_back({N, R, rows, 0, dtype});               // gradient of the hidden
  list.push_back({rows, R, N, 0, dtype});               // of B
  list.push_back({R, cols, N, 0, dtype});               // of A
  list.push_back({N, cols, R, 0, dtype});               // of the input
}

/// Layers have the same shapes; their ranks are at most `shape.ranks`.
std::vector<ProductShape> training_products(const Model& m, const TrainerOptions& options, const WorkspaceShape& shape) {
  std::vector<ProductShape> list;
  for (size_t site = 0; site < kLinearSites; ++site) {
    const Weight& weight = m.layers.front().linear[site].weight;
    const bool adds_to_residual = site == kAttentionOutput || site == kMlpDown;
    add_linear(list, shape.tokens, weight.rows, weight.cols, shape.ranks[site], options.full, shape.compute, adds_to_residual && shape.residual != shape.compute);
  }
  add_linear(list, shape.head_rows, m.spec.vocab_size, m.spec.hidden_size, 0, options.full, shape.compute, false);
  return list;
}

StepShapes step_shapes(const Model& m, const TrainerOptions& options, const WorkspaceShape& shape) {
  StepShapes step;
  step.products = training_products(m, options, shape);
  step.tokens = shape.tokens, step.hidden = m.spec.hidden_size;
  step.trains_norms = step.trains_embedding = options.full;
  for (const Linear& linear : m.layers.front().linear) {
    if (options.full && linear.bias >= 0) step.trained_bias_rows = std::max(step.trained_bias_rows, linear.weight.rows);
  }
  step.gradient_run = options.full ? std::max(m.matrices.count(), m.vectors.count()) : m.adapters.count();
  return step;
}

}  // namespace

MemoryPlan plan_memory(const Model& m, const TrainerOptions& options) {
  MemoryPlan plan;
  const bool low = m.options.dtype == DType::bf16;
  const int64_t matrices = m.matrices.count(), vectors = m.vectors.count(), adapters = m.adapters.count();
  plan.weights = matrices * (low ? 2 : 4) + vectors * 4 + adapters * (low ? 6 : 4);
  auto prepared = [&](const Weight& w) { plan.weights += m.backend->prepared_bytes(w.rows, w.cols, m.options.dtype, options.full); };
  for (const Layer& layer : m.layers) {
    for (const Linear& linear : layer.linear) prepared(linear.weight);
  }
  prepared(m.embedding.weight.rows > 0 && m.spec.head == HeadKind::tied ? m.embedding.weight : m.head.weight);
  if (m.spec.head == HeadKind::normalized) plan.weights += m.spec.vocab_size * m.spec.hidden_size * (low ? 2 : 4);
  const int64_t trained = options.full ? matrices + vectors : adapters;
  plan.gradients = trained * 4;
  const int64_t moments = options.quantized_moments ? QuantizedMoments::bytes(options.full ? m.parameters : m.adapter_parameters) : trained * 8;
  plan.optimizer = moments + (options.full && low ? matrices * 2 : 0);
  Workspace ws = Decoder(const_cast<Model&>(m)).plan_training(options.recompute, options.micro_batch_tokens, options.full);
  plan.head = ws.head_bytes;
  plan.activations = ws.total_bytes - ws.head_bytes;
  plan.scratch = m.backend->scratch_bytes(step_shapes(m, options, ws.shape));
  return plan;
}

}  // namespace polypaca
