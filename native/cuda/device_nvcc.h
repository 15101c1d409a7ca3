// device.h for nvcc: every PTX instruction of the project, behind a named function.
// Those that touch memory clobber "memory", so that the compiler moves no access across them.
#pragma once

#define KERNEL __global__
#define BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define DEVICE __device__ __forceinline__

namespace polypaca::POLYPACA_CUDA {

constexpr unsigned kAllLanes = 0xFFFFFFFFu;

template <typename T>
DEVICE T& shared_memory() {
  extern __shared__ __align__(128) unsigned char polypaca_shared_memory[];
  return *reinterpret_cast<T*>(polypaca_shared_memory);
}

DEVICE void sync_threads() { __syncthreads(); }
DEVICE void sync_warp() { __syncwarp(); }

DEVICE float shuffle_xor(float v, int lane_mask) { return __shfl_xor_sync(kAllLanes, v, lane_mask); }
DEVICE int32_t shuffle_xor(int32_t v, int lane_mask) { return __shfl_xor_sync(kAllLanes, v, lane_mask); }
DEVICE uint32_t shuffle_xor(uint32_t v, int lane_mask) { return __shfl_xor_sync(kAllLanes, v, lane_mask); }
DEVICE float shuffle(float v, int lane) { return __shfl_sync(kAllLanes, v, lane); }
DEVICE int32_t shuffle(int32_t v, int lane) { return __shfl_sync(kAllLanes, v, lane); }
DEVICE uint32_t shuffle(uint32_t v, int lane) { return __shfl_sync(kAllLanes, v, lane); }
DEVICE float shuffle_down(float v, int delta) { return __shfl_down_sync(kAllLanes, v, unsigned(delta)); }
DEVICE int32_t shuffle_down(int32_t v, int delta) { return __shfl_down_sync(kAllLanes, v, unsigned(delta)); }
DEVICE uint32_t shuffle_down(uint32_t v, int delta) { return __shfl_down_sync(kAllLanes, v, unsigned(delta)); }
DEVICE uint32_t ballot(bool vote) { return __ballot_sync(kAllLanes, vote); }

/// Pairs at distance 16, 8, 4, 2, 1: every lane gets the same bits.
DEVICE float warp_sum(float v) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}
DEVICE float warp_max(float v) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v = fmaxf(v, shuffle_xor(v, mask));
  return v;
}

DEVICE Vec16 load_16(const void* p) {
  const uint4 v = *static_cast<const uint4*>(p);
  return Vec16{{v.x, v.y, v.z, v.w}};
}
DEVICE void store_16(void* p, Vec16 v) { *static_cast<uint4*>(p) = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]); }
/// To global memory, in one instruction whatever is around it: the compiler takes a store_16 apart where a scalar tail stores the same
/// values, and where they come packed in pairs.
DEVICE void store_global_16(void* p, Vec16 v) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(p)), "r"(v.w[0]), "r"(v.w[1]), "r"(v.w[2]), "r"(v.w[3]) : "memory");
}
DEVICE Vec8 load_8(const void* p) {
  const uint2 v = *static_cast<const uint2*>(p);
  return Vec8{{v.x, v.y}};
}
DEVICE void store_8(void* p, Vec8 v) { *static_cast<uint2*>(p) = make_uint2(v.w[0], v.w[1]); }

DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

/// Not valid: zeros are written and `global` is not read.
DEVICE void copy_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
}
DEVICE void copy_async_8(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 8 : 0) : "memory");
}
DEVICE void copy_async_4(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid ? 4 : 0) : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most kPending of this thread's newest groups are in flight.
template <int kPending>
DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Lane i gives the address of row i: 8 values of 16 bits, on 16 bytes. x4: lanes 0-31, x2: lanes 0-15.
DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}
DEVICE void ldmatrix_x2_transposed(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

/// d += a b: a [16, 16] by rows, b [16, 8] by columns, bf16; d [16, 8] fp32.
DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float fast_log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float fast_rsqrt(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
DEVICE float float_from_bits(uint32_t bits) { return __uint_as_float(bits); }

/// Both rounded to nearest even; `low` in the lower half.
DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/// Returns what was there before.
DEVICE int32_t atomic_add(int32_t* p, int32_t v) { return atomicAdd(p, v); }

}  // namespace polypaca::POLYPACA_CUDA
