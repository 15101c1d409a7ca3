// Eight elements of a row: the unit in which the row-wise kernels read, compute in fp32 and write. 16 bytes of bf16, twice 16 of fp32.
// Rows that are not 16-byte aligned, or no multiple of eight long, go through the kernels' kAligned = false instances, which touch
// element by element and never what lies behind the row.
#pragma once
#include "cuda/device.h"

namespace polypaca::POLYPACA_CUDA {

constexpr int kVector = 8;

/// A matrix's rows as a kernel sees them.
template <typename T>
struct Rows {
  T* data;
  int64_t ld;
  DEVICE T* operator[](int64_t n) const { return data + n * ld; }
};

/// Eight elements as they lie in memory: loaded early, unpacked where they are used.
template <typename T>
struct Packed {
  Vec16 part[sizeof(T) * kVector / 16];
};

template <typename T>
DEVICE Packed<T> load_packed(const T* p) {
  Packed<T> x;
  for (int i = 0; i < int(sizeof(x.part) / 16); ++i) x.part[i] = load_16(p + i * int(16 / sizeof(T)));
  return x;
}

DEVICE void unpack(float (&v)[kVector], const Packed<bf16>& x) {
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = low_bf16(x.part[0].w[i]);
    v[2 * i + 1] = high_bf16(x.part[0].w[i]);
  }
}

DEVICE void unpack(float (&v)[kVector], const Packed<float>& x) {
  for (int i = 0; i < kVector; ++i) v[i] = float_from_bits(x.part[i / 4].w[i % 4]);
}

/// To global memory: the compiler takes the plain store_16 of packed values apart (store_global_16 in device_nvcc.h).
DEVICE void store_elements(bf16* p, const float (&v)[kVector]) {
  Vec16 x;
  for (int i = 0; i < 4; ++i) x.w[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
  store_global_16(p, x);
}

DEVICE void store_elements(float* p, const float (&v)[kVector]) {
  Vec16 low, high;
  for (int i = 0; i < 4; ++i) {
    low.w[i] = bits_of(v[i]);
    high.w[i] = bits_of(v[i + 4]);
  }
  store_global_16(p, low);
  store_global_16(p + 4, high);
}

template <typename T>
DEVICE void load_elements(float (&v)[kVector], const T* p) {
  unpack(v, load_packed(p));
}

/// The elements from p on, of which `left` belong to the row: those behind are read as 0.
template <bool kAligned, typename T>
DEVICE void load_elements(float (&v)[kVector], const T* p, int64_t left) {
  if constexpr (kAligned) {
    load_elements(v, p);
  } else {
    for (int i = 0; i < kVector; ++i) v[i] = i < left ? to_float(p[i]) : 0.0f;
  }
}

template <bool kAligned, typename T>
DEVICE void store_elements(T* p, const float (&v)[kVector], int64_t left) {
  if constexpr (kAligned) {
    store_elements(p, v);
  } else {
    for (int i = 0; i < kVector; ++i) {
      if (i < left) store(p + i, v[i]);
    }
  }
}

/// fp32 values kept as halves (core/dtype.h's split and join), eight of them.
template <bool kAligned>
DEVICE void load_halves(float (&v)[kVector], const bf16* value, const int16_t* remainder, int64_t left) {
  if constexpr (kAligned) {
    const Vec16 high = load_16(value), low = load_16(remainder);
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = float_from_bits((high.w[i] << 16) + uint32_t(int32_t(int16_t(low.w[i] & 0xFFFFu))));
      v[2 * i + 1] = float_from_bits((high.w[i] & 0xFFFF0000u) + uint32_t(int32_t(low.w[i]) >> 16));
    }
  } else {
    for (int i = 0; i < kVector; ++i) v[i] = i < left ? join(value[i], remainder[i]) : 0.0f;
  }
}

template <bool kAligned>
DEVICE void store_halves(bf16* value, int16_t* remainder, const float (&v)[kVector], int64_t left) {
  if constexpr (kAligned) {
    Vec16 high, low;
    for (int i = 0; i < 4; ++i) {
      const uint32_t a = bits_of(v[2 * i]), b = bits_of(v[2 * i + 1]);
      high.w[i] = ((a + 0x8000u) >> 16) | ((b + 0x8000u) & 0xFFFF0000u);
      low.w[i] = (a & 0xFFFFu) | (b << 16);
    }
    store_global_16(value, high);
    store_global_16(remainder, low);
  } else {
    for (int i = 0; i < kVector; ++i) {
      if (i >= left) break;
      const SplitFloat halves = split(v[i]);
      value[i] = halves.value;
      remainder[i] = halves.remainder;
    }
  }
}

/// Where a thread of an elementwise kernel works. The host side is ElementGrid in row_launch.h.
struct Slot {
  int64_t row, column;
};

DEVICE Slot slot_of_thread(uint32_t slices) {
  const uint32_t slice = uint32_t(blockIdx.x) % slices;
  return {int64_t(uint32_t(blockIdx.x) / slices), (int64_t(slice) * blockDim.x + threadIdx.x) * kVector};
}

}  // namespace polypaca::POLYPACA_CUDA
