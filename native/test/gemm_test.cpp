// The products of the CPU back end against fp64 triple loops, for every instruction set this machine has, then their speed.
//   gemm_test            checks, then measures
//   gemm_test check      checks only
// Bounds: u = 2^-24 per fp32 addition and product, (length + 4) of them on sums of absolute values; a bf16 result adds 2^-8.
// Where the back end multiplies bf16 values, the reference rounds fp32 factors to bf16 as well.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cpu/cpu_options.h"
#include "cpu/onednn.h"

namespace polypaca {
namespace avx512 {
double measure_kernel_peak(bool bf16_dot, double seconds);
}

namespace {

struct Subject {
  std::string name;
  std::shared_ptr<Backend> backend;
  bool bf16_dot;
};

struct Random {
  uint64_t state;
  uint32_t next() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t(state >> 33);
  }
  int64_t below(int64_t n) { return int64_t(next() % uint32_t(n)); }
  float value() { return float(int32_t(next() % 4001u) - 2000) / 1000.0f; }
};

DType dtype_of(Random& random) { return random.below(2) ? DType::bf16 : DType::f32; }

/// Rows of random values with a gap between them that nothing may touch.
struct Buffer {
  static constexpr float kGap = 77.0f;
  int64_t rows, cols, ld;
  DType dtype;
  std::vector<float> floats;
  std::vector<bf16> halves;

  Buffer(Random& random, int64_t rows, int64_t cols, DType dtype) : rows(rows), cols(cols), ld(cols + random.below(3) * 5), dtype(dtype) {
    floats.resize(size_t(dtype == DType::f32 ? rows * ld : 0));
    halves.resize(size_t(dtype == DType::bf16 ? rows * ld : 0));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < ld; ++c) set(r, c, c < cols ? random.value() : kGap);
    }
  }
  void set(int64_t r, int64_t c, float x) { dtype == DType::f32 ? (floats[size_t(r * ld + c)] = x, void()) : (halves[size_t(r * ld + c)] = to_bf16(x), void()); }
  double at(int64_t r, int64_t c) const { return dtype == DType::f32 ? floats[size_t(r * ld + c)] : to_float(halves[size_t(r * ld + c)]); }
  /// The value as a factor of a product of bf16 values or of fp32 ones.
  double factor(int64_t r, int64_t c, bool bf16_dot) const { return bf16_dot ? to_float(to_bf16(float(at(r, c)))) : at(r, c); }
  Matrix matrix() { return {dtype == DType::f32 ? static_cast<void*>(floats.data()) : halves.data(), dtype, ld}; }
};

int failures = 0;
int64_t cases = 0;

/// A sum and the sum of its terms' absolute values.
struct Sum {
  double value = 0, size = 0;
  int64_t length = 0;
  void add(double term) { value += term, size += std::fabs(term), ++length; }
};

/// Whether element (r, c) of `got` is the sum within its bound.
void check(const Subject& s, const char* what, const Buffer& got, const std::vector<Sum>& want) {
  ++cases;
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t c = 0; c < got.ld; ++c) {
      const double value = got.at(r, c);
      double expected = Buffer::kGap, bound = 0;
      if (c < got.cols) {
        const Sum& sum = want[size_t(r * got.cols + c)];
        expected = sum.value;
        bound = std::ldexp(double(sum.length + 4) * sum.size, -24) + (got.dtype == DType::bf16 ? std::ldexp(std::fabs(expected), -8) : 0.0);
      }
      if (std::fabs(value - expected) <= bound) continue;
      if (++failures <= 20) {
        std::printf("FAILED %s %s [%ld, %ld] ld %ld %s at (%ld, %ld): %.9g, expected %.9g within %.3g\n", s.name.c_str(), what, long(got.rows), long(got.cols), long(got.ld), got.dtype == DType::bf16 ? "bf16" : "fp32", long(r), long(c), value, expected, bound);
      }
      return;
    }
  }
}

std::vector<Sum> start(const Buffer& c, float beta) {
  std::vector<Sum> sums(size_t(c.rows * c.cols));
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t k = 0; k < c.cols; ++k) {
      if (beta != 0) sums[size_t(r * c.cols + k)].add(beta * c.at(r, k));
    }
  }
  return sums;
}

void make_nan(Buffer& b) {  // beta 0 may not read what is there
  for (int64_t r = 0; r < b.rows; ++r) {
    for (int64_t c = 0; c < b.cols; ++c) b.set(r, c, NAN);
  }
}

