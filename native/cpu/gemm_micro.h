// Registers of the dense product: C tile [R, V vectors] += A panel x B panel, for every instruction set.
// A panel [units][kRowStride], B panel [units][V * kLanes], both of 32-bit units: one fp32 value, or the bf16 values k and k + 1 for
// vdpbf16ps, which multiplies pairs. R rows of broadcasts times V vectors keep R * V sums in registers; kMaxRows x 2 leaves
// room for the two vectors of B and a broadcast (28 + 3 of 32 registers with AVX-512, 12 + 3 of 16 otherwise).
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace polypaca::POLYPACA_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kMaxRows = 14;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kMaxRows = 6;
#else
constexpr int kLanes = 4, kMaxRows = 6;
#endif
constexpr int kPanel = 2 * kLanes;  // columns of a full B panel
constexpr int kRowStride = (kMaxRows + kLanes - 1) / kLanes * kLanes;  // places for rows in an A panel: whole vectors pack faster

typedef float Floats __attribute__((vector_size(4 * kLanes), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes), may_alias));
typedef float UnalignedFloats __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef uint32_t UnalignedWords __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes), may_alias));
typedef uint16_t UnalignedHalves __attribute__((vector_size(2 * kLanes), aligned(2), may_alias));

POLYPACA_INLINE Words splat(uint32_t x) { return x - Words{}; }

/// fp32 units.
struct Fp32Unit {
  static constexpr int kElements = 1;
  static POLYPACA_INLINE Floats dot(Floats sum, Words a, Words b) { return sum + (Floats)a * (Floats)b; }
  static POLYPACA_INLINE Floats dot(Floats sum, uint32_t a, Words b) { return dot(sum, splat(a), b); }
};

/// Pairs of bf16. Assembly, because the intrinsic would need a target attribute on every function it is inlined into: the build
/// is for AVX-512 in general and asks the processor for this instruction at run time.
struct Bf16Unit {
  static constexpr int kElements = 2;
#ifdef __AVX512F__
  static POLYPACA_INLINE Floats dot(Floats sum, Words a, Words b) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
  static POLYPACA_INLINE Floats dot(Floats sum, uint32_t a, Words b) { return dot(sum, splat(a), b); }
#endif
};

POLYPACA_INLINE Floats load_floats(const float* p) { return *(const UnalignedFloats*)p; }
POLYPACA_INLINE Floats load_floats(const bf16* p) { return (Floats)(__builtin_convertvector(*(const UnalignedHalves*)p, Words) << 16); }

template <typename Unit>
POLYPACA_INLINE void store_floats(Unit, float* p, Floats x) {
  *(UnalignedFloats*)p = x;
}
/// to_bf16 of core/dtype.h, lane by lane.
POLYPACA_INLINE void store_floats(Fp32Unit, bf16* p, Floats x) {
  const Words bits = (Words)x;
  const Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16, quiet_nan = (bits >> 16) | 0x40u;
  const Words nan = (Words)((bits & 0x7FFFFFFFu) > 0x7F800000u);
  *(UnalignedHalves*)p = __builtin_convertvector((rounded & ~nan) | (quiet_nan & nan), Halves);
}
#ifdef __AVX512F__
/// The same in one instruction, except that it takes subnormal values for zero.
POLYPACA_INLINE void store_floats(Bf16Unit, bf16* p, Floats x) {
  Halves halves;
  asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(x));
  *(UnalignedHalves*)p = halves;
}
#endif

/// kFetch: `ahead` is what a later call will read; a line of it is asked for per unit, `step` bytes from the last.
template <typename Unit, bool kFetch, int R, int V>
POLYPACA_INLINE void accumulate(Floats (&sum)[R][V], const uint32_t* a, const uint32_t* b, int64_t units, const char* ahead, int64_t step) {
  for (int64_t u = 0; u < units; ++u, a += kRowStride, b += V * kLanes, ahead += step) {
    if constexpr (kFetch) __builtin_prefetch(ahead, 0, 2);
    Words column[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) column[v] = *(const Words*)(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] = Unit::dot(sum[r][v], a[r], column[v]);
    }
  }
}

/// One tile's share of work: a product over `units`, then one over `units2` whose A panel follows the first's.
struct MicroCall {
  const uint32_t *a, *b, *b2;
  int64_t units, units2;
  void* c;             // R rows of V * kLanes sums go here, rounded where c_dtype is bf16
  DType c_dtype;
  int64_t ldc;         // in elements
  const float* bias;   // [V * kLanes], may be null
  bool adds;           // to what is in c
  const char* ahead;   // may be null: memory to fetch into the second-level cache meanwhile, a line per unit; it need not exist
  int64_t ahead_step;  // bytes between lines
};

/// C's rows lie pages apart: asked for before the sums are taken, they are there after them.
template <typename T, int R, int V>
POLYPACA_INLINE void prefetch_sums(const MicroCall& call) {
  const T* c = static_cast<const T*>(call.c);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r, c += call.ldc) {
#pragma GCC unroll 4
    for (int byte = 0; byte < V * kLanes * int(sizeof(T)); byte += 64) __builtin_prefetch(reinterpret_cast<const char*>(c) + byte, 1, 3);
  }
}

template <typename Unit, typename T, int R, int V>
POLYPACA_INLINE void store_sums(Floats (&sum)[R][V], const MicroCall& call) {
  T* c = static_cast<T*>(call.c);
  if (call.bias) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
      const Floats bias = load_floats(call.bias + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[r][v] += bias;
    }
  }
  if (call.adds) {
    const T* from = c;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r, from += call.ldc) {
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] += load_floats(from + v * kLanes);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r, c += call.ldc) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) store_floats(Unit{}, c + v * kLanes, sum[r][v]);
  }
}

template <typename Unit, int R, int V>
void micro_kernel(const MicroCall& call) {
  Floats sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) sum[r][v] = Floats{};
  }
  if (call.adds) call.c_dtype == DType::bf16 ? prefetch_sums<bf16, R, V>(call) : prefetch_sums<float, R, V>(call);
  constexpr bool kMayFetch = V == 2 && R + 2 > kMaxRows;  // slivers are too few to matter, and each kernel twice is much code
  if (kMayFetch && call.ahead) {
    accumulate<Unit, kMayFetch, R, V>(sum, call.a, call.b, call.units, call.ahead, call.ahead_step);
  } else {
    accumulate<Unit, false, R, V>(sum, call.a, call.b, call.units, nullptr, 0);
  }
  if (call.units2 > 0) accumulate<Unit, false, R, V>(sum, call.a + call.units * kRowStride, call.b2, call.units2, nullptr, 0);
  if (call.c_dtype == DType::bf16) {
    store_sums<Unit, bf16>(sum, call);
  } else {
    store_sums<Unit, float>(sum, call);
  }
}

using MicroKernel = void (*)(const MicroCall&);

/// The kernel for `rows` rows and `vectors` (1 or 2) vectors of columns.
template <typename Unit, int R = kMaxRows>
POLYPACA_INLINE MicroKernel find_micro_kernel(int64_t rows, int64_t vectors) {
  if constexpr (R > 1) {
    if (rows < R) return find_micro_kernel<Unit, R - 1>(rows, vectors);
  }
  return vectors == 1 ? micro_kernel<Unit, R, 1> : micro_kernel<Unit, R, 2>;
}

}  // namespace polypaca::POLYPACA_ISA
