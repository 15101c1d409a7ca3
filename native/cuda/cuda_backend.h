// The CUDA back end: bf16 storage, fp32 sums. One object drives one device, on one stream, from one thread at a time. Each operation
// is defined in the file of its kernels.
#pragma once
#include <map>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "cuda/namespace.h"
#include "cuda/products.h"
#include "cuda/runtime.h"

namespace polypaca::POLYPACA_CUDA {

class CudaBackend final : public Backend {
 public:
  CudaBackend(const DeviceProperties& device, std::unique_ptr<Products> products);
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  // cuda_backend.cpp
  std::string describe() const override;
  void* allocate(int64_t bytes) override;
  void release(void* data) override;
  void copy_in(void* dst, const void* host, int64_t bytes) override;
  void copy_out(void* host, const void* src, int64_t bytes) override;
  void fill_zero(void* dst, int64_t bytes) override;
  MemoryLimits memory() const override;
  void run_recorded(const RecordKey& key, const std::function<void()>& work) override;
  bool records() const override;
  int64_t mark() override;
  double seconds_between(int64_t from, int64_t to) const override;
  void forget_marks() override;

  // rows.cu
  void convert(Matrix dst, Matrix src, int64_t rows, int64_t cols) override;
  void scaled_copy(Matrix dst, Matrix src, int64_t rows, int64_t cols, float scale) override;
  void join_halves(float* dst, const bf16* value, const int16_t* remainder, int64_t count) override;
  void gather_rows(Matrix y, Matrix x, const int32_t* indices, int64_t n, int64_t C) override;
  void scatter_rows(Matrix x, int64_t N, Matrix y, const int32_t* indices, int64_t n, int64_t C) override;
  void linear_backward_bias(float* db, Matrix dy, int64_t N, int64_t rows) override;

  // embedding.cu
  void embedding_forward(Matrix x, Matrix table, const int32_t* ids, int64_t N, int64_t C) override;
  void embedding_backward(float* d_table, Matrix dx, const int32_t* ids, int64_t N, int64_t C) override;

  // norm.cu
  void norm_forward(NormKind kind, Matrix y, float* mean, float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C, float epsilon) override;
  void norm_recompute(NormKind kind, Matrix y, const float* mean, const float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C) override;
  void norm_backward(NormKind kind, Matrix dx, float beta, float* dw, float* db, Matrix dy, Matrix x, const float* mean, const float* rstd, const float* w, int64_t N, int64_t C) override;

  // linear.cpp
  void prepare_weight(Weight& w, bool trained) override;
  void release_weight(Weight& w) override;
  int64_t prepared_bytes(int64_t rows, int64_t cols, DType dtype, bool trained) const override;
  void linear_forward(Matrix y, Matrix x, const Weight& w, const float* bias, const LoraTerm& lora, int64_t N, float beta) override;
  void linear_backward_input(Matrix dx, Matrix dy, const Weight& w, int64_t N, float beta) override;
  void linear_backward_weight(float* dw, int64_t ldw, Matrix dy, Matrix x, int64_t N, int64_t rows, int64_t cols, float alpha, float beta) override;
  int64_t scratch_bytes(const StepShapes& step) const override;

  // lora.cu
  void lora_down_forward(Matrix h, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) override;
  void lora_up_backward(Matrix dh, Matrix dy, Matrix up, int64_t N, int64_t rows, int64_t R) override;
  void lora_down_backward(Matrix dx, float* dA, Matrix dh, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) override;

  // attention_forward.cu, attention_backward.cu, attention_decode.cu
  void attention_forward(HeadView out, float* lse, HeadView q, HeadView k, HeadView v, const Sequences& sequences, const AttentionShape& shape) override;
  void attention_backward(HeadView dq, HeadView dk, HeadView dv, HeadView dout, HeadView out, const float* lse, HeadView q, HeadView k, HeadView v, void* scratch, const Sequences& sequences, const AttentionShape& shape) override;
  int64_t attention_scratch_bytes(int64_t N, const AttentionShape& shape) const override;
  void attention_decode(HeadView out, HeadView q, HeadView k, HeadView v, void* k_cache, void* v_cache, DType cache_dtype, const int32_t* source, const int32_t* cache_rows, const int32_t* positions, int64_t rows, int64_t max_length, const AttentionShape& shape) override;
  void cache_prompt(void* k_cache, void* v_cache, DType cache_dtype, HeadView k, HeadView v, int64_t first, int64_t T, int64_t row, int64_t max_length, const AttentionShape& shape) override;

