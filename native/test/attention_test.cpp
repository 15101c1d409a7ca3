// Attention of the CPU back ends against the formulas in double precision, in every instruction set of this build and machine.
// Arguments: none runs the checks; --time prints rates instead (on 2 threads, or as OMP_NUM_THREADS says).
#include <math.h>
#include <omp.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/cpu_options.h"

using namespace polypaca;

namespace {

enum class Layout { separate, concatenated, interleaved };

struct Case {
  std::vector<int32_t> lengths;
  int64_t H, G, D, rotary_dim;
  bool alibi;
  Layout layout;
  DType dtype;
};

int checks = 0, failures = 0;

void check(bool passed, const std::string& what, double measured, double limit) {
  ++checks;
  if (passed) return;
  ++failures;
  std::printf("FAILED %s: measured %.3g, limit %.3g\n", what.c_str(), measured, limit);
}

/// q, k and v (or their gradients) of a packed batch in one of the layouts. What belongs to no view is NaN and must stay NaN.
struct Heads {
  std::vector<char> bytes;
  HeadView q, k, v;

  Heads(const Case& c, int64_t N) {
    const int64_t H = c.H, G = c.G, D = c.D, gap = 3;
    const int64_t row = (H + 2 * G) * D + gap, size = size_of(c.dtype);
    bytes.resize(size_t(N * row * size), char(0xFF));  // all bits set is NaN in both types
    const auto view = [&](int64_t offset, int64_t token_stride, int64_t head_stride) {
      return HeadView{bytes.data() + offset * size, c.dtype, token_stride, head_stride};
    };
    if (c.layout == Layout::interleaved) {
      q = view(0, row, 3 * D), k = view(D, row, 3 * D), v = view(2 * D, row, 3 * D);
    } else if (c.layout == Layout::concatenated) {
      q = view(0, row, D), k = view(H * D, row, D), v = view((H + G) * D, row, D);
    } else {
      q = view(0, H * D, D), k = view(N * H * D, G * D, D), v = view(N * (H + G) * D, G * D, D);
    }
  }
};

double get(const HeadView& x, int64_t n, int64_t h, int64_t d) {
  const int64_t at = n * x.token_stride + h * x.head_stride + d;
  return x.dtype == DType::f32 ? double(static_cast<float*>(x.data)[at]) : double(to_float(static_cast<bf16*>(x.data)[at]));
}

void set(const HeadView& x, int64_t n, int64_t h, int64_t d, double value) {
  const int64_t at = n * x.token_stride + h * x.head_stride + d;
  if (x.dtype == DType::f32) {
    static_cast<float*>(x.data)[at] = float(value);
  } else {
    static_cast<bf16*>(x.data)[at] = to_bf16(float(value));
  }
}

using Values = std::vector<double>;  // [N, heads, D]

Values read(const HeadView& x, int64_t N, int64_t heads, int64_t D) {
  Values y(size_t(N * heads * D));
  for (int64_t n = 0, i = 0; n < N; ++n)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t d = 0; d < D; ++d) y[size_t(i++)] = get(x, n, h, d);
  return y;
}

void fill(const HeadView& x, int64_t N, int64_t heads, int64_t D, std::mt19937& random) {
  std::normal_distribution<double> normal;
  for (int64_t n = 0; n < N; ++n)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t d = 0; d < D; ++d) set(x, n, h, d, normal(random));
}

double relative_l2(const Values& got, const Values& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); ++i) difference += (got[i] - expected[i]) * (got[i] - expected[i]), norm += expected[i] * expected[i];
  return sqrt(difference / (norm > 0 ? norm : 1));  // NaN anywhere makes every comparison below fail
}

/// What both the kernels and the reference are given.
struct Problem {
  Case c;
  int64_t N = 0;
  std::vector<int32_t> cu_seqlens{0}, positions;
  std::vector<float> cos, sin, slopes;
  AttentionShape shape;

