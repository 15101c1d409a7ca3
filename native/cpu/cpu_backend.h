// The CPU back end. Every file of this folder that defines its members is compiled once per instruction set, with POLYPACA_ISA
// (baseline, avx2, avx512) as the namespace; cpu_options.h names the one function that the dispatcher calls in each.
// In those files: raw pointers, POLYPACA_INLINE helpers and calls of out-of-line functions only. An inline or template function
// of the standard library could be linked from the AVX-512 object into the baseline path.
#pragma once
#include "backend/backend.h"
#include "cpu/cpu_options.h"
#include "cpu/gemm.h"
#include "cpu/onednn.h"

namespace polypaca::POLYPACA_ISA {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options);
  ~CpuBackend() override;
  CpuBackend(const CpuBackend&) = delete;
  CpuBackend& operator=(const CpuBackend&) = delete;

  // cpu_backend.cpp
  std::string describe() const override;

  // memory.cpp
  void* allocate(int64_t bytes) override;
  void release(void* data) override;
  void copy_in(void* dst, const void* host, int64_t bytes) override;
  void copy_out(void* host, const void* src, int64_t bytes) override;
  void fill_zero(void* dst, int64_t bytes) override;
  void convert(Matrix dst, Matrix src, int64_t rows, int64_t cols) override;
  void scaled_copy(Matrix dst, Matrix src, int64_t rows, int64_t cols, float scale) override;
  void join_halves(float* dst, const bf16* value, const int16_t* remainder, int64_t count) override;
  void gather_rows(Matrix y, Matrix x, const int32_t* indices, int64_t n, int64_t C) override;
  void scatter_rows(Matrix x, int64_t N, Matrix y, const int32_t* indices, int64_t n, int64_t C) override;

  // embedding.cpp
  void embedding_forward(Matrix x, Matrix table, const int32_t* ids, int64_t N, int64_t C) override;
  void embedding_backward(float* d_table, Matrix dx, const int32_t* ids, int64_t N, int64_t C) override;

  // norm.cpp
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
  void linear_backward_bias(float* db, Matrix dy, int64_t N, int64_t rows) override;

  // product_scratch.cpp
  int64_t scratch_bytes(const StepShapes& step) const override;

  // lora.cpp
  void lora_down_forward(Matrix h, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) override;
  void lora_up_backward(Matrix dh, Matrix dy, Matrix up, int64_t N, int64_t rows, int64_t R) override;
  void lora_down_backward(Matrix dx, float* dA, Matrix dh, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) override;

  // attention.cpp
  void attention_forward(HeadView out, float* lse, HeadView q, HeadView k, HeadView v, const Sequences& sequences, const AttentionShape& shape) override;
  void attention_backward(HeadView dq, HeadView dk, HeadView dv, HeadView dout, HeadView out, const float* lse, HeadView q, HeadView k, HeadView v, void* scratch, const Sequences& sequences, const AttentionShape& shape) override;
  int64_t attention_scratch_bytes(int64_t N, const AttentionShape& shape) const override;
  void attention_decode(HeadView out, HeadView q, HeadView k, HeadView v, void* k_cache, void* v_cache, DType cache_dtype, const int32_t* source, const int32_t* cache_rows, const int32_t* positions, int64_t rows, int64_t max_length, const AttentionShape& shape) override;
  void cache_prompt(void* k_cache, void* v_cache, DType cache_dtype, HeadView k, HeadView v, int64_t first, int64_t T, int64_t row, int64_t max_length, const AttentionShape& shape) override;

  // activation.cpp
  void activation_forward(Activation kind, Matrix a, Matrix u, int64_t N, int64_t I) override;
  void activation_backward(Activation kind, Matrix du, Matrix da, Matrix u, int64_t N, int64_t I) override;

  // normalized_head.cpp
  void normalize_rows(Matrix w_hat, float* inv_norm, Matrix w, int64_t V, int64_t C) override;
  void normalize_rows_backward(float* dw, const float* d_hat, Matrix w_hat, const float* inv_norm, int64_t V, int64_t C) override;

  // cross_entropy.cpp
  void cross_entropy(Matrix logits, float* losses, const int32_t* targets, int64_t rows, int64_t V, const float* grad_scale) override;
  void choose_tokens(float* log_sums, float* best, int32_t* tokens, Matrix scores, const ScoreChanges& changes, int64_t rows, int64_t V, int64_t count) override;
  void add_losses(double* sum, const float* losses, int64_t rows) override;

  // adamw.cpp
  void add_squares(double* sum, const float* x, int64_t count) override;
  void finish_norm(StepState* state) override;
  void adamw(const AdamWRange& range, const AdamWOptions& options) override;

  // adamw8bit.cpp
  void adamw8bit(const AdamW8bitRange& range, const AdamWOptions& options) override;

  /// The machine has AVX512-BF16 and this build may use it.
  bool bf16_dot() const { return options_.bf16_dot; }

 private:
  /// Whether a product with this matrix is one of bf16 values (AVX512-BF16) rather than of fp32.
  bool multiplies_bf16(const Matrix& m) const;

  // products.cpp
  /// The product by whoever computes products here: oneDNN where it is asked for and can, else our own gemm().
  void multiply(const GemmCall& call);
  bool multiply_with_onednn(const GemmCall& call);
  /// The operand itself, or a bf16 copy of it.
  Operand as_bf16(const Operand& m, int64_t count, int64_t K, GemmScratch::Block& copy);

  CpuOptions options_;
  GemmScratch gemm_scratch_;
  Onednn* onednn_ = nullptr;
  GemmScratch::Block bf16_a_, bf16_b_, adapter_sum_;  // beside oneDNN: factors in bf16, the adapter's term in fp32
};

}  // namespace polypaca::POLYPACA_ISA
