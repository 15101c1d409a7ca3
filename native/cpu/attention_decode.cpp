// Attention of one new token per row over a key/value cache, and the cache's filling from a prompt.
//   s_t = scale q . k_t + slope (t - position), t <= position;  out = sum_t softmax(s)_t v_t
// as in attention.cpp with a single query: the softmax runs over blocks of 64 positions with a running maximum, arithmetic is fp32.
// Caches [cache rows, max_length, G, D], fp32 or bf16. Position t of row r is read from cache row source[r * max_length + t]
// (beams that share a beginning share its cache), the new position from cache_rows[r].
// The work is reading the cache: some neighbouring query heads go together, so that what is read of a position is contiguous, and
// heads of one group share the reading.
#include <math.h>
#include <omp.h>

#include "cpu/attention_softmax.h"
#include "cpu/attention_tiles.h"
#include "cpu/cpu_backend.h"
#include "cpu/rope.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr int64_t kPositions = 64, kHeadsAtOnce = 8;

struct DecodeCall {
  HeadView out, q;
  const void *k_cache, *v_cache;
  DType cache_dtype;
  const int32_t *source, *cache_rows, *positions;
  int64_t max_length;
  const AttentionShape& shape;
};

struct DecodeTiles {
  alignas(64) float q[kHeadsAtOnce * kMaxHeadDim], out[kHeadsAtOnce * kMaxHeadDim];
  alignas(64) float p[kHeadsAtOnce * kPositions];
  float max[kHeadsAtOnce], sum[kHeadsAtOnce];
};

/// One block's scores of one head to probabilities; out and sum shrink where the maximum grows.
void softmax_positions(float* p, int64_t count, float* max, float* sum, float* out, int64_t ld) {
  float high = *max;
  for (int64_t t = 0; t < count; ++t) high = p[t] > high ? p[t] : high;
  const float shrink = exp2f(*max - high);
  *max = high;
  for (int64_t t = count; t < rounded_up(count, kLanes); ++t) p[t] = kMasked;
  for (int64_t t = 0; t < count; t += kLanes) floats_at(p + t) = exp2_of(floats_at(p + t) - high);
  float total = 0.0f;
  for (int64_t t = 0; t < count; ++t) total += p[t];
  *sum = *sum * shrink + total;
  for (int64_t d = 0; d < ld; d += kLanes) floats_at(out + d) *= shrink;
}

/// Adds p v to out.
template <typename T>
POLYPACA_INLINE void add_scaled(float* out, float p, const T* v, int64_t D) {
  int64_t d = 0;
  for (; d + kLanes <= D; d += kLanes) floats_at(out + d) += p * load_floats(v + d);
  for (; d < D; ++d) out[d] += p * to_float(v[d]);
}

/// What one call of decode_heads reads of a cache: its key/value heads, contiguous at each position.
template <typename T>
struct CacheReader {
  const DecodeCall& call;
  const T* cache;
  int64_t r, first_head, heads;

  POLYPACA_INLINE const T* at(int64_t t) const {
    const int64_t row = t == call.positions[r] ? call.cache_rows[r] : call.source[r * call.max_length + t];
    return cache + ((row * call.max_length + t) * call.shape.G + first_head) * call.shape.D;
  }
  /// Positions lie too far apart for the hardware to see the pattern.
  POLYPACA_INLINE void prefetch_after(int64_t t) const {
    constexpr int64_t kAhead = 6;
    if (t + kAhead > call.positions[r]) return;
    const char* bytes = reinterpret_cast<const char*>(at(t + kAhead));
    for (int64_t b = 0; b < heads * call.shape.D * int64_t(sizeof(T)); b += 64) __builtin_prefetch(bytes + b);
  }
};