  explicit Problem(const Case& c) : c(c) {
    int32_t longest = 0;
    for (int32_t T : c.lengths) {
      for (int32_t t = 0; t < T; ++t) positions.push_back(t);
      cu_seqlens.push_back(cu_seqlens.back() + T);
      longest = T > longest ? T : longest;
    }
    N = cu_seqlens.back();
    for (int32_t t = 0; t < longest; ++t)
      for (int64_t i = 0; i < c.rotary_dim / 2; ++i) {
        const double angle = t * pow(10000.0, -2.0 * double(i) / double(c.rotary_dim));
        cos.push_back(float(::cos(angle))), sin.push_back(float(::sin(angle)));
      }
    for (int64_t h = 0; h < c.H; ++h) slopes.push_back(float(pow(2.0, -8.0 * double(h + 1) / double(c.H))));
    shape = {c.H, c.G, c.D, float(1.0 / sqrt(double(c.D))), {c.rotary_dim, cos.data(), sin.data()}, c.alibi ? slopes.data() : nullptr};
  }
  Sequences sequences() const { return {cu_seqlens.data(), positions.data(), int64_t(c.lengths.size()), N}; }

  void rotate(double* x, int64_t position, double sign) const {
    const int64_t half = c.rotary_dim / 2;
    for (int64_t i = 0; i < half; ++i) {
      const double co = cos[size_t(position * half + i)], si = sign * sin[size_t(position * half + i)], a = x[i], b = x[i + half];
      x[i] = co * a - si * b, x[i + half] = si * a + co * b;
    }
  }
};

struct Reference {
  Values out, lse, dq, dk, dv;
};

double dot(const double* a, const double* b, int64_t D) {
  double sum = 0;
  for (int64_t d = 0; d < D; ++d) sum += a[d] * b[d];
  return sum;
}

/// The formulas, term by term. dout empty: forward only.
Reference reference(const Problem& p, Values q, Values k, const Values& v, const Values& dout) {
  const int64_t H = p.c.H, G = p.c.G, D = p.c.D;
  for (int64_t n = 0; n < p.N; ++n) {
    for (int64_t h = 0; h < H; ++h) p.rotate(&q[size_t((n * H + h) * D)], p.positions[size_t(n)], 1);
    for (int64_t g = 0; g < G; ++g) p.rotate(&k[size_t((n * G + g) * D)], p.positions[size_t(n)], 1);
  }
  Reference r{Values(q.size()), Values(size_t(p.N * H)), Values(q.size()), Values(k.size()), Values(k.size())};
  for (size_t s = 0; s + 1 < p.cu_seqlens.size(); ++s)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t i = p.cu_seqlens[s]; i < p.cu_seqlens[s + 1]; ++i) {
        const size_t qi = size_t((i * H + h) * D);
        const auto kv = [&](int64_t j) { return size_t((j * G + h / (H / G)) * D); };
        Values probability;
        double max = -INFINITY, sum = 0;
        for (int64_t j = p.cu_seqlens[s]; j <= i; ++j) {
          probability.push_back(p.shape.scale * dot(&q[qi], &k[kv(j)], D) + (p.c.alibi ? p.slopes[size_t(h)] * double(j - i) : 0));
          max = fmax(max, probability.back());
        }
        for (double& x : probability) x = exp(x - max), sum += x;
        for (double& x : probability) x /= sum;
        r.lse[size_t(i * H + h)] = max + log(sum);
        for (int64_t j = p.cu_seqlens[s]; j <= i; ++j)
          for (int64_t d = 0; d < D; ++d) r.out[qi + size_t(d)] += probability[size_t(j - p.cu_seqlens[s])] * v[kv(j) + size_t(d)];
        if (dout.empty()) continue;
        const double delta = dot(&dout[qi], &r.out[qi], D);
        for (int64_t j = p.cu_seqlens[s]; j <= i; ++j) {
          const double pij = probability[size_t(j - p.cu_seqlens[s])], ds = pij * (dot(&dout[qi], &v[kv(j)], D) - delta) * p.shape.scale;
          for (int64_t d = 0; d < D; ++d) {
            r.dv[kv(j) + size_t(d)] += pij * dout[qi + size_t(d)];
            r.dq[qi + size_t(d)] += ds * k[kv(j) + size_t(d)];
            r.dk[kv(j) + size_t(d)] += ds * q[qi + size_t(d)];
          }
        }
      }
  for (int64_t n = 0; n < p.N; ++n) {
    for (int64_t h = 0; h < H; ++h) p.rotate(&r.dq[size_t((n * H + h) * D)], p.positions[size_t(n)], -1);
    for (int64_t g = 0; g < G; ++g) p.rotate(&r.dk[size_t((n * G + g) * D)], p.positions[size_t(n)], -1);
  }
  return r;
}

/// Buffers of one forward and backward.
struct Run {
  const Problem& p;
  Heads in, grad;
  std::vector<char> out_bytes, dout_bytes, scratch;
  HeadView out, dout;
  std::vector<float> lse;

