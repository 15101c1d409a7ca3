#include "binding/kernel_timer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "binding/from_js.h"
#include "binding/job_runner.h"
#include "binding/to_js.h"
#include "core/error.h"

namespace polypaca {
namespace {

/// Sizes of one operation; those it does not use stay 0. The residual stream is fp32, as the decoder keeps it.
struct KernelShape {
  DType dtype = DType::f32;  // activations and compute weights
  std::string kind;          // norm: "rms", "layer"; activation: "gelu_erf", "gelu_tanh", "swiglu"
  int64_t N = 0;             // tokens, or rows of logits
  int64_t rows = 0, cols = 0, R = 0;
  int64_t C = 0, I = 0, V = 0, H = 0, G = 0, D = 0;
  int64_t sequence_length = 0, rotary_dim = 0;
  int64_t count = 0;
  double dropout = 0;
  bool alibi = false;
  bool trained = false;          // the weight changes every step: the back end may prepare less of it
  bool residual_output = false;  // linear_forward adds into the fp32 residual stream
};

KernelShape shape_from_js(const Napi::Object& o) {
  KernelShape s;
  auto size = [&](const char* name) { return o.Has(name) ? int64_t(number_field(o, name)) : int64_t(0); };
  auto flag = [&](const char* name) { return o.Has(name) && o.Get(name).ToBoolean(); };
  s.dtype = string_field(o, "dtype") == "bf16" ? DType::bf16 : DType::f32;
  if (o.Has("kind")) s.kind = string_field(o, "kind");
  s.N = size("N");
  s.rows = size("rows");
  s.cols = size("cols");
  s.R = size("R");
  s.C = size("C");
  s.I = size("I");
  s.V = size("V");
  s.H = size("H");
  s.G = size("G");
  s.D = size("D");
  s.sequence_length = size("sequenceLength");
  s.rotary_dim = size("rotaryDim");
  s.count = size("count");
  if (o.Has("dropout")) s.dropout = number_field(o, "dropout");
  s.alibi = flag("alibi");
  s.trained = flag("trained");
  s.residual_output = flag("residualOutput");
  return s;
}

/// Owns what an operation reads and writes. Values are uniform in ±1 from a small generator: no zeros, denormals or NaN that
/// would make a kernel faster or slower than on real data.
class Operands {
 public:
  explicit Operands(Backend& backend) : backend_(backend) {}
  ~Operands() {
    for (Weight& w : weights_) backend_.release_weight(w);
    for (void* block : blocks_) backend_.release(block);
  }
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  void* bytes(int64_t count) {
    blocks_.push_back(backend_.allocate(std::max<int64_t>(count, 64)));
    return blocks_.back();
  }
  Matrix matrix(int64_t rows, int64_t cols, DType dtype) {
    const Matrix m{bytes(rows * cols * size_of(dtype)), dtype, cols};
    fill(m.data, dtype, rows * cols, 0.0f);
    return m;
  }
  /// Uniform in offset ± 1.
  float* floats(int64_t count, float offset = 0.0f) {
    void* data = bytes(count * 4);
    fill(data, DType::f32, count, offset);
    return static_cast<float*>(data);
  }
  template <typename T>
  T* copy(const std::vector<T>& values) {
    const int64_t size = int64_t(values.size() * sizeof(T));
    void* data = bytes(size);
    backend_.copy_in(data, values.data(), size);
    return static_cast<T*>(data);
  }
  template <typename T>
  T* value(const T& v) {
    return copy(std::vector<T>{v});
  }
  /// `count` values in [0, below), spread by a multiplicative hash.
  int32_t* indices(int64_t count, int64_t below) {
    std::vector<int32_t> values(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) values[size_t(i)] = int32_t((uint64_t(i) * 2654435761u >> 8) % uint64_t(below));
    return copy(values);
  }
  Weight weight(int64_t rows, int64_t cols, DType dtype, bool trained) {
    Weight w;
    w.value = matrix(rows, cols, dtype);
    w.rows = rows;
    w.cols = cols;
    backend_.prepare_weight(w, trained);
    weights_.push_back(w);
    return w;
  }

