// One entry per operation of native/backend/backend.h. Arguments carry that file's names in camelCase where they are words and
// as they are where they are letters (N, C, dw, A); arrays are dense, row-major Float32Array and Int32Array.
//
// Shared by all ops:
//   device         "cpu" (default), "cuda", "cuda:<n>" or "cuda-emulated"; CUDA takes "bf16" where a tensor core multiplies
//   dtype          "fp32" (default) or "bf16": the type of activations and compute weights. Inputs are rounded to it on the way in,
//                  results are widened to fp32 on the way out.
//   residualDtype  the type of the residual stream (x and dx of norms, x of the embedding, y and dx of linear layers and adapters);
//                  default: dtype
//   gradientDtype  the type of dy of linear layers and adapters, where it is the residual stream's gradient; default: dtype
//   padding        spare columns per row of every matrix (default 0); writing there is an error
// Outputs are in the result under their names. An argument of the same name is what they hold before the op, without one they hold
// NaN where the op assigns and zero where it adds. Gradients that may be frozen (dw, db of norms; dA's dx) exist only where given.
#include "binding/probe.h"

#include <array>
#include <map>
#include <string>
#include <vector>

#include "binding/probe_arguments.h"
#include "binding/to_js.h"
#include "core/error.h"
#include "core/memory.h"

namespace polypaca {
namespace {

using Args = ProbeArguments;

DType residual_dtype(const Args& a) { return a.dtype("residualDtype", a.dtype("dtype")); }
DType gradient_dtype(const Args& a) { return a.dtype("gradientDtype", a.dtype("dtype")); }

float beta_of(const Args& a) { return float(a.number("beta", 0.0)); }

// ---- conversions ----

void convert(Backend& b, Args& a) {
  const int64_t rows = a.integer("rows"), cols = a.integer("cols");
  const Matrix src = a.matrix("src", rows, cols, a.dtype("from")), dst = a.output("dst", rows, cols, a.dtype("to"));
  b.convert(dst, src, rows, cols);
}

void scaled_copy(Backend& b, Args& a) {
  const int64_t rows = a.integer("rows"), cols = a.integer("cols");
  const Matrix src = a.matrix("src", rows, cols, a.dtype("from")), dst = a.output("dst", rows, cols, a.dtype("to"));
  b.scaled_copy(dst, src, rows, cols, float(a.number("scale")));
}

void gather_rows(Backend& b, Args& a) {
  const int64_t C = a.integer("C"), N = a.length("x") / C, n = a.length("indices");
  const Matrix x = a.matrix("x", N, C, residual_dtype(a)), y = a.output("y", n, C, a.dtype("dtype"));
  b.gather_rows(y, x, a.ints("indices", n, N), n, C);
}

void scatter_rows(Backend& b, Args& a) {
  const int64_t C = a.integer("C"), N = a.integer("N"), n = a.length("indices");
  const Matrix y = a.matrix("y", n, C, a.dtype("dtype")), x = a.output("x", N, C, residual_dtype(a));
  b.scatter_rows(x, N, y, a.ints("indices", n, N), n, C);
}

// ---- embedding ----

void embedding_forward(Backend& b, Args& a) {
  const int64_t C = a.integer("C"), V = a.integer("V"), N = a.length("ids");
  const Matrix table = a.matrix("table", V, C, a.dtype("dtype")), x = a.output("x", N, C, residual_dtype(a));
  b.embedding_forward(x, table, a.ints("ids", N, V), N, C);
}

void embedding_backward(Backend& b, Args& a) {
  const int64_t C = a.integer("C"), V = a.integer("V"), N = a.length("ids");
  const Matrix dx = a.matrix("dx", N, C, residual_dtype(a));
  b.embedding_backward(a.output_floats("dTable", V * C, Absent::zero), dx, a.ints("ids", N, V), N, C);
}

// ---- norms: kind "rms" or "layer" ----

NormKind norm_kind(const Args& a) {
  const std::string kind = a.text("kind");
  if (kind == "rms") return NormKind::rms;
  if (kind == "layer") return NormKind::layer;
  throw Error(ErrorCode::invalid_argument, "probe: \"kind\" must be \"rms\" or \"layer\", not \"" + kind + "\"");
}

/// inPlace: y is x.
void norm_forward(Backend& b, Args& a) {
  const NormKind kind = norm_kind(a);
  const int64_t N = a.integer("N"), C = a.integer("C");
  const bool in_place = a.flag("inPlace", false);
  const Matrix x = in_place ? a.output("x", N, C, residual_dtype(a)) : a.matrix("x", N, C, residual_dtype(a));
  const Matrix y = in_place ? x : a.output("y", N, C, a.dtype("dtype"));
  float* mean = kind == NormKind::layer ? a.output_floats("mean", N) : nullptr;
  float* rstd = a.output_floats("rstd", N);
  b.norm_forward(kind, y, mean, rstd, x, a.floats("w", C), a.optional_floats("b", C), N, C, float(a.number("epsilon")));
}

void norm_recompute(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), C = a.integer("C");
  const Matrix x = a.matrix("x", N, C, residual_dtype(a)), y = a.output("y", N, C, a.dtype("dtype"));
  b.norm_recompute(norm_kind(a), y, a.optional_floats("mean", N), a.floats("rstd", N), x, a.floats("w", C), a.optional_floats("b", C), N, C);
}

void norm_backward(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), C = a.integer("C");
  const Matrix x = a.matrix("x", N, C, residual_dtype(a)), dy = a.matrix("dy", N, C, a.dtype("dtype"));
  const Matrix dx = a.output("dx", N, C, residual_dtype(a));
  float *dw = a.optional_output_floats("dw", C), *db = a.optional_output_floats("db", C);
  b.norm_backward(norm_kind(a), dx, beta_of(a), dw, db, dy, x, a.optional_floats("mean", N), a.floats("rstd", N), a.floats("w", C), N, C);
}

