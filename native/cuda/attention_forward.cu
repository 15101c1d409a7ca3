// Causal self-attention of packed sequences, blockwise with a running softmax: FlashAttention-2, Dao 2023, arXiv:2307.08691; the
// running softmax is Milakov & Gimelshein 2018, arXiv:1805.02867. Grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
// ALiBi: Press et al. 2022, arXiv:2108.12409. RoPE: rotate.cuh.
//   s_ij = scale q_i . k_j + slope (j - i), j <= i in the same sequence;  lse_i = log sum_j exp(s_ij)
//   out_i = sum_j exp(s_ij - lse_i) v_j
// q, out: H heads, k, v: G heads, bf16 in the layouts of HeadView; lse fp32 [N, H]. out and lse assign; q and k are rotated in place,
// once, before the tiles are computed: a key is then read by many blocks, and both by three kernels of the backward, as it is. What
// the pass costs, it saves there, and it serves every rotary width, layout and padded D alike.
// Products are bf16 with fp32 sums, probabilities rounded to bf16 as their operand; the softmax is fp32, to base 2.
#include "cuda/attention_launch.h"
#include "cuda/attention_tiles.cuh"
#include "cuda/cuda_backend.h"
#include "cuda/rotate.cuh"

namespace polypaca::POLYPACA_CUDA {
namespace {

// ---- RoPE ----

/// Eight values of each half, cos and sin with them, by 16-byte accesses.
DEVICE void rotate_eight(bf16* first, bf16* second, const float* cos, const float* sin) {
  Vec16 a = load_16(first), b = load_16(second);
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const Vec16 c = load_16(cos + 4 * part), s = load_16(sin + 4 * part);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint32_t &x = a.w[2 * part + i], &y = b.w[2 * part + i];
      float x0 = low_bf16(x), x1 = high_bf16(x), y0 = low_bf16(y), y1 = high_bf16(y);
      rotate_pair(x0, y0, float_from_bits(c.w[2 * i]), float_from_bits(s.w[2 * i]));
      rotate_pair(x1, y1, float_from_bits(c.w[2 * i + 1]), float_from_bits(s.w[2 * i + 1]));
      x = pack_bf16(x0, x1);
      y = pack_bf16(y0, y1);
    }
  }
  store_16(first, a);
  store_16(second, b);
}

/// A block per token: all its heads of q and k.
KERNEL BOUNDS(kThreads, 8) void rotate_heads(Heads q, Heads k, int H, int G, Rope rope, const int32_t* positions, bool by_eight) {
  const int64_t n = blockIdx.x;
  const int half = int(rope.rotary_dim) / 2, step = by_eight ? 8 : 1, pieces = half / step;
  const float *cos = rope.cos + positions[n] * int64_t(half), *sin = rope.sin + positions[n] * int64_t(half);
  for (int i = int(threadIdx.x); i < (H + G) * pieces; i += kThreads) {
    const int head = i / pieces, c = i % pieces * step;
    bf16* first = (head < H ? q.row(n, head) : k.row(n, head - H)) + c;
    if (by_eight) {
      rotate_eight(first, first + half, cos + c, sin + c);
    } else {
      float a = to_float(first[0]), b = to_float(first[half]);
      rotate_pair(a, b, cos[c], sin[c]);
      first[0] = to_bf16(a);
      first[half] = to_bf16(b);
    }
  }
}

// ---- tiles ----

struct ForwardCall {
  Heads out, q, k, v;
  float* lse;
  const int32_t* cu_seqlens;
  const float* alibi_slopes;
  float scale;
  int S, H, group, D, width;  // group: query heads per key/value head
};

template <int kDim>
struct ForwardShared {
  static constexpr bool kQueriesInRegisters = kDim <= 128;
  static constexpr int kKeys = kDim <= 128 ? kTile : kTile / 2;  // of a tile of k and v
  static constexpr int kBlocks = kDim <= 32 ? 4 : kDim <= 64 ? 3 : kDim <= 128 ? 2 : 1;
  struct Tiles {
    alignas(16) bf16 k[2][kKeys * kPitch<kDim>], v[2][kKeys * kPitch<kDim>];
    alignas(16) bf16 q[kQueriesInRegisters ? 8 : kTile * kPitch<kDim>];
  };
  union {
    Tiles tiles;
    float results[kTile * kPitch<kDim>];
  };
};