 private:
  void fill(void* data, DType dtype, int64_t count, float offset) {
    constexpr int64_t kChunk = 1 << 16;
    std::vector<float> wide(size_t(std::min(count, kChunk)));
    std::vector<bf16> narrow(wide.size());
    for (int64_t start = 0; start < count; start += kChunk) {
      const int64_t n = std::min(kChunk, count - start);
      for (int64_t i = 0; i < n; ++i) {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        wide[size_t(i)] = offset + float(int32_t(uint32_t(state_ >> 32))) * 0x1p-31f;
        narrow[size_t(i)] = to_bf16(wide[size_t(i)]);
      }
      const void* source = dtype == DType::f32 ? static_cast<const void*>(wide.data()) : narrow.data();
      backend_.copy_in(static_cast<char*>(data) + start * size_of(dtype), source, n * size_of(dtype));
    }
  }

  Backend& backend_;
  std::vector<void*> blocks_;
  std::vector<Weight> weights_;
  uint64_t state_ = 1;
};

/// Allocates an operation's operands and gives back what runs it once.
using Call = std::function<void()>;
using Setup = Call (*)(Backend&, Operands&, const KernelShape&);

// ---- linear layers and adapters ----

Call linear_forward(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix y = o.matrix(s.N, s.rows, s.residual_output ? DType::f32 : s.dtype), x = o.matrix(s.N, s.cols, s.dtype);
  const Weight w = o.weight(s.rows, s.cols, s.dtype, s.trained);
  LoraTerm lora;
  if (s.R > 0) lora = {o.matrix(s.N, s.R, s.dtype), o.matrix(s.rows, s.R, s.dtype), s.R};
  return [=, &b] { b.linear_forward(y, x, w, nullptr, lora, s.N, s.residual_output ? 1.0f : 0.0f); };
}

Call linear_backward_input(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix dx = o.matrix(s.N, s.cols, s.dtype), dy = o.matrix(s.N, s.rows, s.dtype);
  const Weight w = o.weight(s.rows, s.cols, s.dtype, s.trained);
  return [=, &b] { b.linear_backward_input(dx, dy, w, s.N, 0.0f); };
}

Call linear_backward_weight(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix dy = o.matrix(s.N, s.rows, s.dtype), x = o.matrix(s.N, s.cols, s.dtype);
  float* dw = o.floats(s.rows * s.cols);
  return [=, &b] { b.linear_backward_weight(dw, s.cols, dy, x, s.N, s.rows, s.cols, 1.0f, 0.0f); };
}

Dropout dropout_of(Operands& o, const KernelShape& s) {
  Dropout d;
  d.threshold = uint32_t(s.dropout * 65536.0 + 0.5);
  if (!d.active()) return d;
  d.keep_scale = float(1.0 / (1.0 - double(d.threshold) / 65536.0));
  d.key = o.value(std::array<uint32_t, 2>{1, 0})->data();
  std::vector<int32_t> positions(size_t(s.N), 0), examples(size_t(s.N), 0);
  for (int64_t n = 0; n < s.N; ++n) positions[size_t(n)] = int32_t(n);
  d.positions = o.copy(positions);
  d.examples = o.copy(examples);
  return d;
}

Call lora_down_forward(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix h = o.matrix(s.N, s.R, s.dtype), x = o.matrix(s.N, s.C, s.dtype), A = o.matrix(s.R, s.C, s.dtype);
  const Dropout dropout = dropout_of(o, s);
  return [=, &b] { b.lora_down_forward(h, x, A, dropout, s.N, s.C, s.R); };
}

Call lora_up_backward(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix dh = o.matrix(s.N, s.R, s.dtype), dy = o.matrix(s.N, s.rows, s.dtype), up = o.matrix(s.rows, s.R, s.dtype);
  return [=, &b] { b.lora_up_backward(dh, dy, up, s.N, s.rows, s.R); };
}

Call lora_down_backward(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix dx = o.matrix(s.N, s.C, s.dtype), dh = o.matrix(s.N, s.R, s.dtype), x = o.matrix(s.N, s.C, s.dtype);
  const Matrix A = o.matrix(s.R, s.C, s.dtype);
  float* dA = o.floats(s.R * s.C);
  const Dropout dropout = dropout_of(o, s);
  return [=, &b] { b.lora_down_backward(dx, dA, dh, x, A, dropout, s.N, s.C, s.R); };
}

// ---- attention ----

struct Attention {
  HeadView q, k, v;
  HeadView out;
  float* lse;
  Sequences sequences;
  AttentionShape shape;
};

/// q, k and v of a fused projection [N, (H + 2 G) D], one behind the other.
void view_heads(Matrix qkv, const KernelShape& s, HeadView& q, HeadView& k, HeadView& v) {
  auto view = [&](int64_t column) { return HeadView{qkv.at(0, column).data, qkv.dtype, qkv.ld, s.D}; };
  q = view(0);
  k = view(s.H * s.D);
  v = view((s.H + s.G) * s.D);
}

/// True rotations: forward turns q and k in place at every call, and their lengths must not grow.
Rope rope_of(Operands& o, const KernelShape& s) {
  const int64_t half = s.rotary_dim / 2;
  std::vector<float> cosines, sines;
  for (int64_t t = 0; t < s.sequence_length; ++t) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = double(t) * std::pow(10000.0, -2.0 * double(i) / double(s.rotary_dim));
      cosines.push_back(float(std::cos(angle)));
      sines.push_back(float(std::sin(angle)));
    }
  }
  return {s.rotary_dim, o.copy(cosines), o.copy(sines)};
}