// ---- linear layers ----

/// A weight prepared as the model prepares it, given back at the end of the scope.
class PreparedWeight {
 public:
  PreparedWeight(Backend& backend, Args& a, int64_t rows, int64_t cols) : backend_(backend) {
    weight_.value = a.matrix("w", rows, cols, a.dtype("dtype"));
    weight_.rows = rows;
    weight_.cols = cols;
    backend_.prepare_weight(weight_, a.flag("trained", false));
  }
  ~PreparedWeight() { backend_.release_weight(weight_); }
  PreparedWeight(const PreparedWeight&) = delete;
  PreparedWeight& operator=(const PreparedWeight&) = delete;
  const Weight& get() const { return weight_; }

 private:
  Backend& backend_;
  Weight weight_;
};

void linear_forward(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), rows = a.integer("rows"), cols = a.integer("cols");
  const Matrix x = a.matrix("x", N, cols, a.dtype("dtype")), y = a.output("y", N, rows, residual_dtype(a));
  const PreparedWeight w(b, a, rows, cols);
  LoraTerm lora;
  lora.R = a.integer("R", 0);
  if (lora.R > 0) {
    lora.h = a.matrix("h", N, lora.R, a.dtype("dtype"));
    lora.up = a.matrix("up", rows, lora.R, a.dtype("dtype"));
  }
  b.linear_forward(y, x, w.get(), a.optional_floats("bias", rows), lora, N, beta_of(a));
}

void linear_backward_input(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), rows = a.integer("rows"), cols = a.integer("cols");
  const Matrix dy = a.matrix("dy", N, rows, gradient_dtype(a)), dx = a.output("dx", N, cols, residual_dtype(a));
  const PreparedWeight w(b, a, rows, cols);
  b.linear_backward_input(dx, dy, w.get(), N, beta_of(a));
}

void linear_backward_weight(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), rows = a.integer("rows"), cols = a.integer("cols");
  const Matrix dy = a.matrix("dy", N, rows, gradient_dtype(a)), x = a.matrix("x", N, cols, a.dtype("dtype"));
  const Matrix dw = a.output("dw", rows, cols, DType::f32);
  b.linear_backward_weight(static_cast<float*>(dw.data), dw.ld, dy, x, N, rows, cols, float(a.number("alpha", 1.0)), beta_of(a));
}

void linear_backward_bias(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), rows = a.integer("rows");
  const Matrix dy = a.matrix("dy", N, rows, a.dtype("dtype"));
  b.linear_backward_bias(a.output_floats("db", rows, Absent::zero), dy, N, rows);
}

// ---- adapters: dropout as rate, key0, key1, site, positions, examples ----

