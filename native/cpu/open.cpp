// Chooses the CPU back end: the best instruction set this machine has, or what POLYPACA_ISA asks for (tests and comparisons), and
// whose products it uses: our own or oneDNN's, or what POLYPACA_GEMM asks for.
// Compiled once, for the baseline.
#include <omp.h>

#include <cstdlib>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "backend/backend.h"
#include "core/error.h"
#include "cpu/cpu_options.h"
#include "cpu/onednn.h"

namespace polypaca {
namespace {

enum class Isa { baseline, avx2, avx512 };

struct Detected {
  Isa best = Isa::baseline;
  bool bf16_dot = false, amx_bf16 = false;
};

Detected detect() {
  Detected d;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) d.best = Isa::avx2;
  if (d.best == Isa::avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd")) {
    d.best = Isa::avx512;
    d.bf16_dot = __builtin_cpu_supports("avx512bf16");
    unsigned a = 0, b = 0, c = 0, edx = 0;
    d.amx_bf16 = __get_cpuid_count(7, 0, &a, &b, &c, &edx) && (edx & (1u << 22)) != 0;
  }
#endif
  return d;
}

const char* name_of(Isa isa) { return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline"; }

struct Choice {
  Isa isa;
  CpuOptions options;
};

/// Our own products are the faster ones on AVX2 and AVX-512 (docs/performance.md), but have no AMX kernels.
bool chooses_onednn(const Detected& d) {
  const char* wanted = std::getenv("POLYPACA_GEMM");
  if (!wanted || !*wanted) return d.amx_bf16 && onednn_version();
  const std::string name = wanted;
  if (name != "portable" && name != "onednn") throw Error(ErrorCode::unsupported, "POLYPACA_GEMM=" + name + ": expected portable or onednn");
  if (name == "onednn" && !onednn_version()) throw Error(ErrorCode::unsupported, "POLYPACA_GEMM=onednn: this build has no oneDNN. Install it (Debian: apt-get install libdnnl-dev) and build again.");
  return name == "onednn";
}

Choice choose() {
  const Detected d = detect();
  Choice choice{d.best, {}};
  if (const char* wanted = std::getenv("POLYPACA_ISA"); wanted && *wanted) {
    const std::string name = wanted;
    if (name != "baseline" && name != "avx2" && name != "avx512") throw Error(ErrorCode::unsupported, "POLYPACA_ISA=" + name + ": expected baseline, avx2 or avx512");
    const Isa isa = name == "avx512" ? Isa::avx512 : name == "avx2" ? Isa::avx2 : Isa::baseline;
    if (isa > d.best) throw Error(ErrorCode::unsupported, "POLYPACA_ISA=" + name + ": this machine has no more than " + name_of(d.best));
    choice.isa = isa;
  }
  choice.options.bf16_dot = d.bf16_dot && choice.isa == Isa::avx512;
  choice.options.onednn = chooses_onednn(d);
  return choice;
}

}  // namespace

std::string name_of_products(const CpuOptions& options) { return options.onednn ? std::string("oneDNN ") + onednn_version() : "portable"; }

std::string describe_cpu_backend(const char* isa, const CpuOptions& options) {
  return std::string("cpu ") + isa + (options.bf16_dot ? " bf16" : "") + ", " + name_of_products(options) + " products, " + std::to_string(omp_get_max_threads()) + " threads";
}

CpuFeatures cpu_features() {
  const Choice choice = choose();
  CpuFeatures f;
  f.isa = name_of(choice.isa);
  f.bf16_dot = choice.options.bf16_dot;
  f.amx_bf16 = detect().amx_bf16;
  f.gemm = name_of_products(choice.options);
  f.onednn = onednn_version() ? onednn_version() : "";
  f.threads = omp_get_max_threads();
  return f;
}

double measure_micro_kernel(DType dtype, double milliseconds) {
  const Choice choice = choose();
  const bool dot = dtype == DType::bf16 && choice.options.bf16_dot;
  const double seconds = milliseconds / 1000;
#if defined(__x86_64__)
  if (choice.isa == Isa::avx512) return avx512::measure_kernel_peak(dot, seconds) / 1e9;
  if (choice.isa == Isa::avx2) return avx2::measure_kernel_peak(dot, seconds) / 1e9;
#endif
  return baseline::measure_kernel_peak(dot, seconds) / 1e9;
}

std::shared_ptr<Backend> open_cpu_backend() {
  const Choice choice = choose();
#if defined(__x86_64__)
  if (choice.isa == Isa::avx512) return std::shared_ptr<Backend>(avx512::create_cpu_backend(choice.options));
  if (choice.isa == Isa::avx2) return std::shared_ptr<Backend>(avx2::create_cpu_backend(choice.options));
#endif
  return std::shared_ptr<Backend>(baseline::create_cpu_backend(choice.options));
}

}  // namespace polypaca