Attention attention_of(Operands& o, const KernelShape& s) {
  Attention a;
  view_heads(o.matrix(s.N, (s.H + 2 * s.G) * s.D, s.dtype), s, a.q, a.k, a.v);
  const Matrix out = o.matrix(s.N, s.H * s.D, s.dtype);
  a.out = {out.data, out.dtype, out.ld, s.D};
  a.lse = o.floats(s.N * s.H);
  std::vector<int32_t> cu_seqlens, positions(size_t(s.N), 0);
  for (int64_t n = 0; n < s.N; ++n) positions[size_t(n)] = int32_t(n % s.sequence_length);
  for (int64_t n = 0; n < s.N; n += s.sequence_length) cu_seqlens.push_back(int32_t(n));
  cu_seqlens.push_back(int32_t(s.N));
  a.sequences = {o.copy(cu_seqlens), o.copy(positions), int64_t(cu_seqlens.size()) - 1, s.N};
  a.shape.H = s.H;
  a.shape.G = s.G;
  a.shape.D = s.D;
  a.shape.scale = float(1.0 / std::sqrt(double(s.D)));
  if (s.alibi) a.shape.alibi_slopes = o.floats(s.H, 1.0f);
  if (s.rotary_dim > 0) a.shape.rope = rope_of(o, s);
  return a;
}

Call attention_forward(Backend& b, Operands& o, const KernelShape& s) {
  const Attention a = attention_of(o, s);
  return [=, &b] { b.attention_forward(a.out, a.lse, a.q, a.k, a.v, a.sequences, a.shape); };
}

Call attention_backward(Backend& b, Operands& o, const KernelShape& s) {
  const Attention a = attention_of(o, s);
  HeadView dq, dk, dv;
  view_heads(o.matrix(s.N, (s.H + 2 * s.G) * s.D, s.dtype), s, dq, dk, dv);
  const Matrix dout = o.matrix(s.N, s.H * s.D, s.dtype);
  const HeadView d_out{dout.data, dout.dtype, dout.ld, s.D};
  void* scratch = o.bytes(b.attention_scratch_bytes(s.N, a.shape));
  b.attention_forward(a.out, a.lse, a.q, a.k, a.v, a.sequences, a.shape);  // an lse that belongs to q and k
  return [=, &b] { b.attention_backward(dq, dk, dv, d_out, a.out, a.lse, a.q, a.k, a.v, scratch, a.sequences, a.shape); };
}

// ---- norms and activations ----