Dropout dropout_of(Args& a, int64_t N) {
  Dropout d;
  const double rate = a.number("rate", 0.0);
  d.threshold = uint32_t(rate * 65536.0 + 0.5);
  if (!d.active()) return d;
  d.keep_scale = float(1.0 / (1.0 - double(d.threshold) / 65536.0));
  d.key = a.place_value(std::array{uint32_t(a.integer("key0")), uint32_t(a.integer("key1"))})->data();
  d.site = uint32_t(a.integer("site"));
  d.positions = a.ints("positions", N, INT32_MAX);
  d.examples = a.ints("examples", N, INT32_MAX);
  return d;
}

/// The mask itself, as random.h defines it; no member of Backend. Host memory: a back end's own kernels must equal it.
void dropout_mask(Backend&, Args& a) {
  const int64_t N = a.integer("N"), C = a.integer("C");
  Dropout d = dropout_of(a, N);
  const std::vector<int32_t> positions = a.host_ints("positions"), examples = a.host_ints("examples");
  const uint32_t key[] = {uint32_t(a.integer("key0")), uint32_t(a.integer("key1"))};
  d.positions = positions.data();
  d.examples = examples.data();
  d.key = key;
  float* mask = a.output_floats("mask", N * C);
  for (int64_t i = 0; i < N * C; ++i) mask[i] = dropout_factor(d, i / C, i % C);
}

void lora_down_forward(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), C = a.integer("C"), R = a.integer("R");
  const DType dtype = a.dtype("dtype");
  const Matrix x = a.matrix("x", N, C, dtype), A = a.matrix("A", R, C, dtype), h = a.output("h", N, R, dtype);
  b.lora_down_forward(h, x, A, dropout_of(a, N), N, C, R);
}

void lora_up_backward(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), rows = a.integer("rows"), R = a.integer("R");
  const DType dtype = a.dtype("dtype");
  const Matrix dy = a.matrix("dy", N, rows, gradient_dtype(a)), up = a.matrix("up", rows, R, dtype), dh = a.output("dh", N, R, dtype);
  b.lora_up_backward(dh, dy, up, N, rows, R);
}

void lora_down_backward(Backend& b, Args& a) {
  const int64_t N = a.integer("N"), C = a.integer("C"), R = a.integer("R");
  const DType dtype = a.dtype("dtype");
  const Matrix dh = a.matrix("dh", N, R, dtype), x = a.matrix("x", N, C, dtype), A = a.matrix("A", R, C, dtype);
  const Matrix dx = a.has("dx") ? a.output("dx", N, C, residual_dtype(a)) : Matrix{};
  b.lora_down_backward(dx, a.output_floats("dA", R * C, Absent::zero), dh, x, A, dropout_of(a, N), N, C, R);
}

// ---- attention ----
// layout "separate": q [N, H D], k, v [N, G D]; "concatenated": qkv [N, (H + 2 G) D] with all q, all k, all v in a row;
// "interleaved" (H = G): qkv [N, H 3 D] with q, k, v of one head beside each other. Gradients likewise, as dq or dqkv.

struct Heads {
  HeadView q, k, v;
};

Heads heads_of(Args& a, const AttentionShape& s, int64_t N, bool gradients) {
  const DType dtype = a.dtype("dtype");
  const std::string layout = a.has("layout") ? a.text("layout") : "separate";
  const int64_t H = s.H, G = s.G, D = s.D;
  auto view = [D](Matrix m, int64_t column, int64_t head_stride) { return HeadView{m.at(0, column).data, m.dtype, m.ld, head_stride}; };
  if (layout == "separate") {
    const Matrix q = a.output(gradients ? "dq" : "q", N, H * D, dtype);
    const Matrix k = a.output(gradients ? "dk" : "k", N, G * D, dtype), v = a.output(gradients ? "dv" : "v", N, G * D, dtype);
    return {view(q, 0, D), view(k, 0, D), view(v, 0, D)};
  }
  const Matrix qkv = a.output(gradients ? "dqkv" : "qkv", N, (H + 2 * G) * D, dtype);
  if (layout == "concatenated") return {view(qkv, 0, D), view(qkv, H * D, D), view(qkv, (H + G) * D, D)};
  if (layout == "interleaved" && H == G) return {view(qkv, 0, 3 * D), view(qkv, D, 3 * D), view(qkv, 2 * D, 3 * D)};
  throw Error(ErrorCode::invalid_argument, "probe: \"layout\" must be \"separate\", \"concatenated\" or, with H = G, \"interleaved\"");
}

