// Every operation the decoder and the trainer need, one pure virtual each. native/cpu implements them on the host,
// native/cuda on a GPU; the two do not know each other, and nothing above this line knows which one runs.
//
// Letters: S sequences, N tokens of a packed micro batch (sequences end to end, no padding), C hidden, I intermediate,
// H query heads, G key/value heads, D head dimension, V vocabulary, R (stacked) adapter rank.
// "adds" and "assigns" say what an output does to what was there. All offsets are int64_t.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/memory.h"
#include "core/random.h"

namespace polypaca {

/// A matrix somewhere in a back end's memory: rows are `ld` elements apart, columns are dense. The op says how many of each.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t ld = 0;
  POLYPACA_INLINE explicit operator bool() const { return data != nullptr; }
  /// The same matrix from (row, column) on.
  POLYPACA_INLINE Matrix at(int64_t row, int64_t column) const {
    return {static_cast<char*>(data) + (row * ld + column) * size_of(dtype), dtype, ld};
  }
};

/// Per-head vectors of a packed batch: element (n, h, d) at data[n * token_stride + h * head_stride + d].
/// Covers separate, concatenated ([q; k; v]) and per-head interleaved ([head][q, k, v]) layouts of one buffer.
struct HeadView {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t token_stride = 0, head_stride = 0;
};

/// Packed sequences: sequence s is tokens cu_seqlens[s] .. cu_seqlens[s + 1] - 1; positions start at 0 in each.
struct Sequences {
  const int32_t* cu_seqlens = nullptr;  // [S + 1]
  const int32_t* positions = nullptr;   // [N]
  int64_t S = 0, N = 0;
};

enum class NormKind : uint8_t { rms, layer };
enum class Activation : uint8_t { gelu_erf, gelu_tanh, swiglu };