  Run(const Problem& p, unsigned seed) : p(p), in(p.c, p.N), grad(p.c, p.N) {
    const Case& c = p.c;
    const int64_t row = c.H * c.D + 5;
    out_bytes.resize(size_t(p.N * row * size_of(c.dtype)), char(0xFF));
    dout_bytes = out_bytes;
    out = {out_bytes.data(), c.dtype, row, c.D}, dout = {dout_bytes.data(), c.dtype, row, c.D};
    lse.resize(size_t(p.N * c.H), NAN);
    std::mt19937 random(seed);
    fill(in.q, p.N, c.H, c.D, random), fill(in.k, p.N, c.G, c.D, random), fill(in.v, p.N, c.G, c.D, random), fill(dout, p.N, c.H, c.D, random);
  }
  void forward(Backend& b) { b.attention_forward(out, lse.data(), in.q, in.k, in.v, p.sequences(), p.shape); }
  void backward(Backend& b) {
    if (scratch.empty()) scratch.assign(size_t(b.attention_scratch_bytes(p.N, p.shape)) + 64, char(0xFF));
    char* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    b.attention_backward(grad.q, grad.k, grad.v, dout, out, lse.data(), in.q, in.k, in.v, aligned, p.sequences(), p.shape);
  }
  Values q() const { return read(in.q, p.N, p.c.H, p.c.D); }
  Values k() const { return read(in.k, p.N, p.c.G, p.c.D); }
  Values v() const { return read(in.v, p.N, p.c.G, p.c.D); }
};

int64_t count_nan(const std::vector<char>& bytes, DType dtype) {
  int64_t nans = 0;
  for (size_t i = 0; i < bytes.size(); i += size_t(size_of(dtype))) nans += bytes[i] == char(0xFF) && !memcmp(&bytes[i], "\xFF\xFF\xFF\xFF", size_t(size_of(dtype)));
  return nans;
}

std::string name_of(const Case& c) {
  std::string name = "T";
  for (int32_t T : c.lengths) name.append(" ").append(std::to_string(T));
  return name + " H " + std::to_string(c.H) + " G " + std::to_string(c.G) + " D " + std::to_string(c.D) + " rotary " + std::to_string(c.rotary_dim) + (c.alibi ? " alibi" : "") +
         (c.layout == Layout::separate ? " separate" : c.layout == Layout::interleaved ? " interleaved" : " concatenated") + (c.dtype == DType::f32 ? " fp32" : " bf16");
}

/// A back end to test, and what failures call it.
struct Kernels {
  std::string name;
  std::unique_ptr<Backend> backend;
};

void agrees_with_the_formulas(Backend& b, const std::string& isa, const Problem& p, const Reference& expected) {
  const Case& c = p.c;
  Run run(p, 1);
  const std::string name = isa + " " + name_of(c);
  const double limit = c.dtype == DType::f32 ? 2e-6 : 1.2e-2;
  const auto close = [&](const char* what, const Values& got, const Values& want) {
    const double error = relative_l2(got, want);
    check(error <= limit, name + " " + what, error, limit);
  };
  run.forward(b);
  close("out", read(run.out, p.N, c.H, c.D), expected.out);
  close("lse", Values(run.lse.begin(), run.lse.end()), expected.lse);
  const int64_t gaps = count_nan(run.grad.bytes, c.dtype) - p.N * (c.H + 2 * c.G) * c.D;
  run.backward(b);
  if (p.N > 1) {  // of one token dq and dk are 0 exactly in the formulas and rounding in the kernels
    close("dq", read(run.grad.q, p.N, c.H, c.D), expected.dq);
    close("dk", read(run.grad.k, p.N, c.G, c.D), expected.dk);
  }
  close("dv", read(run.grad.v, p.N, c.G, c.D), expected.dv);
  check(count_nan(run.grad.bytes, c.dtype) == gaps, name + " writes nothing outside the views of the gradients", 0, 0);
  check(count_nan(run.out_bytes, c.dtype) == p.N * 5, name + " writes nothing outside the view of out", 0, 0);
}

/// The reference is the slow part: one for all instruction sets.
void agree_with_the_formulas(const std::vector<Kernels>& all, const Case& c) {
  const Problem p(c);
  const Run inputs(p, 1);
  const Reference expected = reference(p, inputs.q(), inputs.k(), inputs.v(), read(inputs.dout, p.N, c.H, c.D));
  for (const Kernels& kernels : all) agrees_with_the_formulas(*kernels.backend, kernels.name, p, expected);
}