void check_forward(const Subject& s, Random& random, int64_t N, int64_t rows, int64_t cols) {
  const float beta = float(random.below(2));
  const bool with_bias = random.below(2), trained = random.below(2);
  const int64_t R = random.below(3) == 0 ? 1 + random.below(40) : 0;
  Buffer x(random, N, cols, dtype_of(random)), w(random, rows, cols, dtype_of(random)), y(random, N, rows, dtype_of(random));
  Buffer h(random, N, R, w.dtype), up(random, rows, R, w.dtype), bias(random, 1, rows, DType::f32);
  const bool dot = s.bf16_dot && w.dtype == DType::bf16;
  std::vector<Sum> want = start(y, beta);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t r = 0; r < rows; ++r) {
      Sum& sum = want[size_t(n * rows + r)];
      for (int64_t c = 0; c < cols; ++c) sum.add(x.factor(n, c, dot) * w.factor(r, c, dot));
      for (int64_t k = 0; k < R; ++k) sum.add(h.factor(n, k, dot) * up.factor(r, k, dot));
      if (with_bias) sum.add(bias.at(0, r));
    }
  }
  if (beta == 0) make_nan(y);
  Weight weight{w.matrix(), rows, cols, nullptr};
  s.backend->prepare_weight(weight, trained);
  LoraTerm lora;
  if (R > 0) lora = {h.matrix(), up.matrix(), R};
  s.backend->linear_forward(y.matrix(), x.matrix(), weight, with_bias ? bias.floats.data() : nullptr, lora, N, beta);
  s.backend->release_weight(weight);
  check(s, "linear_forward", y, want);
}

void check_backward_input(const Subject& s, Random& random, int64_t N, int64_t rows, int64_t cols) {
  const float beta = float(random.below(2));
  Buffer dy(random, N, rows, dtype_of(random)), w(random, rows, cols, dtype_of(random)), dx(random, N, cols, dtype_of(random));
  const bool dot = s.bf16_dot && w.dtype == DType::bf16;
  std::vector<Sum> want = start(dx, beta);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) want[size_t(n * cols + c)].add(dy.factor(n, r, dot) * w.factor(r, c, dot));
    }
  }
  if (beta == 0) make_nan(dx);
  Weight weight{w.matrix(), rows, cols, nullptr};
  s.backend->prepare_weight(weight, random.below(2));
  s.backend->linear_backward_input(dx.matrix(), dy.matrix(), weight, N, beta);
  s.backend->release_weight(weight);
  check(s, "linear_backward_input", dx, want);
}

void check_backward_weight(const Subject& s, Random& random, int64_t N, int64_t rows, int64_t cols) {
  const float beta = float(random.below(2)), alpha = random.below(2) ? 1.0f : 0.75f;
  Buffer dy(random, N, rows, dtype_of(random)), x(random, N, cols, dtype_of(random)), dw(random, rows, cols, DType::f32);
  const bool dot = s.bf16_dot && (dy.dtype == DType::bf16 || x.dtype == DType::bf16);
  std::vector<Sum> want = start(dw, beta);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) want[size_t(r * cols + c)].add(alpha * dy.factor(n, r, dot) * x.factor(n, c, dot));
    }
  }
  if (beta == 0) make_nan(dw);
  s.backend->linear_backward_weight(dw.floats.data(), dw.ld, dy.matrix(), x.matrix(), N, rows, cols, alpha, beta);
  check(s, "linear_backward_weight", dw, want);
}

void check_backward_bias(const Subject& s, Random& random, int64_t N, int64_t rows) {
  Buffer dy(random, N, rows, dtype_of(random)), db(random, 1, rows, DType::f32);
  std::vector<Sum> want = start(db, 1);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t r = 0; r < rows; ++r) want[size_t(r)].add(dy.at(n, r));
  }
  s.backend->linear_backward_bias(db.floats.data(), dy.matrix(), N, rows);
  check(s, "linear_backward_bias", db, want);
}