/// Rotary embedding by halves (Su et al. 2021 as GPT-NeoX and LLaMA lay it out): within the first `rotary_dim` elements of a
/// head, (i, i + rotary_dim / 2) is turned by position * theta^(-2i / rotary_dim).
/// cos, sin: fp32 [max_position, rotary_dim / 2]. rotary_dim 0 means none.
struct Rope {
  int64_t rotary_dim = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

struct AttentionShape {
  int64_t H = 0, G = 0, D = 0;           // H is a multiple of G; query head h reads key/value head h / (H / G)
  float scale = 1.0f;                    // 1 / sqrt(D)
  Rope rope;
  const float* alibi_slopes = nullptr;   // [H] or null; adds slope * (key position - query position) to the scaled score
};

/// A linear layer's weight [rows = out features, cols = in features] and what a back end keeps prepared of it.
struct Weight {
  Matrix value;
  int64_t rows = 0, cols = 0;
  void* prepared = nullptr;  // owned by the back end: see prepare_weight
};

/// The adapter's share of a linear layer: y += h * up^T with h [N, R] and up [rows, R] (scaling already in it,
/// zero where a row's module has no adapter or the rank column belongs to another module). R = 0 means none.
struct LoraTerm {
  Matrix h, up;
  int64_t R = 0;
};

/// A product [M, K] x [K, N] that a run will ask for; M and K may turn out smaller (micro batches differ in length).
struct ProductShape {
  int64_t M = 0, N = 0, K = 0;
  int64_t R = 0;             // rank of the adapter's term in the same sums
  DType dtype = DType::f32;  // what is multiplied
  bool prepared = false;     // [K, N] is a weight that is not trained: see prepare_weight
  bool masked = false;       // [M, K] is read through a dropout mask
  bool rounded = false;      // [M, K] lies in memory as fp32 and is multiplied as bf16
};

/// What a training step is made of, as far as the memory depends on it that a back end keeps between operations.
struct StepShapes {
  std::vector<ProductShape> products;
  int64_t tokens = 0, hidden = 0;  // N and C of the largest micro batch
  int64_t trained_bias_rows = 0;   // of the widest bias that is trained; 0: none
  bool trains_norms = false, trains_embedding = false;
  int64_t gradient_run = 0;        // values of the longest contiguous run of gradients
};

/// Where trained values lie. Either fp32, perhaps with a bf16 copy for the products; or halves of an fp32 (core/dtype.h): the copy and
/// what is missing to it, 4 bytes instead of 6.
struct MasterValues {
  float* fp32 = nullptr;         // null where the values are halves
  bf16* copy = nullptr;          // what products read; null when computing in fp32
  int16_t* remainder = nullptr;  // with `copy` and without `fp32`
  POLYPACA_INLINE MasterValues at(int64_t i) const { return {fp32 ? fp32 + i : nullptr, copy ? copy + i : nullptr, remainder ? remainder + i : nullptr}; }
};

/// One contiguous run of trained values for the optimiser. All pointers to `count` elements.
struct AdamWRange {
  MasterValues master;       // updated in place
  float* m = nullptr;        // first moment
  float* v = nullptr;        // second moment
  const float* grad = nullptr;
  int64_t count = 0;
  float weight_decay = 0.0f;
};

/// Values of a moment that share a scale, in its 8-bit form.
constexpr int64_t kMomentBlock = 256;

/// As AdamWRange, with moments as 8-bit codes of dynamic tree quantisation. Blocks start every kMomentBlock values; the last may be short.
struct AdamW8bitRange {
  MasterValues master;
  uint8_t *m = nullptr, *v = nullptr;              // [count] codes: signed map, unsigned map
  float *m_scale = nullptr, *v_scale = nullptr;    // [blocks] largest magnitude of each block; 0: all of it is zero, whatever the codes
  const float* grad = nullptr;
  int64_t count = 0;
  float weight_decay = 0.0f;
};

/// A step's scalars. They lie in the back end's memory and kernels read them there, so that launches captured once serve every step.
struct StepState {
  // uploaded before the step
  uint32_t dropout_key[2] = {0, 0};        // of (seed, step)
  float grad_scale = 1.0f;                 // 1 / targets of the whole step
  float learning_rate = 0.0f;
  float step_size = 0.0f;                  // learning_rate / (1 - beta1^step)
  float inverse_sqrt_correction2 = 1.0f;   // 1 / sqrt(1 - beta2^step)
  float max_grad_norm = 0.0f;              // 0: gradients are not clipped
  // left by the step
  float clip = 1.0f;                       // what the optimiser multiplies every gradient by
  int32_t applies = 1;                     // 0: the loss or the norm is not finite, the optimiser changes nothing
  int32_t reserved = 0;
  double loss_sum = 0.0;                   // of the token losses of all micro batches
  double sum_of_squares = 0.0;             // of all gradients
};

/// The state's share of the optimiser's step number `step`, 1 being the first.
POLYPACA_INLINE void set_update(StepState& state, float learning_rate, double beta1, double beta2, int64_t step) {
  state.learning_rate = learning_rate;
  state.step_size = float(double(learning_rate) / (1.0 - std::pow(beta1, double(step))));
  state.inverse_sqrt_correction2 = float(1.0 / std::sqrt(1.0 - std::pow(beta2, double(step))));
}

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // double: 1 - 0.999f is 1.3e-5 off, and so would the second moment be
  const StepState* state = nullptr;                   // in the back end's memory
};

/// How scores change before tokens are chosen by them, in this order: transformers' logits processors.
struct ScoreChanges {
  bool log_probabilities = false;       // x becomes x - logsumexp(x)
  float repetition_penalty = 1.0f;      // of `penalised`: x < 0 ? x * penalty : x / penalty (Keskar et al. 2019)
  const int32_t* penalised = nullptr;   // [count][2]: (row, token), each pair once, rows ascending
  int64_t penalised_count = 0;
  const int32_t* banned = nullptr;      // [count][2], rows ascending: these become -inf
  int64_t banned_count = 0;
};

/// choose_tokens finds no more than these: twice the most beams.
constexpr int64_t kMostChosen = 128;

/// What tells one record of queued work from another; meaning is the caller's.
using RecordKey = std::array<int64_t, 6>;

class Backend {
 public:
  Backend();
  virtual ~Backend();

  // ---- memory and transfers (host pointers on one side, back-end pointers on the other) ----
  virtual std::string describe() const = 0;             // "cpu avx512 bf16, portable products, 2 threads"
  virtual void* allocate(int64_t bytes) = 0;            // 64-byte aligned, committed; throws out_of_memory
  virtual void release(void* data) = 0;
  virtual void copy_in(void* dst, const void* host, int64_t bytes) = 0;
  virtual void copy_out(void* host, const void* src, int64_t bytes) = 0;  // waits for what was queued before
  virtual void fill_zero(void* dst, int64_t bytes) = 0;
  /// How much may still be taken: the host's memory, unless a back end has its own.
  virtual MemoryLimits memory() const;