/// The reference's gradients, hence the kernels', against central differences of the reference's forward.
void reference_agrees_with_finite_differences(bool alibi) {
  const Case c{{1, 6, 4}, 4, 2, 6, alibi ? 0 : 4, alibi, Layout::separate, DType::f32};
  const Problem p(c);
  const Run run(p, 2);
  const Values dout = read(run.dout, p.N, c.H, c.D);
  Values inputs[3] = {run.q(), run.k(), run.v()};
  const Reference r = reference(p, inputs[0], inputs[1], inputs[2], dout);
  const Values* gradients[3] = {&r.dq, &r.dk, &r.dv};
  for (int which = 0; which < 3; ++which) {
    Values numeric;
    for (double& x : inputs[which]) {
      const double saved = x, step = 1e-5;
      double loss[2];
      for (int side = 0; side < 2; ++side) {
        x = saved + (side ? step : -step);
        loss[side] = dot(reference(p, inputs[0], inputs[1], inputs[2], {}).out.data(), dout.data(), int64_t(dout.size()));
      }
      x = saved;
      numeric.push_back((loss[1] - loss[0]) / (2 * step));
    }
    const double error = relative_l2(*gradients[which], numeric);
    check(error < 1e-8, std::string("reference gradient of ") + "qkv"[which], error, 1e-8);
  }
}

void does_not_depend_on_threads_or_repetition(Backend& b, const std::string& isa) {
  for (const Case& c : {Case{{130, 65, 3}, 4, 2, 64, 32, false, Layout::concatenated, DType::f32}, Case{{200}, 3, 1, 80, 0, true, Layout::concatenated, DType::bf16}}) {
    const Problem p(c);
    const int usual = omp_get_max_threads();
    std::vector<char> out, gradients;
    for (int threads : {1, 2, 2, 3, 7}) {
      omp_set_num_threads(threads);
      Run run(p, 3);
      run.forward(b), run.backward(b);
      if (out.empty()) out = run.out_bytes, gradients = run.grad.bytes;
      check(out == run.out_bytes && gradients == run.grad.bytes, isa + " " + name_of(c) + " is the same on " + std::to_string(threads) + " threads", 1, 0);
    }
    omp_set_num_threads(usual);
  }
}

/// A prompt through forward and cache_prompt, the rest through decode: each position's output is what one forward gives.
void decode_continues_a_prompt(Backend& b, const std::string& isa, int64_t H, int64_t G, int64_t D, int64_t rotary_dim, bool alibi, DType dtype) {
  const int64_t T = 150, prompt = 70, max_length = 160, cache_row = 2;
  const Case c{{int32_t(T)}, H, G, D, rotary_dim, alibi, Layout::concatenated, dtype};
  const Problem p(c);
  Run whole(p, 4), fresh(p, 4);
  whole.forward(b);
  std::vector<char> k_cache(size_t(3 * max_length * G * D * size_of(dtype)), char(0xFF)), v_cache = k_cache, out_bytes = whole.out_bytes;
  b.cache_prompt(k_cache.data(), v_cache.data(), dtype, whole.in.k, whole.in.v, 0, prompt, cache_row, max_length, p.shape);
  const int32_t row = int32_t(cache_row);
  const std::vector<int32_t> source(size_t{max_length}, row);
  const auto at = [&](HeadView x, int64_t t) { return x.data = static_cast<char*>(x.data) + t * x.token_stride * size_of(dtype), x; };
  HeadView out = whole.out;
  out.data = out_bytes.data();
  for (int64_t t = prompt; t < T; ++t) {
    const int32_t position = int32_t(t);
    b.attention_decode(at(out, t), at(fresh.in.q, t), at(fresh.in.k, t), at(fresh.in.v, t), k_cache.data(), v_cache.data(), dtype, source.data(), &row, &position, 1, max_length, p.shape);
  }
  const double error = relative_l2(read(out, T, H, D), read(whole.out, T, H, D)), limit = dtype == DType::f32 ? 1e-6 : 8e-3;
  check(error <= limit, isa + " decode continues a prompt, " + name_of(c), error, limit);
}