NormKind norm_kind(const KernelShape& s) { return s.kind == "rms" ? NormKind::rms : NormKind::layer; }

Call norm_forward(Backend& b, Operands& o, const KernelShape& s) {
  const NormKind kind = norm_kind(s);
  const Matrix y = o.matrix(s.N, s.C, s.dtype), x = o.matrix(s.N, s.C, DType::f32);
  float *mean = kind == NormKind::layer ? o.floats(s.N) : nullptr, *rstd = o.floats(s.N);
  const float *w = o.floats(s.C, 1.0f), *bias = kind == NormKind::layer ? o.floats(s.C) : nullptr;
  return [=, &b] { b.norm_forward(kind, y, mean, rstd, x, w, bias, s.N, s.C, 1e-5f); };
}

Call norm_backward(Backend& b, Operands& o, const KernelShape& s) {
  const NormKind kind = norm_kind(s);
  const Matrix dx = o.matrix(s.N, s.C, DType::f32), dy = o.matrix(s.N, s.C, s.dtype), x = o.matrix(s.N, s.C, DType::f32);
  const float *mean = kind == NormKind::layer ? o.floats(s.N) : nullptr, *rstd = o.floats(s.N, 2.0f), *w = o.floats(s.C, 1.0f);
  float *dw = s.trained ? o.floats(s.C) : nullptr, *db = s.trained && kind == NormKind::layer ? o.floats(s.C) : nullptr;
  return [=, &b] { b.norm_backward(kind, dx, 1.0f, dw, db, dy, x, mean, rstd, w, s.N, s.C); };
}

Activation activation_kind(const KernelShape& s) {
  if (s.kind == "swiglu") return Activation::swiglu;
  return s.kind == "gelu_tanh" ? Activation::gelu_tanh : Activation::gelu_erf;
}

Call activation_forward(Backend& b, Operands& o, const KernelShape& s) {
  const Activation kind = activation_kind(s);
  const Matrix a = o.matrix(s.N, s.I, s.dtype), u = o.matrix(s.N, kind == Activation::swiglu ? 2 * s.I : s.I, s.dtype);
  return [=, &b] { b.activation_forward(kind, a, u, s.N, s.I); };
}

Call activation_backward(Backend& b, Operands& o, const KernelShape& s) {
  const Activation kind = activation_kind(s);
  const int64_t width = kind == Activation::swiglu ? 2 * s.I : s.I;
  const Matrix du = o.matrix(s.N, width, s.dtype), da = o.matrix(s.N, s.I, s.dtype), u = o.matrix(s.N, width, s.dtype);
  return [=, &b] { b.activation_backward(kind, du, da, u, s.N, s.I); };
}

// ---- embedding, loss, optimiser, memory ----

Call embedding_forward(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix x = o.matrix(s.N, s.C, DType::f32), table = o.matrix(s.V, s.C, s.dtype);
  const int32_t* ids = o.indices(s.N, s.V);
  return [=, &b] { b.embedding_forward(x, table, ids, s.N, s.C); };
}

Call embedding_backward(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix dx = o.matrix(s.N, s.C, DType::f32);
  float* d_table = o.floats(s.V * s.C);
  const int32_t* ids = o.indices(s.N, s.V);
  return [=, &b] { b.embedding_backward(d_table, dx, ids, s.N, s.C); };
}

Call cross_entropy(Backend& b, Operands& o, const KernelShape& s) {
  const Matrix logits = o.matrix(s.N, s.V, s.dtype);
  float* losses = o.floats(s.N);
  const int32_t* targets = o.indices(s.N, s.V);
  const float* grad_scale = o.value(1.0f);
  return [=, &b] { b.cross_entropy(logits, losses, targets, s.N, s.V, grad_scale); };
}

Call add_squares(Backend& b, Operands& o, const KernelShape& s) {
  const float* x = o.floats(s.count);
  double* sum = o.value(0.0);
  return [=, &b] { b.add_squares(sum, x, s.count); };
}