  // ---- the order of work ----
  /// Runs `work`. A back end that records() may keep what it queued and launch that record when the key comes again. So for one key
  /// `work` must queue the same operations on the same memory: what differs from call to call is in that memory. It may not copy in or
  /// out, nor keep anything on the host. Records are forgotten when memory is released.
  virtual void run_recorded(const RecordKey& key, const std::function<void()>& work);
  virtual bool records() const;
  /// A moment in the order of what is queued, for seconds_between; not inside recorded work.
  virtual int64_t mark();
  /// Once all that is queued is done: copy_out waits for that.
  virtual double seconds_between(int64_t from, int64_t to) const;
  /// Marks count from 0 again.
  virtual void forget_marks();

  // ---- conversions ----
  /// dst = src, converted; [rows, cols].
  virtual void convert(Matrix dst, Matrix src, int64_t rows, int64_t cols) = 0;
  /// dst = scale * src, converted; [rows, cols].
  virtual void scaled_copy(Matrix dst, Matrix src, int64_t rows, int64_t cols, float scale) = 0;
  /// dst fp32 [count] = the values that halves make together.
  virtual void join_halves(float* dst, const bf16* value, const int16_t* remainder, int64_t count) = 0;
  /// y[i] = x[indices[i]] for n rows of C.
  virtual void gather_rows(Matrix y, Matrix x, const int32_t* indices, int64_t n, int64_t C) = 0;
  /// x[indices[i]] = y[i] for n rows of C, every other of the N rows is set to zero. Indices ascend.
  virtual void scatter_rows(Matrix x, int64_t N, Matrix y, const int32_t* indices, int64_t n, int64_t C) = 0;

  // ---- embedding ----
  virtual void embedding_forward(Matrix x, Matrix table, const int32_t* ids, int64_t N, int64_t C) = 0;
  /// d_table [V, C] fp32 adds dx of every occurrence, in token order (deterministic).
  virtual void embedding_backward(float* d_table, Matrix dx, const int32_t* ids, int64_t N, int64_t C) = 0;

  // ---- norms: w, b fp32 [C] (b null for rms); mean (layer only), rstd fp32 [N] are assigned by forward ----
  virtual void norm_forward(NormKind kind, Matrix y, float* mean, float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C, float epsilon) = 0;
  /// y again from x and the saved statistics (what forward wrote, bit for bit).
  virtual void norm_recompute(NormKind kind, Matrix y, const float* mean, const float* rstd, Matrix x, const float* w, const float* b, int64_t N, int64_t C) = 0;
  /// dx = beta * dx + its gradient (beta 0 or 1); dw, db [C] add; dw (and db) may be null: frozen.
  virtual void norm_backward(NormKind kind, Matrix dx, float beta, float* dw, float* db, Matrix dy, Matrix x, const float* mean, const float* rstd, const float* w, int64_t N, int64_t C) = 0;

  // ---- linear layers ----
  /// Lets the back end lay a weight out for its products: once after loading, and again whenever `value` changed.
  /// `trained` weights change every step; a back end may then choose to prepare nothing. Frees nothing else; see release_weight.
  virtual void prepare_weight(Weight& w, bool trained) = 0;
  virtual void release_weight(Weight& w) = 0;
  /// Bytes that prepare_weight will keep for a weight of this shape.
  virtual int64_t prepared_bytes(int64_t rows, int64_t cols, DType dtype, bool trained) const = 0;
  /// y [N, rows] = beta * y + x w^T + bias + lora.h lora.up^T; bias fp32 [rows] or null. beta 0 or 1.
  virtual void linear_forward(Matrix y, Matrix x, const Weight& w, const float* bias, const LoraTerm& lora, int64_t N, float beta) = 0;
  /// dx [N, cols] = beta * dx + dy w.
  virtual void linear_backward_input(Matrix dx, Matrix dy, const Weight& w, int64_t N, float beta) = 0;
  /// dw fp32 [rows, cols], row stride ldw, = beta * dw + alpha * dy^T x.
  virtual void linear_backward_weight(float* dw, int64_t ldw, Matrix dy, Matrix x, int64_t N, int64_t rows, int64_t cols, float alpha, float beta) = 0;
  /// Most memory that operations keep between calls once such a step has run. Not allocated by the caller: the back end takes it at the
  /// first call that needs it.
  virtual int64_t scratch_bytes(const StepShapes& step) const = 0;
  /// db fp32 [rows] adds the column sums of dy.
  virtual void linear_backward_bias(float* db, Matrix dy, int64_t N, int64_t rows) = 0;