/// All four adapter products on one set of inputs.
void check_adapter(const Subject& s, Random& random, int64_t N, int64_t C, int64_t R) {
  Buffer x(random, N, C, dtype_of(random)), A(random, R, C, dtype_of(random)), h(random, N, R, dtype_of(random));
  Buffer dh(random, N, R, dtype_of(random)), dx(random, N, C, dtype_of(random)), dA(random, R, C, DType::f32);
  dA.ld = C, dA.floats.resize(size_t(R * C));
  std::vector<int32_t> positions, examples;
  for (int64_t n = 0; n < N; ++n) positions.push_back(int32_t(random.below(4096))), examples.push_back(int32_t(random.below(64)));
  Dropout d;
  if (random.below(3) > 0) {
    d.threshold = uint32_t(1 + random.below(65535));
    if (random.below(4) == 0) d.threshold = 3277;
    d.keep_scale = float(1.0 / (1.0 - d.threshold / 65536.0));
    d.key0 = random.next(), d.key1 = random.next(), d.site = uint32_t(random.below(100));
    d.positions = positions.data(), d.examples = examples.data();
  }
  auto mask = [&](int64_t n, int64_t c) { return d.active() ? double(dropout_factor(d, n, c)) : 1.0; };

  const bool dot = s.bf16_dot && A.dtype == DType::bf16;
  std::vector<Sum> want(size_t(N * R));
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t c = 0; c < C; ++c) {
      const double value = mask(n, c) * x.factor(n, c, dot);
      for (int64_t r = 0; r < R; ++r) want[size_t(n * R + r)].add(value * A.factor(r, c, dot));
    }
  }
  make_nan(h);
  s.backend->lora_down_forward(h.matrix(), x.matrix(), A.matrix(), d, N, C, R);
  check(s, "lora_down_forward", h, want);

  const bool dot_weight = s.bf16_dot && (x.dtype == DType::bf16 || dh.dtype == DType::bf16);
  std::vector<Sum> want_dA = start(dA, 1), want_dx = start(dx, 1);
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t c = 0; c < C; ++c) {
      const double m = mask(n, c);
      for (int64_t r = 0; r < R; ++r) {
        want_dA[size_t(r * C + c)].add(m * dh.factor(n, r, dot_weight) * x.factor(n, c, dot_weight));
        want_dx[size_t(n * C + c)].add(m * dh.factor(n, r, dot) * A.factor(r, c, dot));
      }
    }
  }
  const bool with_dx = random.below(4) > 0;
  s.backend->lora_down_backward(with_dx ? dx.matrix() : Matrix{}, dA.floats.data(), dh.matrix(), x.matrix(), A.matrix(), d, N, C, R);
  check(s, "lora_down_backward dA", dA, want_dA);
  if (with_dx) check(s, "lora_down_backward dx", dx, want_dx);
}

void check_up_backward(const Subject& s, Random& random, int64_t N, int64_t rows, int64_t R) {
  Buffer dy(random, N, rows, dtype_of(random)), up(random, rows, R, dtype_of(random)), dh(random, N, R, dtype_of(random));
  const bool dot = s.bf16_dot && up.dtype == DType::bf16;
  std::vector<Sum> want(size_t(N * R));
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t k = 0; k < rows; ++k) {
      for (int64_t r = 0; r < R; ++r) want[size_t(n * R + r)].add(dy.factor(n, k, dot) * up.factor(k, r, dot));
    }
  }
  make_nan(dh);
  s.backend->lora_up_backward(dh.matrix(), dy.matrix(), up.matrix(), N, rows, R);
  check(s, "lora_up_backward", dh, want);
}

/// A row of y may not depend on the rows computed with it, nor anything on a second call.
void check_repeats(const Subject& s, Random& random) {
  const int64_t N = 37, rows = 150, cols = 300;
  Buffer x(random, N, cols, DType::f32), w(random, rows, cols, DType::f32), all(random, N, rows, DType::f32), again = all;
  Weight weight{w.matrix(), rows, cols, nullptr};
  s.backend->linear_forward(all.matrix(), x.matrix(), weight, nullptr, {}, N, 0);
  s.backend->linear_forward(again.matrix(), x.matrix(), weight, nullptr, {}, N, 0);
  ++cases;
  if (all.floats != again.floats && ++failures) std::printf("FAILED %s: a second call gave other bits\n", s.name.c_str());
}

void check_all(const std::vector<Subject>& subjects) {
  const int64_t sizes[] = {1, 2, 3, 7, 13, 14, 15, 16, 17, 31, 33, 64, 65, 100, 127, 129, 257};
  uint64_t seed = 1;
  for (int64_t N : sizes) {
    for (int64_t rows : sizes) {
      for (int64_t cols : sizes) {
        if (++seed % 9 != 0 && N * rows * cols > 4096) continue;
        for (const Subject& s : subjects) {
          Random random{seed};
          check_forward(s, random, N, rows, cols);
          check_backward_input(s, random, N, rows, cols);
          check_backward_weight(s, random, N, rows, cols);
          if (cols <= 65) check_adapter(s, random, N, rows, cols), check_up_backward(s, random, N, rows, cols);
        }
      }
    }
  }
  for (const Subject& s : subjects) {
    Random random{99};
    for (int64_t N : sizes) check_backward_bias(s, random, N, 1 + random.below(700));
    check_forward(s, random, 40, 70, 4500);  // long enough for K to be cut, in bf16 units too
    check_forward(s, random, 3, 33, 9001);
    check_forward(s, random, 600, 50, 5000);
    check_backward_weight(s, random, 5003, 40, 90);
    check_backward_weight(s, random, 4200, 1100, 33);
    check_backward_input(s, random, 30, 4400, 600);
    check_forward(s, random, 0, 5, 5);
    check_repeats(s, random);
  }
}

