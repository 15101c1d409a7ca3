// What a kernel may use. Kernels include this file and nothing else of CUDA: nvcc maps it to the hardware (device_nvcc.h), g++ to
// the emulator (native/test/emulator/device_emulated.h), from the same source.
//
//   KERNEL BOUNDS(threads, blocks) void name(...)   a kernel; always both numbers: without the second one spills stay unseen
//   DEVICE                                          a function that kernels call
//   threadIdx.x, blockDim.x, blockIdx, gridDim      blocks are one-dimensional, grids have x, y, z
//   shared_memory<T>()        dynamic shared memory as T; the launcher passes sizeof(T). There is no static shared memory
//   sync_threads, sync_warp   barriers; the only two things that order shared memory between threads
//   shuffle*, ballot, warp_*  reached by all 32 lanes: guard the data, not the call. They order no memory
//   load_16, store_16, ...    vector accesses of 16 and 8 bytes, global or shared, aligned to their size; store_global_16 beside a tail
//   copy_async_*              global to shared; lands, for this thread, at copy_async_wait: then a barrier for the others
//   ldmatrix_*, mma_m16n8k16  tensor cores, in the fragment layouts of the PTX manual (section "Matrix fragments for mma.m16n8k16")
//   fast_*                    approximations of the special function unit; the exact ones are sqrtf, expf, logf, erff, tanhf
//   atomic_add                integers only: a sum of floats must not depend on the order of blocks
#pragma once
#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "cuda/namespace.h"

namespace polypaca::POLYPACA_CUDA {

struct alignas(16) Vec16 {
  uint32_t w[4];
};
struct alignas(8) Vec8 {
  uint32_t w[2];
};

constexpr int kWarp = 32;

}  // namespace polypaca::POLYPACA_CUDA

#if defined(POLYPACA_EMULATED)
#include "test/emulator/device_emulated.h"
#else
#include "cuda/device_nvcc.h"
#endif

namespace polypaca::POLYPACA_CUDA {

template <typename T>
DEVICE T smaller(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
DEVICE T larger(T a, T b) {
  return a > b ? a : b;
}

DEVICE float low_bf16(uint32_t pair) { return float_from_bits(pair << 16); }
DEVICE float high_bf16(uint32_t pair) { return float_from_bits(pair & 0xFFFF0000u); }

}  // namespace polypaca::POLYPACA_CUDA
