// One optimiser step over the micro batches of a batch: forward, backward, clipping by global norm, AdamW.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "train/quantized_moments.h"

namespace polypaca {

struct TrainerOptions {
  bool full = false;  // full-parameter fine-tuning; otherwise the adapter
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  float weight_decay = 0, max_grad_norm = 1;
  bool quantized_moments = false;  // AdamW with moments of 8 bits
  bool recompute = false;
  int64_t micro_batch_tokens = 0;
  uint64_t seed = 0;
};

struct StepResult {
  double loss = 0, grad_norm = 0;
  int64_t tokens = 0, target_tokens = 0;
  double seconds = 0, forward_seconds = 0, backward_seconds = 0, optimizer_seconds = 0;
};

struct MemoryPlan {
  int64_t weights = 0, gradients = 0, optimizer = 0, activations = 0, head = 0;
  int64_t scratch = 0;  // what the back end's products keep between calls: taken during step 1, not before it
  int64_t total() const { return weights + gradients + optimizer + activations + head + scratch; }
};

/// What a model and its trainer will take, from shapes alone.
MemoryPlan plan_memory(const Model& model, const TrainerOptions& options);

class Trainer {
 public:
  /// Takes all memory the run needs, checked first. Throws out_of_memory with figures, invalid_argument where there is nothing to train.
  Trainer(std::shared_ptr<Model> model, std::shared_ptr<Decoder> decoder, TrainerOptions options);
  ~Trainer();

  /// Weights are unchanged where it throws (cancelled, not_finite, shape_mismatch).
  StepResult step(const std::vector<Batch>& micro_batches, float learning_rate, int64_t target_tokens, const StopFlag& stop);

  int64_t steps_taken() const { return steps_; }
  const MemoryPlan& memory() const { return memory_; }

  /// Optimiser state by name: "exp_avg.NAME", "exp_avg_sq.NAME", and "master.NAME" where the masters are not what the checkpoint holds.
  /// Moments of 8 bits are codes, and their scales stand beside them as "exp_avg_scale.NAME" and "exp_avg_sq_scale.NAME".
  struct StateTensor {
    std::string name;
    const Parameter* parameter;
    std::vector<int64_t> shape;
    StoredDType dtype;
    void* data;      // [product of shape] in dtype; a master is read and written through the model
    bool is_master;
    int64_t count() const;
  };
  std::vector<StateTensor> state() const;
  void read_state(const StateTensor& tensor, float* dst, int64_t first, int64_t n) const;
  void restore(const std::vector<TensorSource>& sources, int64_t steps_taken);

 private:
  const std::vector<Parameter>& trained() const { return options_.full ? model_->parameters : model_->adapter_parameters; }
  void update(const AdamWOptions& options);
  void write_state(const StateTensor& tensor, const float* src, int64_t first, int64_t n);
  std::vector<FlatValues*> trained_spaces() const;
  void values_changed();
  void release();

  std::shared_ptr<Model> model_;
  std::shared_ptr<Decoder> decoder_;
  TrainerOptions options_;
  MemoryPlan memory_;
  std::unique_ptr<QuantizedMoments> quantized_;  // instead of the spaces' fp32 moments
  int64_t steps_ = 0;
};

}  // namespace polypaca