/// 64 queries of one head. Grid: tile_blocks(), H.
template <int kDim, Access kAccess>
KERNEL BOUNDS(kThreads, ForwardShared<kDim>::kBlocks) void forward_tiles(ForwardCall c) {
  using Shared = ForwardShared<kDim>;
  constexpr int kKeys = Shared::kKeys;
  Shared& s = shared_memory<Shared>();
  const SequenceTile tile = find_tile(c.cu_seqlens, c.S, int(blockIdx.x));
  if (tile.index >= tile.count) return;
  const int query0 = (tile.count - 1 - tile.index) * kTile;  // the last queries have most keys: they start first
  const int queries = smaller(kTile, tile.T - query0), keys = query0 + queries, steps = (keys + kKeys - 1) / kKeys;
  const int head = int(blockIdx.y), kv_head = head / c.group, lane = int(threadIdx.x) % kWarp, row0 = int(threadIdx.x) / kWarp * 16;
  const float scale2 = c.scale * kLog2E, slope = c.alibi_slopes ? c.alibi_slopes[head] / c.scale : 0.0f;

  const auto load_keys = [&](int step) {
    load_rows<kDim, kKeys, kThreads, kAccess>(s.tiles.k[step % 2], c.k, tile.first + step * kKeys, kv_head, keys - step * kKeys, c.D, c.width);
    load_rows<kDim, kKeys, kThreads, kAccess>(s.tiles.v[step % 2], c.v, tile.first + step * kKeys, kv_head, keys - step * kKeys, c.D, c.width);
    copy_async_commit();
  };

  bf16* q_tile = Shared::kQueriesInRegisters ? s.tiles.k[1] : s.tiles.q;
  load_rows<kDim, kTile, kThreads, kAccess>(q_tile, c.q, tile.first + query0, head, queries, c.D, c.width);
  load_keys(0);
  uint32_t q[Shared::kQueriesInRegisters ? kDim / 16 : 1][4];
  if constexpr (Shared::kQueriesInRegisters) {
    copy_async_wait<0>();
    sync_threads();  // every thread's share of the queries is there
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) load_fragment<kDim>(q[step], q_tile + row0 * kPitch<kDim>, step);
  }

  RunningSoftmax softmax;
  float out[kDim / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<0>();
    // Every thread's share of tile `step` is there, and no warp reads the other pair of buffers any more (tile step - 1; at first the queries).
    sync_threads();
    if (step + 1 < steps) load_keys(step + 1);

    float scores[kKeys / 8][4] = {};
    multiply_transposed<kDim, kKeys>(scores, [&](uint32_t (&a)[4], int k) {
      if constexpr (Shared::kQueriesInRegisters) {
        a[0] = q[k][0], a[1] = q[k][1], a[2] = q[k][2], a[3] = q[k][3];
      } else {
        load_fragment<kDim>(a, q_tile + row0 * kPitch<kDim>, k);
      }
    }, s.tiles.k[step % 2]);

    const int distance = step * kKeys + lane % 4 * 2 - (query0 + row0 + lane / 4);
    if (slope != 0.0f) for_each_score(scores, distance, [&](float& x, int d) { x += slope * float(d); });
    if (step * kKeys + kKeys > query0) for_each_score(scores, distance, [&](float& x, int d) { x = d > 0 ? -INFINITY : x; });
    softmax.add(scores, out, scale2);
    multiply<kDim, kKeys, kDim>(out, [&](uint32_t (&a)[4], int k) { round_fragment(a, scores, k); }, s.tiles.v[step % 2]);
  }

  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = softmax.row_sum(half);
    inverse[half] = 1.0f / sum;
    const int row = row0 + lane / 4 + 8 * half;
    if (lane % 4 == 0 && row < queries) c.lse[(tile.first + query0 + row) * c.H + head] = softmax.max[half] * c.scale + logf(sum);
  }
  sync_threads();  // no warp reads k and v any more: the results take their place
  stage_results<kDim>(s.results + row0 * kPitch<kDim>, out, inverse[0], inverse[1]);
  sync_threads();  // all 64 rows are staged
  store_rows<kDim, kThreads, kAccess>(c.out, tile.first + query0, head, s.results, queries, c.D, c.width);
}

void rotate_in_place(const Stream& stream, const Heads& q, const Heads& k, const int32_t* positions, int64_t N, const AttentionShape& shape) {
  const Rope& rope = shape.rope;
  if (rope.rotary_dim == 0) return;
  const bool tables_aligned = (reinterpret_cast<uintptr_t>(rope.cos) | reinterpret_cast<uintptr_t>(rope.sin)) % 16 == 0;
  const bool by_eight = access_width(rope.rotary_dim / 2, {q, k}) == 16 && tables_aligned;
  launch(rotate_heads, Grid(N), kThreads, 0, stream, q, k, shape.H, shape.G, rope, positions, by_eight);
}

}  // namespace

void CudaBackend::attention_forward(HeadView out, float* lse, HeadView q, HeadView k, HeadView v, const Sequences& sequences, const AttentionShape& shape) {
  check_attention_shape(shape);
  if (sequences.N == 0) return;
  ForwardCall c{heads_of(out), heads_of(q), heads_of(k), heads_of(v), lse, sequences.cu_seqlens, shape.alibi_slopes, shape.scale, int(sequences.S), int(shape.H), int(shape.H / shape.G), int(shape.D), 0};
  c.width = access_width(shape.D, {c.out, c.q, c.k, c.v});
  rotate_in_place(stream(), c.q, c.k, sequences.positions, sequences.N, shape);
  with_head_dimension(shape.D, c.width, [&](auto compiled) {
    constexpr int kDim = compiled.kDim;
    constexpr Access kAccess = compiled.kAccess;
    launch(forward_tiles<kDim, kAccess>, Grid(tile_blocks(sequences), shape.H), kThreads, sizeof(ForwardShared<kDim>), stream(), c);
  });
}

}  // namespace polypaca::POLYPACA_CUDA
