// Attention of one new token per row against cached keys and values, and filling the caches. Formulas and names: attention_forward.cu;
// the split over the context is Flash-Decoding (Dao, Haziza, Massa & Sizov 2023), with a combination in fixed order.
// q, k, v, out: one token per row, bf16 in the layouts of HeadView; caches bf16 [cache rows, max_length, G, D], keys rotated.
//
// Decoding reads every cached value once and is bound by that. The queries of a group are the rows of one tensor-core operand (up to
// 16 at a time, the rest zeros), so that a group's keys are read once; each of a block's 4 warps takes 16 of the 64 keys of a tile and
// keeps a softmax of its own. Where rows and heads are too few to fill the device, several blocks share a row's context.
#include <algorithm>

#include "cuda/attention_launch.h"
#include "cuda/attention_tiles.cuh"
#include "cuda/cuda_backend.h"
#include "cuda/rotate.cuh"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kGroup = 16;          // queries of a block: rows of a tensor-core operand
constexpr int kShortestShare = 128;  // tokens of a split's share of the context, at least

// ---- filling the caches ----

/// Where token n goes: (rows[n], positions[n]), or (row, n) where these are null.
struct CacheSlots {
  const int32_t *rows, *positions;
  int64_t row, max_length;
};

/// Rotates token n's q (where H > 0) and k in place, then copies k and v to their slot. A block per token.
KERNEL BOUNDS(kThreads, 8) void append_tokens(Heads q, Heads k, Heads v, bf16* k_cache, bf16* v_cache, CacheSlots slots, Rope rope, int H, int G, int D) {
  const int64_t n = blockIdx.x, position = slots.positions ? slots.positions[n] : n;
  const int half = int(rope.rotary_dim) / 2;
  for (int i = int(threadIdx.x); i < (H + G) * half; i += kThreads) {
    const int head = i / half, c = i % half;
    bf16* x = (head < H ? q.row(n, head) : k.row(n, head - H)) + c;
    float a = to_float(x[0]), b = to_float(x[half]);
    rotate_pair(a, b, rope.cos[position * half + c], rope.sin[position * half + c]);
    x[0] = to_bf16(a);
    x[half] = to_bf16(b);
  }
  sync_threads();  // k is rotated: other threads copy it
  const int64_t to = ((slots.rows ? slots.rows[n] : slots.row) * slots.max_length + position) * G * D;
  for (int i = int(threadIdx.x); i < G * D; i += kThreads) {
    const int head = i / D, d = i % D;
    k_cache[to + i] = k.row(n, head)[d];
    v_cache[to + i] = v.row(n, head)[d];
  }
}

// ---- attention ----

struct DecodeCall {
  Heads out, q, k_cache, v_cache;  // a cache as heads: its token is (cache row) * max_length + position
  const int32_t *source, *cache_rows, *positions;
  const float* alibi_slopes;
  float* partials;  // [rows, H, splits, D + 2]: maximum, sum and unnormalised output of each share; unused where splits is 1
  float scale;
  int64_t max_length;
  int H, group, D, splits, width;
};

template <int kDim>
struct DecodeShared {
  static constexpr int kBlocks = kDim <= 128 ? 2 : 1;
  struct Tiles {
    alignas(16) bf16 k[2][kTile * kPitch<kDim>], v[2][kTile * kPitch<kDim>];
  };
  alignas(16) bf16 q[kGroup * kPitch<kDim>];
  union {
    Tiles tiles;
    float results[kTile * kPitch<kDim>];  // [4 warps x 16 queries]
  };
  float max[kTile], sum[kTile];
};