  // activation.cu
  void activation_forward(Activation kind, Matrix a, Matrix u, int64_t N, int64_t I) override;
  void activation_backward(Activation kind, Matrix du, Matrix da, Matrix u, int64_t N, int64_t I) override;

  // normalized_head.cu
  void normalize_rows(Matrix w_hat, float* inv_norm, Matrix w, int64_t V, int64_t C) override;
  void normalize_rows_backward(float* dw, const float* d_hat, Matrix w_hat, const float* inv_norm, int64_t V, int64_t C) override;

  // cross_entropy.cu
  void cross_entropy(Matrix logits, float* losses, const int32_t* targets, int64_t rows, int64_t V, const float* grad_scale) override;

  // token_choice.cu
  void choose_tokens(float* log_sums, float* best, int32_t* tokens, Matrix scores, const ScoreChanges& changes, int64_t rows, int64_t V, int64_t count) override;

  // reduce.cu
  void add_losses(double* sum, const float* losses, int64_t rows) override;
  void add_squares(double* sum, const float* x, int64_t count) override;
  void finish_norm(StepState* state) override;

  // adamw.cu, adamw8bit.cu
  void adamw(const AdamWRange& range, const AdamWOptions& options) override;
  void adamw8bit(const AdamW8bitRange& range, const AdamWOptions& options) override;

 private:
  /// Memory that operations use for a while: each use has a block of its own, which grows to the largest wanted and stays.
  enum ScratchUse : uint8_t { kWorking, kRoundedInput, kBias, kWideOutput, kScratchUses };

  /// Work of this back end, in order; the calling thread's device is this back end's from then on.
  const Stream& stream();
  Products& products() { return *products_; }
  /// At least `bytes` on 256, until the next call for the same use. Not the first time, nor for more, while a graph is recorded.
  void* scratch(ScratchUse use, int64_t bytes);
  void* scratch(int64_t bytes) { return scratch(kWorking, bytes); }

  // linear.cpp
  Matrix in_bf16(Matrix m, int64_t rows, int64_t cols);
  const void* bias_for(const Matrix& y, const float* bias, int64_t rows);
  /// What operations ask of kWorking, each in its own file.
  static int64_t lora_scratch_bytes(int64_t N, int64_t C, int64_t R);
  static int64_t norm_scratch_bytes(int64_t N, int64_t C);
  static int64_t bias_scratch_bytes(int64_t N, int64_t rows);
  static int64_t embedding_scratch_bytes(int64_t N, int64_t C);
  static int64_t squares_scratch_bytes(int64_t count);

  struct ScratchBlock {
    void* data = nullptr;
    int64_t bytes = 0;
  };
  /// Page-locked memory on the way to the device: the host may go on while a slot is copied.
  struct UploadSlot {
    void* data = nullptr;
    Event copied;
    bool used = false;
  };
  static constexpr int64_t kSlotBytes = int64_t(1) << 20;
  static constexpr int kSlots = 4;

  DeviceProperties device_;
  Stream stream_;
  /// Empty until its key comes a second time: the first run grows scratch memory and chooses algorithms.
  std::map<RecordKey, Graph> graphs_;
  std::vector<std::unique_ptr<Event>> marks_;  // kept; the first marked_ are in use
  size_t marked_ = 0;
  std::unique_ptr<Products> products_;
  ScratchBlock scratch_[kScratchUses];
  UploadSlot slots_[kSlots];
  int next_slot_ = 0;
};

}  // namespace polypaca::POLYPACA_CUDA