Call adamw(Backend& b, Operands& o, const KernelShape& s) {
  AdamWRange range;
  range.count = s.count;
  if (s.dtype == DType::bf16) {
    range.master.copy = static_cast<bf16*>(o.matrix(1, s.count, DType::bf16).data);
    range.master.remainder = reinterpret_cast<int16_t*>(o.matrix(1, s.count, DType::bf16).data);
  } else {
    range.master.fp32 = o.floats(s.count);
  }
  range.m = o.floats(s.count);
  range.v = o.floats(s.count, 2.0f);
  range.grad = o.floats(s.count);
  StepState state;
  AdamWOptions options;
  set_update(state, 1e-4f, options.beta1, options.beta2, 1);
  options.state = o.value(state);
  return [=, &b] { b.adamw(range, options); };
}

/// Host memory: the bandwidth of a device is for its own back end to measure.
Call triad(Backend&, Operands& o, const KernelShape& s) {
  float* a = o.floats(s.count);
  const float *x = o.floats(s.count), *y = o.floats(s.count);
  const int64_t count = s.count;
  return [=] {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; ++i) a[i] = x[i] + 0.5f * y[i];
  };
}

struct Op {
  const char* name;
  Setup setup;
};

#define POLYPACA_OP(name) Op{#name, name}
constexpr Op kOps[] = {
    POLYPACA_OP(linear_forward),      POLYPACA_OP(linear_backward_input), POLYPACA_OP(linear_backward_weight), POLYPACA_OP(lora_down_forward),
    POLYPACA_OP(lora_up_backward),    POLYPACA_OP(lora_down_backward),    POLYPACA_OP(attention_forward),      POLYPACA_OP(attention_backward),
    POLYPACA_OP(norm_forward),        POLYPACA_OP(norm_backward),         POLYPACA_OP(activation_forward),     POLYPACA_OP(activation_backward),
    POLYPACA_OP(embedding_forward),   POLYPACA_OP(embedding_backward),    POLYPACA_OP(cross_entropy),          POLYPACA_OP(add_squares),
    POLYPACA_OP(adamw),               POLYPACA_OP(triad),
};
#undef POLYPACA_OP

Setup setup_of(const std::string& name) {
  for (const Op& op : kOps) {
    if (name == op.name) return op.setup;
  }
  throw Error(ErrorCode::invalid_argument, "timeKernel: no operation \"" + name + "\"; the names are those of native/backend/backend.h that a training step uses, and \"triad\"");
}

struct Timing {
  double median = 0, fastest = 0;
  int64_t calls = 0;
};

Timing time_calls(const Call& call, double seconds) {
  using Clock = std::chrono::steady_clock;
  call();  // pages touched, primitives made, caches filled
  std::vector<double> laps;
  const auto begin = Clock::now();
  auto last = begin;
  do {
    call();
    const auto now = Clock::now();
    laps.push_back(std::chrono::duration<double>(now - last).count());
    last = now;
  } while (laps.size() < 3 || std::chrono::duration<double>(last - begin).count() < seconds);
  std::sort(laps.begin(), laps.end());
  return {laps[laps.size() / 2], laps.front(), int64_t(laps.size())};
}

}  // namespace

Napi::Value time_kernel(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsString() || !info[1].IsObject() || !info[2].IsNumber()) throw Error(ErrorCode::invalid_argument, "timeKernel(op, shape, milliseconds) takes a string, an object and a number");
    const Setup setup = setup_of(info[0].As<Napi::String>());
    const KernelShape shape = shape_from_js(info[1].As<Napi::Object>());
    const double seconds = info[2].As<Napi::Number>().DoubleValue() / 1000;
    return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [=](Job&) -> JobRunner::Resolve {
      const std::shared_ptr<Backend> backend = open_backend("cpu");
      Operands operands(*backend);
      const Timing timing = time_calls(setup(*backend, operands, shape), seconds);
      return [timing](Napi::Env env) {
        Napi::Object o = Napi::Object::New(env);
        o.Set("seconds", timing.median);
        o.Set("fastest", timing.fastest);
        o.Set("calls", double(timing.calls));
        return o;
      };
    });
  });
}

}  // namespace polypaca