// ---- speed ----

/// Seconds; with one thread those it really had, so that other programs on the machine do not count.
double now() {
  if (omp_get_max_threads() > 1) return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

struct Product {
  const char* what;
  int64_t N, rows, cols;
  DType dtype;
};

struct Bench {
  Random random{5};
  std::vector<bf16> x, y, w;
  std::vector<float> x32, y32, w32, dw;
};

Matrix dense(Random& random, std::vector<float>& floats, std::vector<bf16>& halves, int64_t rows, int64_t cols, DType dtype) {
  if (dtype == DType::f32) {
    floats.resize(size_t(rows * cols));
    for (float& v : floats) v = random.value();
    return {floats.data(), dtype, cols};
  }
  halves.resize(size_t(rows * cols));
  for (bf16& v : halves) v = to_bf16(random.value());
  return {halves.data(), dtype, cols};
}

/// GFLOP/s of one product per subject: calls interleaved, median of several.
void bench_product(const std::vector<Subject>& subjects, const Product& p) {
  Bench b;
  const Matrix x = dense(b.random, b.x32, b.x, p.N, p.cols, p.dtype), y = dense(b.random, b.y32, b.y, p.N, p.rows, p.dtype);
  const Matrix w = dense(b.random, b.w32, b.w, p.rows, p.cols, p.dtype);
  b.dw.resize(size_t(p.rows * p.cols));
  const std::string what = p.what;
  const double flops = 2.0 * double(p.N) * double(p.rows) * double(p.cols);
  std::vector<Weight> weights(subjects.size(), Weight{w, p.rows, p.cols, nullptr});
  for (size_t i = 0; i < subjects.size(); ++i) subjects[i].backend->prepare_weight(weights[i], false);
  std::vector<std::vector<double>> seconds(subjects.size());
  double peak = 0;
  const int repeats = int(std::clamp(1e11 / flops, 5.0, 40.0));
  for (int repeat = -1; repeat < repeats; ++repeat) {
    peak = std::max(peak, avx512::measure_kernel_peak(p.dtype == DType::bf16, 0.002));
    for (size_t i = 0; i < subjects.size(); ++i) {
      const double begin = now();
      if (what == "forward") subjects[i].backend->linear_forward(y, x, weights[i], nullptr, {}, p.N, 0);
      if (what == "input") subjects[i].backend->linear_backward_input(x, y, weights[i], p.N, 0);
      if (what == "weight") subjects[i].backend->linear_backward_weight(b.dw.data(), p.cols, y, x, p.N, p.rows, p.cols, 1, 0);
      if (repeat >= 0) seconds[i].push_back(now() - begin);
    }
  }
  std::printf("%-4s %-8s N %5ld rows %6ld cols %5ld peak %4.0f", p.dtype == DType::bf16 ? "bf16" : "fp32", p.what, long(p.N), long(p.rows), long(p.cols), peak / 1e9);
  for (size_t i = 0; i < subjects.size(); ++i) {
    std::sort(seconds[i].begin(), seconds[i].end());
    const double rate = flops / seconds[i][seconds[i].size() / 2];
    const double best = flops / seconds[i].front();
    std::printf(" | %s %5.0f, best %5.0f %3.0f%%", subjects[i].name.c_str(), rate / 1e9, best / 1e9, 100 * best / peak);
    subjects[i].backend->release_weight(weights[i]);
  }
  std::printf("\n");
  std::fflush(stdout);
}

void bench_adapters(const Subject& s, int64_t N, int64_t C, int64_t rows, int64_t R) {
  Bench b;
  std::vector<bf16> h, A, up, dx;
  std::vector<float> none;
  Matrix mx = dense(b.random, none, b.x, N, C, DType::bf16), my = dense(b.random, none, b.y, N, rows, DType::bf16), mh = dense(b.random, none, h, N, R, DType::bf16);
  Matrix mA = dense(b.random, none, A, R, C, DType::bf16), mup = dense(b.random, none, up, rows, R, DType::bf16), mdx = dense(b.random, none, dx, N, C, DType::bf16);
  b.dw.resize(size_t(R * std::max(C, rows)));
  std::vector<int32_t> index(static_cast<size_t>(N), 3);
  Dropout d;
  d.threshold = 3277, d.keep_scale = 1.05f, d.positions = d.examples = index.data();
  std::printf("%s adapter N %ld C %ld rows %ld R %ld:", s.name.c_str(), long(N), long(C), long(rows), long(R));
  auto time = [&](const char* what, auto&& f) {
    std::vector<double> t;
    for (int i = 0; i < 15; ++i) {
      const double begin = now();
      f();
      t.push_back(now() - begin);
    }
    std::sort(t.begin(), t.end());
    std::printf(" %s %.0f us", what, 1e6 * t[t.size() / 2]);
  };
  time("down", [&] { s.backend->lora_down_forward(mh, mx, mA, Dropout{}, N, C, R); });
  time("down+dropout", [&] { s.backend->lora_down_forward(mh, mx, mA, d, N, C, R); });
  time("up_backward", [&] { s.backend->lora_up_backward(mh, my, mup, N, rows, R); });
  time("d_up", [&] { s.backend->linear_backward_weight(b.dw.data(), R, my, mh, N, rows, R, 1, 1); });
  time("down_backward", [&] { s.backend->lora_down_backward(mdx, b.dw.data(), mh, mx, mA, Dropout{}, N, C, R); });
  time("down_backward+dropout", [&] { s.backend->lora_down_backward(mdx, b.dw.data(), mh, mx, mA, d, N, C, R); });
  std::printf("\n");
}

void bench_all(const std::vector<Subject>& subjects) {
  std::printf("%d threads, GFLOP/s: peak of the micro-kernel in the cache, median and best of each product, best / peak\n", omp_get_max_threads());
  const int64_t shapes[][2] = {{2048, 512}, {512, 2048}, {1536, 512}, {2304, 768}, {3072, 768}, {768, 3072}, {32000, 512}, {50304, 768}};
  for (DType dtype : {DType::bf16, DType::f32}) {
    for (const char* what : {"forward", "input", "weight"}) {
      for (const auto& shape : shapes) bench_product(subjects, {what, 1024, shape[0], shape[1], dtype});
    }
  }
  for (int64_t N : {1, 4, 8, 16, 64, 256}) bench_product(subjects, {"forward", N, 32000, 512, DType::bf16});
  for (int64_t N : {1, 4, 8, 16, 64, 256}) bench_product(subjects, {"forward", N, 3072, 768, DType::bf16});
  for (int64_t R : {8, 24, 64}) bench_adapters(subjects[0], 1024, 768, 2304, R);
}

std::vector<Subject> checked_subjects() {
  std::vector<Subject> subjects;
  auto add = [&](const char* name, Backend* backend, bool dot) { subjects.push_back({name, std::shared_ptr<Backend>(backend), dot}); };
  CpuOptions packed;
  packed.prepack = true;
  add("baseline", baseline::create_cpu_backend({}), false);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add("avx2", avx2::create_cpu_backend(packed), false);
  if (__builtin_cpu_supports("avx512bw")) add("avx512", avx512::create_cpu_backend({}), false);
  if (__builtin_cpu_supports("avx512bf16")) {
    CpuOptions dot;
    dot.bf16_dot = true;
    add("avx512bf16", avx512::create_cpu_backend(dot), true);
    dot.prepack = true;
    add("avx512bf16 prepacked", avx512::create_cpu_backend(dot), true);
  }
#endif
  return subjects;
}

}  // namespace
}  // namespace polypaca

int main(int argc, char** argv) {
  using namespace polypaca;
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode != "bench") {
    check_all(checked_subjects());
    std::printf("%ld products checked, %d wrong\n", long(cases), failures);
    if (failures > 0) return 1;
  }
  if (mode == "check") return 0;
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx512bf16")) return 0;
  CpuOptions plain, packed, onednn;
  plain.bf16_dot = packed.bf16_dot = onednn.bf16_dot = true;
  packed.prepack = onednn.onednn = true;
  std::vector<Subject> subjects{{"own", std::shared_ptr<Backend>(avx512::create_cpu_backend(plain)), true}, {"packed", std::shared_ptr<Backend>(avx512::create_cpu_backend(packed)), true}};
  if (onednn_version()) subjects.push_back({"onednn", std::shared_ptr<Backend>(avx512::create_cpu_backend(onednn)), true});
  bench_all(subjects);
#endif
  return 0;
}
