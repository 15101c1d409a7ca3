// Element types and the 16-bit conversions. Standard C++ only: also compiled once per instruction set (native/cpu),
// hence everything here is forced inline, so that no copy built for AVX-512 can be linked into a baseline path.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)  // kernels read and write these types, too
#define POLYPACA_INLINE __host__ __device__ __forceinline__
#else
#define POLYPACA_INLINE inline __attribute__((always_inline))
#endif

namespace polypaca {

enum class DType : uint8_t { f32, bf16, f16 };

POLYPACA_INLINE int64_t size_of(DType dtype) { return dtype == DType::f32 ? 4 : 2; }

/// bfloat16: the upper half of an fp32. Arithmetic happens in fp32; this type only stores.
struct bf16 {
  uint16_t bits;
};

POLYPACA_INLINE float to_float(float x) { return x; }
POLYPACA_INLINE float to_float(bf16 x) {
  uint32_t wide = uint32_t(x.bits) << 16;
  float y;
  std::memcpy(&y, &wide, 4);
  return y;
}

/// Rounds to nearest, ties to even; NaN stays NaN (its payload is cut, the quiet bit set).
POLYPACA_INLINE bf16 to_bf16(float x) {
#if defined(__CUDA_ARCH__)
  bf16 rounded_in_one_instruction;  // NaN becomes 0x7FFF
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded_in_one_instruction.bits) : "f"(x));
  return rounded_in_one_instruction;
#else
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  uint32_t quiet_nan = (bits >> 16) | 0x40u;
  return bf16{uint16_t((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet_nan : rounded)};
#endif
}

/// An fp32 in two halves: its bf16 value and what is missing to it. Rounding to nearest with ties up, so that the remainder is in
/// [-2^15, 2^15) and any fp32 comes back bit for bit (ties to even would need +2^15).
struct SplitFloat {
  bf16 value;
  int16_t remainder;
};
POLYPACA_INLINE SplitFloat split(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint16_t high = uint16_t((bits + 0x8000u) >> 16);
  return {{high}, int16_t(uint16_t(bits & 0xFFFFu))};
}
POLYPACA_INLINE float join(bf16 value, int16_t remainder) {
  const uint32_t bits = (uint32_t(value.bits) << 16) + uint32_t(int32_t(remainder));
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

POLYPACA_INLINE void store(float* p, float x) { *p = x; }
POLYPACA_INLINE void store(bf16* p, float x) { *p = to_bf16(x); }

/// IEEE half to fp32 (checkpoints only; nothing computes in fp16).
inline float half_to_float(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000u) << 16, exponent = (h >> 10) & 0x1Fu, mantissa = h & 0x3FFu, bits;
  if (exponent == 0x1F) {
    bits = sign | 0x7F800000u | (mantissa << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else if (mantissa == 0) {
    bits = sign;
  } else {  // subnormal: normalise
    exponent = 113;
    while (!(mantissa & 0x400u)) {
      mantissa <<= 1;
      --exponent;
    }
    bits = sign | (exponent << 23) | ((mantissa & 0x3FFu) << 13);
  }
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

}  // namespace polypaca