HeadView single_head_view(Matrix m, int64_t D) { return {m.data, m.dtype, m.ld, D}; }

AttentionShape attention_shape(Args& a) {
  AttentionShape s;
  s.H = a.integer("H");
  s.G = a.integer("G", s.H);
  s.D = a.integer("D");
  s.scale = float(a.number("scale"));
  s.rope.rotary_dim = a.integer("rotaryDim", 0);
  if (s.rope.rotary_dim > 0) {
    s.rope.cos = a.floats("cos", a.length("cos"));
    s.rope.sin = a.floats("sin", a.length("cos"));
  }
  s.alibi_slopes = a.optional_floats("alibiSlopes", s.H);
  return s;
}

Sequences sequences_of(Args& a) {
  std::vector<int32_t> cu_seqlens{0}, positions;
  for (int32_t length : a.host_ints("sequenceLengths")) {
    for (int32_t t = 0; t < length; ++t) positions.push_back(t);
    cu_seqlens.push_back(cu_seqlens.back() + length);
  }
  return {a.upload(cu_seqlens), a.upload(positions), int64_t(cu_seqlens.size()) - 1, cu_seqlens.back()};
}

void attention_forward(Backend& b, Args& a) {
  const AttentionShape s = attention_shape(a);
  const Sequences sequences = sequences_of(a);
  const int64_t N = sequences.N;
  const Heads in = heads_of(a, s, N, false);
  const Matrix out = a.output("out", N, s.H * s.D, a.dtype("dtype"));
  b.attention_forward(single_head_view(out, s.D), a.output_floats("lse", N * s.H), in.q, in.k, in.v, sequences, s);
}

void attention_backward(Backend& b, Args& a) {
  const AttentionShape s = attention_shape(a);
  const Sequences sequences = sequences_of(a);
  const int64_t N = sequences.N;
  const Heads in = heads_of(a, s, N, false), gradients = heads_of(a, s, N, true);
  const Matrix dout = a.matrix("dout", N, s.H * s.D, a.dtype("dtype")), out = a.matrix("out", N, s.H * s.D, a.dtype("dtype"));
  void* scratch = a.scratch(b.attention_scratch_bytes(N, s));
  b.attention_backward(gradients.q, gradients.k, gradients.v, single_head_view(dout, s.D), single_head_view(out, s.D), a.floats("lse", N * s.H), in.q, in.k, in.v,
                       scratch, sequences, s);
}

/// A cache [cacheRows, maxLength, G, D], dense; empty places hold NaN.
void* cache_of(Args& a, const char* name, int64_t cache_rows, int64_t max_length, const AttentionShape& s) {
  const Matrix cache = a.output(name, 1, cache_rows * max_length * s.G * s.D, a.dtype("cacheDtype", a.dtype("dtype")));
  return cache.data;
}

void attention_decode(Backend& b, Args& a) {
  const AttentionShape s = attention_shape(a);
  const int64_t rows = a.length("positions"), cache_rows = a.integer("cacheRowCount"), max_length = a.integer("maxLength");
  const Heads in = heads_of(a, s, rows, false);
  const Matrix out = a.output("out", rows, s.H * s.D, a.dtype("dtype"));
  void* k_cache = cache_of(a, "kCache", cache_rows, max_length, s);
  void* v_cache = cache_of(a, "vCache", cache_rows, max_length, s);
  b.attention_decode(single_head_view(out, s.D), in.q, in.k, in.v, k_cache, v_cache, a.dtype("cacheDtype", a.dtype("dtype")),
                     a.ints("source", rows * max_length, cache_rows), a.ints("cacheRows", rows, cache_rows), a.ints("positions", rows, max_length), rows,
                     max_length, s);
}