/// Up to 16 queries of one group against one share of the context. Grid: rows, H / group * ceil(group / 16), splits.
template <int kDim, Access kAccess>
KERNEL BOUNDS(kThreads, DecodeShared<kDim>::kBlocks) void decode_tiles(DecodeCall c) {
  using Shared = DecodeShared<kDim>;
  Shared& s = shared_memory<Shared>();
  const int parts = (c.group + kGroup - 1) / kGroup, kv_head = int(blockIdx.y) / parts, part = int(blockIdx.y) % parts;
  const int head0 = kv_head * c.group + part * kGroup, heads = smaller(kGroup, c.group - part * kGroup), split = int(blockIdx.z);
  const int64_t row = blockIdx.x;
  const int last = c.positions[row], own = c.cache_rows[row];
  const int share = ((last + c.splits) / c.splits + kTile - 1) / kTile * kTile, begin = split * share, end = smaller(last + 1, begin + share);
  if (begin >= end) {  // only where there are several splits: the others have all of a short context
    if (int(threadIdx.x) < heads) c.partials[((row * c.H + head0 + int(threadIdx.x)) * c.splits + split) * (c.D + 2) + 1] = 0.0f;
    return;
  }
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  const float scale2 = c.scale * kLog2E;
  float slope[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = lane / 4 + 8 * half;
    slope[half] = c.alibi_slopes && query < heads ? c.alibi_slopes[head0 + query] / c.scale : 0.0f;
  }

  const auto load_keys = [&](int stage, int key0) {
    const auto place = [=](int r) {  // of key key0 + r; source says nothing about the row's own token
      const int key = key0 + r;
      return int64_t(key == last ? own : c.source[row * c.max_length + key]) * c.max_length + key;
    };
    load_tile<kDim, kTile, kThreads, kAccess>(s.tiles.k[stage], [=](int r) { return c.k_cache.row(place(r), kv_head); }, end - key0, c.D, c.width);
    load_tile<kDim, kTile, kThreads, kAccess>(s.tiles.v[stage], [=](int r) { return c.v_cache.row(place(r), kv_head); }, end - key0, c.D, c.width);
    copy_async_commit();
  };
  load_tile<kDim, kGroup, kThreads, kAccess>(s.q, [=](int r) { return c.q.row(row, head0 + r); }, heads, c.D, c.width);
  load_keys(0, begin);

  RunningSoftmax softmax;
  float out[kDim / 8][4] = {};
  int stage = 0;
  for (int key0 = begin; key0 < end; key0 += kTile, stage ^= 1) {
    copy_async_wait<0>();
    // Every thread's share of the tiles is there, and no warp reads the other stage (the keys before these) any more.
    sync_threads();
    if (key0 + kTile < end) load_keys(stage ^ 1, key0 + kTile);
    const int first = key0 + warp * 16;  // of the warp's 16 keys
    if (first >= end) continue;          // the whole warp; a softmax over masked scores only would be NaN
    float scores[2][4] = {};
    multiply_transposed<kDim, 16>(scores, [&](uint32_t (&a)[4], int k) { load_fragment<kDim>(a, s.q, k); }, s.tiles.k[stage] + warp * 16 * kPitch<kDim>);
#pragma unroll
    for (int b = 0; b < 2; ++b) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int key = first + 8 * b + lane % 4 * 2 + e % 2;
        scores[b][e] = key < end ? scores[b][e] + slope[e / 2] * float(key - last) : -INFINITY;
      }
    }
    softmax.add(scores, out, scale2);
    multiply<kDim, 16, kDim>(out, [&](uint32_t (&a)[4], int k) { round_fragment(a, scores, k); }, s.tiles.v[stage] + warp * 16 * kPitch<kDim>);
  }

  sync_threads();  // no warp reads the tiles any more: the results take their place
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = softmax.row_sum(half);
    const int at = warp * 16 + lane / 4 + 8 * half;
    if (lane % 4 == 0) s.max[at] = softmax.max[half], s.sum[at] = sum;
  }
  stage_results<kDim>(s.results + warp * 16 * kPitch<kDim>, out, 1.0f, 1.0f);
  sync_threads();  // all warps' results are staged
  for (int i = int(threadIdx.x); i < heads * c.D; i += kThreads) {
    const int query = i / c.D, d = i % c.D;
    float max = s.max[query];  // warp 0 has had a key: finite
    for (int w = 1; w < kThreads / kWarp; ++w) max = fmaxf(max, s.max[w * 16 + query]);
    float sum = 0.0f, value = 0.0f;
    for (int w = 0; w < kThreads / kWarp; ++w) {
      const float weight = fast_exp2((s.max[w * 16 + query] - max) * scale2);  // 0 for a warp without keys
      sum += weight * s.sum[w * 16 + query];
      value += weight * s.results[(w * 16 + query) * kPitch<kDim> + d];
    }
    if (c.splits == 1) {
      c.out.row(row, head0 + query)[d] = to_bf16(value / sum);
      continue;
    }
    float* partial = c.partials + ((row * c.H + head0 + query) * c.splits + split) * (c.D + 2);
    if (d == 0) partial[0] = max, partial[1] = sum;
    partial[2 + d] = value;
  }
}