  // ---- adapters: A [R, C] stacks the modules that read x; one dropout mask for all of them ----
  /// h [N, R] = dropout(x) A^T.
  virtual void lora_down_forward(Matrix h, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) = 0;
  /// dh [N, R] = dy up, with up [rows, R] as in LoraTerm.
  virtual void lora_up_backward(Matrix dh, Matrix dy, Matrix up, int64_t N, int64_t rows, int64_t R) = 0;
  /// dA fp32 [R, C] adds dh^T dropout(x); dx adds mask * (dh A) unless dx is empty (nothing below is trained).
  virtual void lora_down_backward(Matrix dx, float* dA, Matrix dh, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) = 0;

  // ---- attention: causal, inside each sequence; lse fp32 [N, H] is assigned by forward and read by backward ----
  /// out = softmax(scale q k^T + bias) v. q and k may be rotated in place: backward must be given what forward left there.
  virtual void attention_forward(HeadView out, float* lse, HeadView q, HeadView k, HeadView v, const Sequences& sequences, const AttentionShape& shape) = 0;
  /// dq, dk, dv assign (gradients of the unrotated q and k). They may not overlap q, k, v. scratch: attention_scratch_bytes().
  virtual void attention_backward(HeadView dq, HeadView dk, HeadView dv, HeadView dout, HeadView out, const float* lse, HeadView q, HeadView k, HeadView v, void* scratch, const Sequences& sequences, const AttentionShape& shape) = 0;
  virtual int64_t attention_scratch_bytes(int64_t N, const AttentionShape& shape) const = 0;
  /// One new token per row: rotates q and k at `positions`, writes k and v into the caches at (cache_rows[r], positions[r]), then
  /// attends over positions 0 .. positions[r], where position t is read from cache row source[r * max_length + t] (its own
  /// position is in cache_rows[r] whatever `source` says). Beams share what they have in common through `source`.
  /// Caches [cache rows, max_length, G, D] in `cache_dtype`; out, q, k, v have one token per row.
  virtual void attention_decode(HeadView out, HeadView q, HeadView k, HeadView v, void* k_cache, void* v_cache, DType cache_dtype, const int32_t* source, const int32_t* cache_rows, const int32_t* positions, int64_t rows, int64_t max_length, const AttentionShape& shape) = 0;
  /// After a prompt's attention_forward (q, k rotated): copies its k and v into one cache row. Tokens first .. first + T - 1 of the batch.
  virtual void cache_prompt(void* k_cache, void* v_cache, DType cache_dtype, HeadView k, HeadView v, int64_t first, int64_t T, int64_t row, int64_t max_length, const AttentionShape& shape) = 0;

  // ---- MLP ----
  /// a [N, I] = gelu(u [N, I]), or silu(u[:, :I]) * u[:, I:] for swiglu with u [N, 2I].
  virtual void activation_forward(Activation kind, Matrix a, Matrix u, int64_t N, int64_t I) = 0;
  /// du from da and u; du may be u itself.
  virtual void activation_backward(Activation kind, Matrix du, Matrix da, Matrix u, int64_t N, int64_t I) = 0;

