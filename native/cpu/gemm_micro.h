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

template <typename Unit, int R, int V>
POLYPACA_INLINE void accumulate(Floats (&sum)[R][V], const uint32_t* a, const uint32_t* b, int64_t units) {
  for (int64_t u = 0; u < units; ++u, a += kRowStride, b += V * kLanes) {
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
  void* c;       // R rows of V * kLanes sums are assigned here, rounded where c_dtype is bf16
  DType c_dtype;
  int64_t ldc;   // in elements
};

template <typename Unit, typename T, int R, int V>
POLYPACA_INLINE void store_sums(const Floats (&sum)[R][V], T* c, int64_t ldc) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r, c += ldc) {
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
  accumulate<Unit, R, V>(sum, call.a, call.b, call.units);
  if (call.units2 > 0) accumulate<Unit, R, V>(sum, call.a + call.units * kRowStride, call.b2, call.units2);
  if (call.c_dtype == DType::bf16) {
    store_sums<Unit>(sum, static_cast<bf16*>(call.c), call.ldc);
  } else {
    store_sums<Unit>(sum, static_cast<float*>(call.c), call.ldc);
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