/// Beams at different positions whose past lies scattered over other beams' cache rows.
void decode_follows_the_source_table(Backend& b, const std::string& isa) {
  const int64_t rows = 3, cache_count = 4, max_length = 90, H = 4, G = 2, D = 16;
  const int32_t cache_rows[rows] = {2, 0, 3}, positions[rows] = {75, 0, 64};
  std::mt19937 random(5);
  std::vector<float> k_cache(size_t(cache_count * max_length * G * D)), v_cache(k_cache.size());
  for (float& x : k_cache) x = float(std::normal_distribution<double>()(random));
  for (float& x : v_cache) x = float(std::normal_distribution<double>()(random));
  std::vector<int32_t> source(size_t(rows * max_length));
  for (int32_t& x : source) x = int32_t(random() % uint32_t(cache_count));
  for (int64_t r = 0; r < rows; ++r) source[size_t(r * max_length + positions[r])] = (cache_rows[r] + 1) % int32_t(cache_count);  // must be ignored
  const Problem step(Case{{int32_t(rows)}, H, G, D, 0, true, Layout::concatenated, DType::f32});
  Run run(step, 6);
  const std::vector<float> k_before = k_cache, v_before = v_cache;
  b.attention_decode(run.out, run.in.q, run.in.k, run.in.v, k_cache.data(), v_cache.data(), DType::f32, source.data(), cache_rows, positions, rows, max_length, step.shape);
  for (int64_t r = 0; r < rows; ++r) {  // the row's own past as one plain sequence; only its last query counts
    const int64_t T = positions[r] + 1;
    const Problem past(Case{{int32_t(T)}, H, G, D, 0, true, Layout::concatenated, DType::f32});
    Values q(size_t(T * H * D)), k(size_t(T * G * D)), v(k.size());
    for (int64_t h = 0; h < H; ++h)
      for (int64_t d = 0; d < D; ++d) q[size_t(((T - 1) * H + h) * D + d)] = get(run.in.q, r, h, d);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t g = 0; g < G; ++g)
        for (int64_t d = 0; d < D; ++d) {
          const size_t to = size_t((t * G + g) * D + d), from = size_t(((source[size_t(r * max_length + t)] * max_length + t) * G + g) * D + d);
          k[to] = t == T - 1 ? get(run.in.k, r, g, d) : double(k_before[from]);
          v[to] = t == T - 1 ? get(run.in.v, r, g, d) : double(v_before[from]);
        }
    const Values expected = reference(past, q, k, v, {}).out, got = read(run.out, rows, H, D);
    const double error = relative_l2(Values(got.begin() + r * H * D, got.begin() + (r + 1) * H * D), Values(expected.end() - H * D, expected.end()));
    check(error <= 1e-6, isa + " decode reads position t from source[r, t], row " + std::to_string(r), error, 1e-6);
  }
  int64_t changed = 0;
  for (size_t i = 0; i < k_cache.size(); ++i) changed += k_cache[i] != k_before[i];
  check(changed == rows * G * D, isa + " decode writes one position a row into the cache", double(changed), double(rows * G * D));
}

std::vector<Case> cases() {
  std::vector<Case> list;
  const std::vector<std::vector<int32_t>> lengths{{1}, {2, 3, 1}, {17, 63}, {64}, {65, 1, 130}, {128, 30}};
  const int64_t dims[] = {1, 8, 12, 16, 37, 64, 80, 96, 100, 128, 256};
  int turn = 0;
  for (DType dtype : {DType::f32, DType::bf16})
    for (int64_t D : dims)
      for (const auto& T : lengths) {
        const int which = turn++ % 5;
        const int64_t H = which == 0 ? 2 : which == 1 ? 4 : 3, G = which == 0 ? 2 : which == 1 ? 2 : which == 2 ? 1 : 3;
        const int64_t rotary = which == 3 ? D / 2 * 2 : which == 1 ? D / 8 * 2 : 0;
        list.push_back({T, H, G, D, rotary, which == 2 || which == 4, H == G && turn % 2 ? Layout::interleaved : turn % 3 ? Layout::concatenated : Layout::separate, dtype});
      }
  return list;
}