void cache_prompt(Backend& b, Args& a) {
  const AttentionShape s = attention_shape(a);
  const int64_t N = a.integer("N"), cache_rows = a.integer("cacheRowCount"), max_length = a.integer("maxLength");
  const Heads in = heads_of(a, s, N, false);
  void* k_cache = cache_of(a, "kCache", cache_rows, max_length, s);
  void* v_cache = cache_of(a, "vCache", cache_rows, max_length, s);
  const int64_t first = a.integer("first"), T = a.integer("T"), row = a.integer("row");
  if (first + T > N || T > max_length || row >= cache_rows) throw Error(ErrorCode::invalid_argument, "probe: first + T, T or row is out of range");
  b.cache_prompt(k_cache, v_cache, a.dtype("cacheDtype", a.dtype("dtype")), in.k, in.v, first, T, row, max_length, s);
}

// ---- MLP: kind "gelu_erf", "gelu_tanh" or "swiglu" ----

Activation activation_kind(const Args& a) {
  const std::string kind = a.text("kind");
  if (kind == "gelu_erf") return Activation::gelu_erf;
  if (kind == "gelu_tanh") return Activation::gelu_tanh;
  if (kind == "swiglu") return Activation::swiglu;
  throw Error(ErrorCode::invalid_argument, "probe: \"kind\" must be \"gelu_erf\", \"gelu_tanh\" or \"swiglu\", not \"" + kind + "\"");
}

void activation_forward(Backend& b, Args& a) {
  const Activation kind = activation_kind(a);
  const int64_t N = a.integer("N"), I = a.integer("I"), width = kind == Activation::swiglu ? 2 * I : I;
  const Matrix u = a.matrix("u", N, width, a.dtype("dtype"));
  b.activation_forward(kind, a.output("a", N, I, a.dtype("dtype")), u, N, I);
}

/// inPlace: du is u.
void activation_backward(Backend& b, Args& a) {
  const Activation kind = activation_kind(a);
  const int64_t N = a.integer("N"), I = a.integer("I"), width = kind == Activation::swiglu ? 2 * I : I;
  const DType dtype = a.dtype("dtype");
  const Matrix da = a.matrix("da", N, I, dtype), u = a.output("u", N, width, dtype);
  b.activation_backward(kind, a.flag("inPlace", false) ? u : a.output("du", N, width, dtype), da, u, N, I);
}

// ---- head and loss ----

void normalize_rows(Backend& b, Args& a) {
  const int64_t V = a.integer("V"), C = a.integer("C");
  const Matrix w = a.matrix("w", V, C, a.dtype("dtype")), w_hat = a.output("wHat", V, C, a.dtype("dtype"));
  b.normalize_rows(w_hat, a.output_floats("inverseNorm", V), w, V, C);
}

/// inPlace: dw is dHat.
void normalize_rows_backward(Backend& b, Args& a) {
  const int64_t V = a.integer("V"), C = a.integer("C");
  const Matrix w_hat = a.matrix("wHat", V, C, a.dtype("dtype"));
  float* d_hat = a.output_floats("dHat", V * C);
  b.normalize_rows_backward(a.flag("inPlace", false) ? d_hat : a.output_floats("dw", V * C), d_hat, w_hat, a.floats("inverseNorm", V), V, C);
}

void cross_entropy(Backend& b, Args& a) {
  const int64_t V = a.integer("V"), rows = a.length("targets");
  const Matrix logits = a.output("logits", rows, V, a.dtype("dtype"));
  b.cross_entropy(logits, a.output_floats("losses", rows), a.ints("targets", rows, V, true), rows, V, a.flag("withGradient", true) ? a.place_value(float(a.number("gradScale", 1.0))) : nullptr);
}

/// `penalised`, `banned`: pairs (row, token). `tokens` come back as numbers.
void choose_tokens(Backend& b, Args& a) {
  const int64_t V = a.integer("V"), rows = a.length("scores") / V, count = a.integer("count");
  const Matrix scores = a.output("scores", rows, V, DType::f32);
  ScoreChanges changes;
  changes.log_probabilities = a.flag("logProbabilities", false);
  changes.repetition_penalty = float(a.number("repetitionPenalty", 1.0));
  const std::vector<int32_t> penalised = a.host_ints("penalised"), banned = a.host_ints("banned");
  changes.penalised = a.upload(penalised), changes.penalised_count = int64_t(penalised.size() / 2);
  changes.banned = a.upload(banned), changes.banned_count = int64_t(banned.size() / 2);
  int32_t* tokens = static_cast<int32_t*>(a.scratch(rows * count * 4));
  float* widened = a.output_floats("tokens", rows * count);
  b.choose_tokens(a.output_floats("logSums", rows), a.output_floats("best", rows * count), tokens, scores, changes, rows, V, count);
  std::vector<int32_t> ids(size_t(rows * count));
  b.copy_out(ids.data(), tokens, rows * count * 4);
  const std::vector<float> values(ids.begin(), ids.end());
  b.copy_in(widened, values.data(), rows * count * 4);
}

