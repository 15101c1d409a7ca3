// The one forward and the one backward pass. What families differ in is in the spec; see decoder_spec.h.
#pragma once
#include <atomic>
#include <functional>
#include <memory>

#include "model/batch.h"
#include "model/model.h"
#include "model/workspace.h"

namespace polypaca {

using StopFlag = std::atomic<bool>;

/// Throws cancelled where the flag is set.
void check_stop(const StopFlag& stop);

/// A pass over one micro batch. What changes from step to step is in the decoder's StepState.
struct PassOptions {
  bool with_dropout = false;
};

/// First entry of the keys of recorded work.
enum RecordedWork : int64_t { kForwardRecord, kHeadRecord, kBackwardRecord, kUpdateRecord, kDecodeRecord };

/// Marks of a micro batch, and what of the head's time was forward: it runs forward and backward a chunk at a time.
struct PassMoments {
  int64_t start = 0, forward = 0, head = 0, backward = 0;  // when each part was over
  double head_forward_share = 0;
};

class Decoder {
 public:
  Decoder(Model& model) : model_(model), backend_(*model.backend), spec_(model.spec) {}
  ~Decoder();

  /// A workspace of this kind for at least `tokens` tokens; kept and used again. Memory is checked before it is taken.
  Workspace& workspace(WorkspaceKind kind, int64_t tokens);
  /// The same without memory: what training would take.
  Workspace plan_training(bool recompute, int64_t tokens, bool full) const;
  void release_workspaces();

  /// Attention of a pass (packed, or one token against a cache), or what follows it.
  using Attend = std::function<void(int64_t layer, const LayerActivations&)>;
  /// What the passes read of a batch, to the back end's memory.
  void upload(Workspace& ws, const std::vector<int32_t>& input_ids, const BatchTables& tables);
  /// Runs all layers over what was uploaded; the residual stream is then in ws.x_out. `after_attention` sees each layer's
  /// rotated keys and values (a cache is filled from them).
  void forward(Workspace& ws, const BatchTables& tables, const PassOptions& options, const StopFlag& stop, const Attend& after_attention = {});
  /// Before the passes of a step, and when they are done: the step's scalars, in the back end's memory in between.
  void begin_step(const StepState& state);
  StepState read_step() const;
  StepState* step_state();

  /// Adds the losses of all rows that have a target to the step's. With `backward`, logits' gradients flow into the head and into ws.dx.
  /// Returns the seconds of it that were forward, the loss included; of no meaning where the back end queues its work.
  double head_loss(Workspace& ws, const BatchTables& tables, bool backward, const StopFlag& stop);
  /// One micro batch of a step: its losses are added to the step's, its gradients to the gradients. Where the back end records, the
  /// batch is padded and its passes are three records.
  PassMoments train_micro_batch(Workspace& ws, const Batch& batch, BatchTables tables, const PassOptions& options, const StopFlag& stop);
  /// From ws.dx to the gradients of everything that is trained (whatever has a gradient buffer).
  void backward(Workspace& ws, const BatchTables& tables, const PassOptions& options, const StopFlag& stop);

  /// fp32 logits of rows first .. first + n - 1 of the last forward pass, to the host.
  void logits(Workspace& ws, int64_t first, int64_t n, float* host);

  /// Which gradients hold something already in this step: bits for the layers, the embedding and the head.
  int64_t started_gradients() const;
  /// Before the first micro batch of a step, and after the last one.
  void begin_gradients();
  void finish_gradients();

  /// Embedding (and its norm) of N ids.
  void embed(Workspace& ws, const int32_t* ids, int64_t N, Matrix x);
  /// Runs one layer. Without `output` only what its backward pass reads is computed.
  void forward_layer(Workspace& ws, int64_t layer, int64_t N, const PassOptions& options, const Attend& attend, bool output);
  /// Views of q, k and v in a fused buffer.
  struct Qkv {
    HeadView q, k, v;
  };
  Qkv split(Matrix qkv) const;
  /// Final norm and head for n rows of `x` (compute type scratch in ws); fp32 logits stay on the back end in `out`.
  void head_rows(Workspace& ws, Matrix x, int64_t n, Matrix out);

 private:
  void linear_forward(Workspace& ws, Linear& linear, LinearSite site, int64_t layer, Matrix y, Matrix x, LayerActivations& saved, float beta, const PassOptions& options, int64_t N);
  void linear_backward(Workspace& ws, Linear& linear, LinearSite site, int64_t layer, Matrix dy, Matrix x, const LayerActivations& saved, Matrix dx, float beta, const PassOptions& options, int64_t N);
  void backward_layer(Workspace& ws, int64_t layer, const BatchTables& tables, const PassOptions& options, bool input_gradient);
  void backward_mlp(Workspace& ws, int64_t layer, int64_t N, const PassOptions& options, Matrix d_norm, float beta, bool input_gradient);
  void backward_attention(Workspace& ws, int64_t layer, const BatchTables& tables, const PassOptions& options, Matrix d_norm, float beta, bool input_gradient);
  Dropout dropout(const Workspace& ws, LinearSite site, int64_t layer, const PassOptions& options) const;
  WorkspaceShape shape_of(WorkspaceKind kind, int64_t tokens, bool trains_head) const;
  Sequences sequences(const Workspace& ws, const BatchTables& tables) const;
  void norm_forward(const Norm& norm, Matrix y, float* mean, float* rstd, Matrix x, int64_t N);
  void norm_recompute(const Norm& norm, Matrix y, const float* mean, const float* rstd, Matrix x, int64_t N);
  void norm_backward(const Norm& norm, Matrix dx, float beta, Matrix dy, Matrix x, const float* mean, const float* rstd, int64_t N);
  void note_layer_gradients();
  bool trains_weights() const { return model_.matrices.grad != nullptr; }
  bool trains(const Linear& linear) const { return trains_weights() || (model_.adapters.grad && linear.adapter.R > 0); }
  void copy_rows(Matrix dst, Matrix src, int64_t N, int64_t C) {
    if (dst.data != src.data) backend_.convert(dst, src, N, C);
  }

  Model& model_;
  Backend& backend_;
  const DecoderSpec& spec_;
  struct Held {
    std::unique_ptr<Arena> arena;
    std::unique_ptr<Workspace> workspace;
  };
  Held held_[3];
  StepState* step_state_ = nullptr;  // in the back end's memory
};

}  // namespace polypaca