/// `heads` query heads from `head` on, of row r.
template <typename T>
void decode_heads(const DecodeCall& call, int64_t r, int64_t head, int64_t heads) {
  DecodeTiles t;
  const AttentionShape& shape = call.shape;
  const int64_t D = shape.D, ld = rounded_up(D, 16), group = shape.H / shape.G, position = call.positions[r];
  const int64_t first_kv = head / group, kv_heads = (head + heads - 1) / group - first_kv + 1;
  const CacheReader<T> keys{call, static_cast<const T*>(call.k_cache), r, first_kv, kv_heads}, values{call, static_cast<const T*>(call.v_cache), r, first_kv, kv_heads};
  int64_t kv_offset[kHeadsAtOnce];
  float slope[kHeadsAtOnce];
  for (int64_t h = 0; h < heads; ++h) {
    load_rows<Fp32Unit>(t.q + h * ld, ld, call.q, r, head + h, 1, 1, D);
    if (shape.rope.rotary_dim != 0) rotate(t.q + h * ld, shape.rope, position, 1.0f);
    for (int64_t d = 0; d < ld; ++d) t.out[h * ld + d] = 0.0f;
    t.max[h] = kMasked, t.sum[h] = 0.0f;
    kv_offset[h] = ((head + h) / group - first_kv) * D;
    slope[h] = shape.alibi_slopes ? shape.alibi_slopes[head + h] : 0.0f;
  }
  for (int64_t first = 0; first <= position; first += kPositions) {
    const int64_t count = smaller(kPositions, position + 1 - first);
    for (int64_t i = 0; i < count; ++i) {
      const T* k = keys.at(first + i);
      keys.prefetch_after(first + i);
      for (int64_t h = 0; h < heads; ++h) t.p[h * kPositions + i] = (shape.scale * dot(t.q + h * ld, k + kv_offset[h], D) + slope[h] * float(first + i - position)) * kLog2E;
    }
    for (int64_t h = 0; h < heads; ++h) softmax_positions(t.p + h * kPositions, count, t.max + h, t.sum + h, t.out + h * ld, ld);
    for (int64_t i = 0; i < count; ++i) {
      const T* v = values.at(first + i);
      values.prefetch_after(first + i);
      for (int64_t h = 0; h < heads; ++h) add_scaled(t.out + h * ld, t.p[h * kPositions + i], v + kv_offset[h], D);
    }
  }
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t d = 0; d < ld; ++d) t.out[h * ld + d] /= t.sum[h];
    store_rows(call.out, r, head + h, t.out + h * ld, ld, 1, D);
  }
}

/// Writes one head's vector into a cache; rotated first where `rope` is given.
POLYPACA_INLINE void cache_vector(void* cache, DType cache_dtype, int64_t offset, const HeadView& x, int64_t token, int64_t head, int64_t D, const Rope* rope, int64_t position) {
  alignas(64) float value[kMaxHeadDim];
  load_rows<Fp32Unit>(value, rounded_up(D, 16), x, token, head, 1, 1, D);
  if (rope != nullptr && rope->rotary_dim != 0) rotate(value, *rope, position, 1.0f);
  store_rows(HeadView{cache, cache_dtype, 0, offset}, 0, 1, value, 0, 1, D);
}

}  // namespace

void CpuBackend::attention_decode(HeadView out, HeadView q, HeadView k, HeadView v, void* k_cache, void* v_cache, DType cache_dtype, const int32_t* source, const int32_t* cache_rows, const int32_t* positions, int64_t rows, int64_t max_length, const AttentionShape& shape) {
  check_attention_shape(shape);
  const DecodeCall call{out, q, k_cache, v_cache, cache_dtype, source, cache_rows, positions, max_length, shape};
  const int64_t share = rows * shape.H / omp_get_max_threads(), at_once = share < 1 ? 1 : smaller(share, kHeadsAtOnce), chunks = (shape.H + at_once - 1) / at_once;
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t item = 0; item < rows * shape.G; ++item) {
      const int64_t r = item / shape.G, g = item % shape.G, offset = ((cache_rows[r] * max_length + positions[r]) * shape.G + g) * shape.D;
      cache_vector(k_cache, cache_dtype, offset, k, r, g, shape.D, &shape.rope, positions[r]);
      cache_vector(v_cache, cache_dtype, offset, v, r, g, shape.D, nullptr, 0);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < rows * chunks; ++item) {
      const int64_t r = item / chunks, head = item % chunks * at_once, heads = smaller(at_once, shape.H - head);
      cache_dtype == DType::bf16 ? decode_heads<bf16>(call, r, head, heads) : decode_heads<float>(call, r, head, heads);
    }
  }
}

void CpuBackend::cache_prompt(void* k_cache, void* v_cache, DType cache_dtype, HeadView k, HeadView v, int64_t first, int64_t T, int64_t row, int64_t max_length, const AttentionShape& shape) {
  check_attention_shape(shape);
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t g = 0; g < shape.G; ++g) {
      const int64_t offset = ((row * max_length + t) * shape.G + g) * shape.D;
      cache_vector(k_cache, cache_dtype, offset, k, first + t, g, shape.D, nullptr, 0);
      cache_vector(v_cache, cache_dtype, offset, v, first + t, g, shape.D, nullptr, 0);
    }
  }
}

}  // namespace polypaca::POLYPACA_ISA
