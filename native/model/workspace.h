// Everything a pass over a micro batch needs besides the weights, laid out in one arena.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "core/arena.h"
#include "model/decoder_spec.h"

namespace polypaca {

/// What one layer leaves for its backward pass.
struct LayerActivations {
  Matrix x_in, x_mid;                                   // [N, C] residual stream before the block and between its halves (sequential)
  float *mean1 = nullptr, *rstd1 = nullptr;             // [N] statistics of the norm before attention
  float *mean2 = nullptr, *rstd2 = nullptr;             // [N] of the norm before the MLP
  Matrix qkv, attention;                                // [N, (H + 2G) D], [N, H D]
  float* lse = nullptr;                                 // [N, H]
  Matrix u;                                             // [N, I] or [N, 2I]: what the activation reads
  std::array<Matrix, kLinearSites> h;                   // [N, R] adapters' hidden
};

enum class WorkspaceKind {
  forward,          // layers share their buffers, the residual stream is updated in place
  train,            // every layer keeps its own
  train_recompute,  // every layer keeps its input, the rest is computed again
};

struct WorkspaceShape {
  WorkspaceKind kind = WorkspaceKind::forward;
  int64_t tokens = 0;                                   // capacity N
  DType compute = DType::f32, residual = DType::f32;
  std::array<int64_t, kLinearSites> ranks{};            // stacked adapter rank of each site (the largest over the layers)
  int64_t head_rows = 0;                                // rows of a chunk of logits
  bool head_gradient = false;                           // a gradient of the normalised head's rows is kept
};

class Workspace {
 public:
  /// Lays everything out; with a counting arena only the bytes are known.
  Workspace(const DecoderSpec& spec, const Backend& backend, const WorkspaceShape& shape, Arena& arena);

  WorkspaceShape shape;
  std::vector<LayerActivations> layers;                 // L entries; buffers coincide where the kind allows
  Matrix x_out;                                         // [N, C] after the last layer
  Matrix normed;                                        // [N, C] compute type: a norm's output
  Matrix hidden;                                        // [N, I] compute type: the activation's output
  // backward only
  Matrix dx, dx_other, dx_third;                        // [N, C] gradient of the residual stream, and of the norms' outputs
  Matrix d_hidden;                                      // [N, I] gradient of the activation's output
  Matrix d_attention, d_qkv;                            // [N, H D], [N, (H + 2G) D]
  Matrix dh;                                            // [N, largest R]
  void* attention_scratch = nullptr;
  // head: rows that have a target
  Matrix head_x, head_normed, d_head_normed;            // [N, C]
  float *head_mean = nullptr, *head_rstd = nullptr;     // [N]
  Matrix logits;                                        // [head_rows, V]
  float* losses = nullptr;                              // [N]
  // tables
  int32_t *input_ids = nullptr, *positions = nullptr, *examples = nullptr, *cu_seqlens = nullptr, *target_rows = nullptr, *targets = nullptr;
  int64_t head_bytes = 0, total_bytes = 0;              // for MemoryPlan
};

/// Rows of a chunk of logits. Small chunks keep memory low; but every chunk reads the head's weight, and in full fine-tuning
/// reads and writes its gradient (8 bytes an entry against 2 * rows operations), so training the head wants more rows.
int64_t head_chunk_rows(int64_t tokens, int64_t vocab_size, DType compute, bool trains_head);

}  // namespace polypaca