/// The shares of one (row, head), added in their order. Grid: rows, H.
KERNEL BOUNDS(kThreads, 8) void combine_splits(DecodeCall c) {
  const int64_t row = blockIdx.x, head = blockIdx.y;
  const float *partials = c.partials + (row * c.H + head) * c.splits * (c.D + 2), scale2 = c.scale * kLog2E;
  for (int d = int(threadIdx.x); d < c.D; d += kThreads) {
    float max = -INFINITY, sum = 0.0f, value = 0.0f;
    for (int split = 0; split < c.splits; ++split) {
      const float* partial = partials + split * (c.D + 2);
      if (partial[1] == 0.0f) continue;  // an empty share, with nothing else written
      const float high = fmaxf(max, partial[0]), shrink = fast_exp2((max - high) * scale2), weight = fast_exp2((partial[0] - high) * scale2);
      sum = sum * shrink + weight * partial[1];
      value = value * shrink + weight * partial[2 + d];
      max = high;
    }
    c.out.row(row, head)[d] = to_bf16(value / sum);
  }
}

Heads cache_heads(void* data, DType dtype, const AttentionShape& shape) { return heads_of(HeadView{data, dtype, shape.G * shape.D, shape.D}); }

}  // namespace

void CudaBackend::attention_decode(HeadView out, HeadView q, HeadView k, HeadView v, void* k_cache, void* v_cache, DType cache_dtype, const int32_t* source, const int32_t* cache_rows, const int32_t* positions, int64_t rows, int64_t max_length, const AttentionShape& shape) {
  check_attention_shape(shape);
  if (rows == 0) return;
  const int64_t group = shape.H / shape.G, blocks = rows * shape.G * ceil_divide(group, kGroup);
  // The context's length is on the device: splits follow from what it may become.
  const int64_t most = ceil_divide(max_length, kShortestShare), splits = std::clamp<int64_t>(2 * device_.processors / blocks, 1, most);
  DecodeCall c{heads_of(out), heads_of(q), cache_heads(k_cache, cache_dtype, shape), cache_heads(v_cache, cache_dtype, shape), source, cache_rows, positions, shape.alibi_slopes, nullptr, shape.scale, max_length, int(shape.H), int(group), int(shape.D), int(splits), 0};
  c.width = access_width(shape.D, {c.q, c.k_cache, c.v_cache});
  // As much as any number of rows takes, so that it never grows: a block has at most kGroup queries.
  if (most > 1) c.partials = static_cast<float*>(scratch(2 * device_.processors * std::min<int64_t>(group, kGroup) * (shape.D + 2) * int64_t(sizeof(float))));
  launch(append_tokens, Grid(rows), kThreads, 0, stream(), c.q, heads_of(k), heads_of(v), c.k_cache.data, c.v_cache.data, CacheSlots{cache_rows, positions, 0, max_length}, shape.rope, shape.H, shape.G, shape.D);
  with_head_dimension(shape.D, c.width, [&](auto compiled) {
    constexpr int kDim = compiled.kDim;
    constexpr Access kAccess = compiled.kAccess;
    launch(decode_tiles<kDim, kAccess>, Grid(rows, shape.G * ceil_divide(group, kGroup), splits), kThreads, sizeof(DecodeShared<kDim>), stream(), c);
  });
  if (splits > 1) launch(combine_splits, Grid(rows, shape.H), kThreads, 0, stream(), c);
}

void CudaBackend::cache_prompt(void* k_cache, void* v_cache, DType cache_dtype, HeadView k, HeadView v, int64_t first, int64_t T, int64_t row, int64_t max_length, const AttentionShape& shape) {
  check_attention_shape(shape);
  if (T == 0) return;
  Heads keys = heads_of(k), values = heads_of(v);
  keys.data += first * keys.token_stride;
  values.data += first * values.token_stride;
  launch(append_tokens, Grid(T), kThreads, 0, stream(), keys, keys, values, cache_heads(k_cache, cache_dtype, shape).data, cache_heads(v_cache, cache_dtype, shape).data, CacheSlots{nullptr, nullptr, row, max_length}, Rope{}, 0, shape.G, shape.D);
}

}  // namespace polypaca::POLYPACA_CUDA