void add_losses(Backend& b, Args& a) {
  const int64_t rows = a.length("losses");
  double* sum = a.place_value(a.number("sum", 0.0));
  b.add_losses(sum, a.floats("losses", rows), rows);
  a.report("value", a.value_at(sum));
}

// ---- optimiser ----

void add_squares(Backend& b, Args& a) {
  const int64_t count = a.length("x");
  double* sum = a.place_value(a.number("sum", 0.0));
  b.add_squares(sum, a.floats("x", count), count);
  a.report("value", a.value_at(sum));
}

void finish_norm(Backend& b, Args& a) {
  StepState state;
  state.max_grad_norm = float(a.number("maxGradNorm"));
  state.loss_sum = a.number("lossSum");
  state.sum_of_squares = a.number("sumOfSquares");
  StepState* held = a.place_value(state);
  b.finish_norm(held);
  state = a.value_at(held);
  a.report("clip", double(state.clip));
  a.report("applies", double(state.applies));
}

/// applies: false leaves everything as it was.
AdamWOptions adamw_options(Args& a) {
  AdamWOptions options;
  options.beta1 = a.number("beta1", 0.9);
  options.beta2 = a.number("beta2", 0.999);
  options.epsilon = a.number("epsilon", 1e-8);
  StepState state;
  set_update(state, float(a.number("learningRate")), options.beta1, options.beta2, a.integer("step"));
  state.clip = float(a.number("gradScale", 1.0));
  state.applies = a.flag("applies", true);
  options.state = a.place_value(state);
  return options;
}

/// form: "fp32" (default), "copied": also the bf16 copy, "split": master goes in and comes out as halves, whose value is in copy.
struct ProbedMaster {
  MasterValues values;
  float* master;  // what the result shows

  ProbedMaster(Args& a, int64_t count) : master(a.output_floats("master", count)) {
    const std::string form = a.has("form") ? a.text("form") : "fp32";
    if (form != "fp32") values.copy = static_cast<bf16*>(a.output("copy", 1, count, DType::bf16).data);
    if (form != "split") {
      values.fp32 = master;
      return;
    }
    std::vector<float> whole(static_cast<size_t>(count));
    a.backend().copy_out(whole.data(), master, count * 4);
    std::vector<bf16> value;
    std::vector<int16_t> remainder;
    for (float x : whole) {
      const SplitFloat halves = split(x);
      value.push_back(halves.value);
      remainder.push_back(halves.remainder);
    }
    values.remainder = static_cast<int16_t*>(a.scratch(count * 2));
    a.backend().copy_in(values.copy, value.data(), count * 2);
    a.backend().copy_in(values.remainder, remainder.data(), count * 2);
  }
  void finish(Backend& b, int64_t count) const {
    if (values.remainder) b.join_halves(master, values.copy, values.remainder, count);
  }
};

void adamw(Backend& b, Args& a) {
  AdamWRange range;
  range.count = a.length("master");
  const ProbedMaster master(a, range.count);
  range.master = master.values;
  range.m = a.output_floats("m", range.count);
  range.v = a.output_floats("v", range.count);
  range.grad = a.floats("grad", range.count);
  range.weight_decay = float(a.number("weightDecay", 0.0));
  b.adamw(range, adamw_options(a));
  master.finish(b, range.count);
}

