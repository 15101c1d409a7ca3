// device.h for g++: the same functions, carried out by the emulator. Everything here is out of line, in files that are not
// instrumented: what is inlined into a kernel is checked as the kernel's own accesses.
#pragma once

#define KERNEL
#define BOUNDS(threads, blocks)
#define DEVICE inline

namespace polypaca::cuda_emulated {

struct Index3 {
  unsigned x, y, z;
};
// const: the same for one thread of one kernel for as long as it runs.
__attribute__((const)) Index3 thread_index();
__attribute__((const)) Index3 block_index();
__attribute__((const)) Index3 block_size();
__attribute__((const)) Index3 grid_size();
#define threadIdx ::polypaca::cuda_emulated::thread_index()
#define blockIdx ::polypaca::cuda_emulated::block_index()
#define blockDim ::polypaca::cuda_emulated::block_size()
#define gridDim ::polypaca::cuda_emulated::grid_size()

/// The block's shared memory; more than the launcher passed is an error.
void* shared_memory_of(int64_t bytes);
template <typename T>
inline T& shared_memory() {
  return *static_cast<T*>(shared_memory_of(int64_t(sizeof(T))));
}

void sync_threads();
void sync_warp();

inline float float_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
inline uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }

uint32_t shuffle_xor(uint32_t v, int lane_mask);
uint32_t shuffle(uint32_t v, int lane);
uint32_t shuffle_down(uint32_t v, int delta);
inline float shuffle_xor(float v, int lane_mask) { return float_from_bits(shuffle_xor(bits_of(v), lane_mask)); }
inline float shuffle(float v, int lane) { return float_from_bits(shuffle(bits_of(v), lane)); }
inline float shuffle_down(float v, int delta) { return float_from_bits(shuffle_down(bits_of(v), delta)); }
inline int32_t shuffle_xor(int32_t v, int lane_mask) { return int32_t(shuffle_xor(uint32_t(v), lane_mask)); }
inline int32_t shuffle(int32_t v, int lane) { return int32_t(shuffle(uint32_t(v), lane)); }
inline int32_t shuffle_down(int32_t v, int delta) { return int32_t(shuffle_down(uint32_t(v), delta)); }
uint32_t ballot(bool vote);
float warp_sum(float v);
float warp_max(float v);

Vec16 load_16(const void* p);
void store_16(void* p, Vec16 v);
/// An address in shared memory is a fault: the hardware would write elsewhere.
void store_global_16(void* p, Vec16 v);
Vec8 load_8(const void* p);
void store_8(void* p, Vec8 v);

void copy_async_16(void* shared, const void* global, bool valid);
void copy_async_8(void* shared, const void* global, bool valid);
void copy_async_4(void* shared, const void* global, bool valid);
void copy_async_commit();
void copy_async_wait_for(int pending);
template <int kPending>
inline void copy_async_wait() {
  copy_async_wait_for(kPending);
}

// By value, so that fragments can stay in registers: what has its address taken is checked at every access.
Vec16 load_matrices_4(const void* row, bool transposed);
Vec8 load_matrices_2(const void* row, bool transposed);
inline void ldmatrix_4(uint32_t (&r)[4], const void* row, bool transposed) {
  const Vec16 v = load_matrices_4(row, transposed);
  r[0] = v.w[0], r[1] = v.w[1], r[2] = v.w[2], r[3] = v.w[3];
}
inline void ldmatrix_2(uint32_t (&r)[2], const void* row, bool transposed) {
  const Vec8 v = load_matrices_2(row, transposed);
  r[0] = v.w[0], r[1] = v.w[1];
}
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row) { ldmatrix_4(r, row, false); }
inline void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) { ldmatrix_4(r, row, true); }
inline void ldmatrix_x2(uint32_t (&r)[2], const void* row) { ldmatrix_2(r, row, false); }
inline void ldmatrix_x2_transposed(uint32_t (&r)[2], const void* row) { ldmatrix_2(r, row, true); }

struct Accumulators {
  float d[4];
};
Accumulators multiply_fragments(Accumulators d, Vec16 a, Vec8 b);
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const Accumulators r = multiply_fragments({{d[0], d[1], d[2], d[3]}}, Vec16{{a[0], a[1], a[2], a[3]}}, Vec8{{b[0], b[1]}});
  d[0] = r.d[0], d[1] = r.d[1], d[2] = r.d[2], d[3] = r.d[3];
}

inline float fast_exp2(float x) { return exp2f(x); }
inline float fast_log2(float x) { return log2f(x); }
inline float fast_reciprocal(float x) { return 1.0f / x; }
inline float fast_rsqrt(float x) { return 1.0f / sqrtf(x); }

inline uint32_t pack_bf16(float low, float high) { return uint32_t(to_bf16(low).bits) | uint32_t(to_bf16(high).bits) << 16; }

int32_t atomic_add(int32_t* p, int32_t v);

}  // namespace polypaca::cuda_emulated