void print_rates(Backend& b, const std::string& isa) {
  for (DType dtype : {DType::f32, DType::bf16})
    for (const Case& c : {Case{{256, 256, 256, 256}, 12, 12, 64, 0, true, Layout::interleaved, dtype}, Case{{256, 256, 256, 256}, 12, 12, 64, 64, false, Layout::interleaved, dtype},
                          Case{{30, 45, 120, 80, 200, 33, 64, 150, 90, 212}, 12, 12, 64, 64, false, Layout::concatenated, dtype}, Case{{2048}, 8, 2, 128, 128, false, Layout::concatenated, dtype}}) {
      const Problem p(c);
      Run run(p, 7);
      double pairs = 0, best[2] = {1e9, 1e9};
      for (int32_t T : c.lengths) pairs += double(T) * (T + 1) / 2;
      for (int repeat = 0; repeat < 30; ++repeat)
        for (int pass = 0; pass < 2; ++pass) {
          const auto start = std::chrono::steady_clock::now();
          pass == 0 ? run.forward(b) : run.backward(b);
          best[pass] = fmin(best[pass], std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        }
      const double flop = 2.0 * pairs * double(c.H * c.D);
      std::printf("%s %s: forward %.2f ms, %.0f GFLOP/s; backward %.2f ms, %.0f GFLOP/s (exact causal work, %d threads)\n", isa.c_str(), name_of(c).c_str(), best[0] * 1e3, 2 * flop / best[0] * 1e-9,
                  best[1] * 1e3, 5 * flop / best[1] * 1e-9, omp_get_max_threads());
    }
}

/// One row after 4000 tokens: bytes of cache read a second.
void print_decode_rate(Backend& b, const std::string& isa, int64_t H, int64_t G) {
  const int64_t D = 128, max_length = 4001;
  const int32_t row = 0, position = 4000;
  const Problem p(Case{{1}, H, G, D, 0, false, Layout::concatenated, DType::bf16});
  Run run(p, 8);
  std::vector<bf16> k_cache(size_t(max_length * G * D)), v_cache(k_cache.size());
  const std::vector<int32_t> source(size_t{max_length}, row);
  double best = 1e9;
  for (int repeat = 0; repeat < 50; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    b.attention_decode(run.out, run.in.q, run.in.k, run.in.v, k_cache.data(), v_cache.data(), DType::bf16, source.data(), &row, &position, 1, max_length, p.shape);
    best = fmin(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::printf("%s decode, 4000 tokens of bf16 cache, H %d G %d D %d: %.2f ms, %.1f GB/s\n", isa.c_str(), int(H), int(G), int(D), best * 1e3, double(2 * (position + 1) * G * D * 2) / best * 1e-9);
}

void run_checks(Backend& b, const std::string& isa) {
  does_not_depend_on_threads_or_repetition(b, isa);
  for (DType dtype : {DType::f32, DType::bf16}) {
    decode_continues_a_prompt(b, isa, 4, 4, 64, 64, false, dtype);
    decode_continues_a_prompt(b, isa, 12, 1, 37, 10, false, dtype);
    decode_continues_a_prompt(b, isa, 20, 5, 64, 32, false, dtype);
    decode_continues_a_prompt(b, isa, 6, 3, 100, 0, true, dtype);
  }
  decode_follows_the_source_table(b, isa);
}

}  // namespace

int main(int argc, char** argv) {
  const bool timing = argc > 1 && !strcmp(argv[1], "--time");
  if (!timing) {
    reference_agrees_with_finite_differences(false);
    reference_agrees_with_finite_differences(true);
  }
  std::vector<Kernels> all;
  const auto with = [&](Backend* (*create)(const CpuOptions&), const char* isa, bool supported, bool bf16_dot) {
    const std::string name = std::string(isa) + (bf16_dot ? "+bf16" : "");
    if (!supported) return void(std::printf("%s: skipped, this machine does not have it\n", name.c_str()));
    CpuOptions options;
    options.bf16_dot = bf16_dot;
    all.push_back({name, std::unique_ptr<Backend>(create(options))});
  };
  with(baseline::create_cpu_backend, "baseline", true, false);
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  with(avx2::create_cpu_backend, "avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), false);
  with(avx512::create_cpu_backend, "avx512", avx512, false);
  with(avx512::create_cpu_backend, "avx512", avx512 && __builtin_cpu_supports("avx512bf16"), true);
#endif
  if (timing) {
    for (const Kernels& kernels : all) {
      print_rates(*kernels.backend, kernels.name);
      print_decode_rate(*kernels.backend, kernels.name, 32, 32);
      print_decode_rate(*kernels.backend, kernels.name, 32, 8);
    }
    return 0;
  }
  for (const Case& c : cases()) agree_with_the_formulas(all, c);
  for (const Kernels& kernels : all) {
    run_checks(*kernels.backend, kernels.name);
    std::printf("%s: tested\n", kernels.name.c_str());
  }
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