/// mCodes, vCodes: Int32Array; what becomes of them is newMCodes, newVCodes. mScale, vScale: one element a block. form as above.
void adamw8bit(Backend& b, Args& a) {
  AdamW8bitRange range;
  const int64_t count = a.length("master"), blocks = (count + kMomentBlock - 1) / kMomentBlock;
  const auto upload = [&](const char* name) {
    const std::vector<int32_t> values = a.host_ints(name);
    if (int64_t(values.size()) != count) throw Error(ErrorCode::invalid_argument, std::string("\"") + name + "\" needs a code for every element of master");
    const std::vector<uint8_t> codes(values.begin(), values.end());
    uint8_t* data = static_cast<uint8_t*>(a.scratch(count));
    b.copy_in(data, codes.data(), count);
    return data;
  };
  const auto download = [&](const char* name, const uint8_t* data) {
    std::vector<uint8_t> codes(static_cast<size_t>(count));
    b.copy_out(codes.data(), data, count);
    const std::vector<float> values(codes.begin(), codes.end());
    b.copy_in(a.output_floats(name, count), values.data(), count * 4);
  };
  range.count = count;
  const ProbedMaster master(a, count);
  range.master = master.values;
  range.m = upload("mCodes");
  range.v = upload("vCodes");
  range.m_scale = a.output_floats("mScale", blocks);
  range.v_scale = a.output_floats("vScale", blocks);
  range.grad = a.floats("grad", count);
  range.weight_decay = float(a.number("weightDecay", 0.0));
  b.adamw8bit(range, adamw_options(a));
  master.finish(b, count);
  download("newMCodes", range.m);
  download("newVCodes", range.v);
}

// ---- not an operation ----

/// Bytes left under the control groups of a made-up file system; -1: no limit.
void cgroup_available(Backend&, Args& a) {
  const int64_t bytes = polypaca::cgroup_available(a.text("fileSystem"));
  a.report("value", bytes == kNoMemoryLimit ? -1.0 : double(bytes));
}

struct Op {
  const char* name;
  void (*run)(Backend&, Args&);
};

#define POLYPACA_OP(name) Op{#name, name}
constexpr Op kOps[] = {
    POLYPACA_OP(convert),           POLYPACA_OP(scaled_copy),        POLYPACA_OP(gather_rows),           POLYPACA_OP(scatter_rows),
    POLYPACA_OP(embedding_forward), POLYPACA_OP(embedding_backward), POLYPACA_OP(norm_forward),          POLYPACA_OP(norm_recompute),
    POLYPACA_OP(norm_backward),     POLYPACA_OP(linear_forward),     POLYPACA_OP(linear_backward_input), POLYPACA_OP(linear_backward_weight),
    POLYPACA_OP(linear_backward_bias), POLYPACA_OP(dropout_mask),    POLYPACA_OP(lora_down_forward),     POLYPACA_OP(lora_up_backward),
    POLYPACA_OP(lora_down_backward), POLYPACA_OP(attention_forward), POLYPACA_OP(attention_backward),    POLYPACA_OP(attention_decode),
    POLYPACA_OP(cache_prompt),      POLYPACA_OP(activation_forward), POLYPACA_OP(activation_backward),   POLYPACA_OP(normalize_rows),
    POLYPACA_OP(normalize_rows_backward), POLYPACA_OP(cross_entropy), POLYPACA_OP(choose_tokens), POLYPACA_OP(add_losses),           POLYPACA_OP(add_squares),
    POLYPACA_OP(finish_norm),       POLYPACA_OP(adamw),              POLYPACA_OP(adamw8bit),         POLYPACA_OP(cgroup_available),
};
#undef POLYPACA_OP

/// Kept for the process where opening it takes long and it would be closed after the driver; never destroyed for the same reason.
std::shared_ptr<Backend> backend_on(const std::string& device) {
  if (device.rfind("cuda", 0) != 0 || device == "cuda-emulated") return open_backend(device);
  static auto* held = new std::map<std::string, std::shared_ptr<Backend>>;
  std::shared_ptr<Backend>& backend = (*held)[device];
  if (!backend) backend = open_backend(device);
  return backend;
}

}  // namespace

Napi::Value Probe(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsString() || !info[1].IsObject()) throw Error(ErrorCode::invalid_argument, "probe(op, args) takes a string and an object");
    const std::string name = info[0].As<Napi::String>();
    for (const Op& op : kOps) {
      if (name != op.name) continue;
      const Napi::Object given = info[1].As<Napi::Object>();
      std::shared_ptr<Backend> backend = backend_on(given.Has("device") ? given.Get("device").ToString() : std::string("cpu"));
      ProbeArguments args(given, backend);
      op.run(*backend, args);
      return args.results(info.Env());
    }
    throw Error(ErrorCode::invalid_argument, "probe: no operation \"" + name + "\"; the names are those of native/backend/backend.h");
  });
}

}  // namespace polypaca