  // ---- head and loss ----
  /// What of w [V, C] is its direction: w_hat[v] = w[v] / |w[v]|, inv_norm [V] = 1 / |w[v]| (Baichuan-2's head).
  /// |w[v]| is taken as at least 1e-12, so that a row of zeros stays one (torch.nn.functional.normalize's floor).
  virtual void normalize_rows(Matrix w_hat, float* inv_norm, Matrix w, int64_t V, int64_t C) = 0;
  /// dw assigns (d_hat - w_hat (w_hat . d_hat)) * inv_norm, row by row; d_hat fp32 [V, C], dw may be d_hat itself.
  virtual void normalize_rows_backward(float* dw, const float* d_hat, Matrix w_hat, const float* inv_norm, int64_t V, int64_t C) = 0;
  /// Per row r of `rows`: losses[r] = logsumexp(logits[r]) - logits[r][targets[r]] (fp32, assigned); a negative target is the
  /// ignored label: loss 0, gradient 0.
  /// Unless grad_scale is null, logits[r] becomes (softmax - onehot) * *grad_scale in place, in the logits' dtype.
  virtual void cross_entropy(Matrix logits, float* losses, const int32_t* targets, int64_t rows, int64_t V, const float* grad_scale) = 0;
  /// log_sums[r] = logsumexp(scores[r]) of the scores as given (fp32, assigned); then scores fp32 [rows, V] change in place; then
  /// best[r][i] and tokens[r][i] for i < count (0 to kMostChosen, at most V) are the largest, best first, ties to the smaller token. NaN
  /// is never chosen: where a row has too few other scores, the rest is -inf and token -1.
  virtual void choose_tokens(float* log_sums, float* best, int32_t* tokens, Matrix scores, const ScoreChanges& changes, int64_t rows, int64_t V, int64_t count) = 0;
  /// *sum adds the losses, in double and in order.
  virtual void add_losses(double* sum, const float* losses, int64_t rows) = 0;

  // ---- optimiser ----
  /// *sum adds the squares, in double over fixed chunks added in order: the same for any thread count.
  virtual void add_squares(double* sum, const float* x, int64_t count) = 0;
  /// From the step's sums: clip = min(1, max_grad_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ defines it, and applies.
  virtual void finish_norm(StepState* state) = 0;
  /// Adam with decoupled decay (Loshchilov & Hutter 2019): p *= 1 - lr * wd, then p -= lr * mhat / (sqrt(vhat) + epsilon).
  virtual void adamw(const AdamWRange& range, const AdamWOptions& options) = 0;
  /// The same step with fp32 moments read from and rounded back to codes (Dettmers et al. 2022, arXiv:2110.02861). A positive second
  /// moment is never rounded to 0.
  virtual void adamw8bit(const AdamW8bitRange& range, const AdamWOptions& options) = 0;

 private:
  std::vector<double> marks_;  // seconds
};

/// What this build and machine have: filled by open_backend and shown by `doctor`.
struct CpuFeatures {
  std::string isa;          // "avx512", "avx2", "baseline": the kernels in use
  bool bf16_dot = false;    // AVX512-BF16
  bool amx_bf16 = false;
  std::string gemm;         // whose dense products: "portable", our own, or "oneDNN 2.6.3"
  std::string onednn;       // the version this build was linked with; empty without it
  int threads = 1;
};

CpuFeatures cpu_features();

/// Ceiling of every dense product on the CPU in GFLOP/s: the micro-kernel alone, all threads, panels in the cache; takes about `milliseconds`.
double measure_micro_kernel(DType dtype, double milliseconds);

/// The CPU back end with the best kernels for this machine.
std::shared_ptr<Backend> open_cpu_backend();

struct CudaDevice {
  int index = 0;
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int64_t total_memory = 0;
};

struct CudaFeatures {
  bool built = false;
  bool emulator = false;             // "cuda-emulated" can be opened
  std::string problem;               // built, but not usable: what is missing, with the driver's own words
  std::vector<CudaDevice> devices;
};

CudaFeatures cuda_features();

/// `device`: "cpu", "cuda" (the first), "cuda:<n>" or "cuda-emulated" (CUDA's kernels as C++, for tests). Throws unsupported with what
/// is missing: the build, the driver or the device.
std::shared_ptr<Backend> open_backend(const std::string& device);

struct DeviceMemory {
  int64_t held = 0, most_held = 0;  // bytes of this process now, and the most since it started: on a GPU what its back ends allocated
  int64_t available = 0;            // what it may still take
  int64_t total = 0;
};

/// As open_backend's `device`.
DeviceMemory device_memory(const std::string& device);

/// GFLOP/s that no product exceeds on the CPU (see measure_micro_kernel); on a GPU those of the fastest large bf16 product.
double measure_peak(const std::string& device, DType dtype, double milliseconds);

}  // namespace polypaca
