// Gradients of attention_forward.cu, blockwise from q, k, v and lse: FlashAttention-2, Dao 2023, arXiv:2307.08691, without its atomics.
//   delta_i = dout_i . out_i;  p_ij = exp(s_ij - lse_i);  dp_ij = dout_i . v_j;  ds_ij = p_ij (dp_ij - delta_i)
//   dq_i = scale sum_j ds_ij k_j;  dk_j = scale sum_i ds_ij q_i;  dv_j = sum_i p_ij dout_i;  then dq, dk are rotated back (rotate.cuh)
// q, k: rotated, as forward left them; all bf16 in the layouts of HeadView; lse fp32 [N, H]. dq, dk, dv assign.
// Scratch: lse log2(e) and delta, fp32 [H, N] each.
//
// Two kernels, so that every sum has one owner and a fixed order: per tile of keys and key/value head (dk, dv: queries ascend, heads
// of the group outside), and per tile of queries and head (dq: keys ascend). That is seven tile products instead of five, and needs
// neither atomics nor an fp32 dq.
// Rows beyond a sequence are zero in shared memory: there p is finite and dp - delta is 0, so they add nothing.
#include "cuda/attention_launch.h"
#include "cuda/attention_tiles.cuh"
#include "cuda/cuda_backend.h"
#include "cuda/rotate.cuh"

namespace polypaca::POLYPACA_CUDA {
namespace {

struct BackwardCall {
  Heads dq, dk, dv, dout, out, q, k, v;
  const float* lse;
  float *lse2, *delta;  // [H, N]
  const int32_t* cu_seqlens;
  const float* alibi_slopes;
  Rope rope;
  float scale;
  int64_t N;
  int S, H, group, D, width;
};

// ---- statistics of the rows ----

DEVICE float dot_piece(const bf16* a, const bf16* b, int count, int width) {
  float sum = 0.0f;
  if (width == 16) {
    const Vec16 x = load_16(a), y = load_16(b);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum += low_bf16(x.w[i]) * low_bf16(y.w[i]) + high_bf16(x.w[i]) * high_bf16(y.w[i]);
  } else {
    for (int i = 0; i < smaller(count, 8); ++i) sum += to_float(a[i]) * to_float(b[i]);
  }
  return sum;
}

/// A block per token; `lanes` (a power of two, at least D / 8) lanes share a head, 8 elements each.
KERNEL BOUNDS(kThreads, 8) void row_statistics(BackwardCall c, int lanes) {
  const int64_t n = blockIdx.x;
  const int at_once = kThreads / lanes, column = int(threadIdx.x) % lanes * 8;
  for (int head0 = 0; head0 < c.H; head0 += at_once) {
    const int head = head0 + int(threadIdx.x) / lanes;
    float sum = 0.0f;
    if (head < c.H && column < c.D) sum = dot_piece(c.out.row(n, head) + column, c.dout.row(n, head) + column, c.D - column, c.width);
    for (int mask = lanes / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    if (head < c.H && column == 0) {
      c.delta[head * c.N + n] = sum;
      c.lse2[head * c.N + n] = c.lse[n * c.H + head] * kLog2E;
    }
  }
}

// ---- dk, dv ----

template <int kDim>
struct KeysShared {
  // Above 128 the sums of dk and dv do not fit the registers of 16 rows' one warp: two warps then share the rows, each computes their
  // scores, and owns half of the columns.
  static constexpr int kParts = kDim <= 128 ? 1 : 2, kColumns = kDim / kParts, kBlock = kThreads * kParts;
  static constexpr int kQueries = kTile / 2;  // of a tile of q and dout: p and ds of 64 would not fit, either
  static constexpr int kBlocks = kDim <= 64 ? 3 : kDim <= 128 ? 2 : 1;
  struct Tiles {
    alignas(16) bf16 k[kTile * kPitch<kDim>], v[kTile * kPitch<kDim>];
    alignas(16) bf16 q[2][kQueries * kPitch<kDim>], dout[2][kQueries * kPitch<kDim>];
    alignas(16) float lse2[2][kQueries], delta[2][kQueries];
  };
  union {
    Tiles tiles;
    float results[kTile * kPitch<kDim>];
  };
};

/// Where the loop over the queries of a group stands.
struct QueryCursor {
  int head, query0;
};

/// 64 keys of one key/value head. Everything is transposed, [keys, queries], so that p and ds are left operands as they are.
/// Grid: tile_blocks(), G.
template <int kDim, Access kAccess>
KERNEL BOUNDS(KeysShared<kDim>::kBlock, KeysShared<kDim>::kBlocks) void backward_keys(BackwardCall c) {
  using Shared = KeysShared<kDim>;
  constexpr int kQueries = Shared::kQueries, kColumns = Shared::kColumns, kBlock = Shared::kBlock;
  Shared& s = shared_memory<Shared>();
  const SequenceTile tile = find_tile(c.cu_seqlens, c.S, int(blockIdx.x));
  if (tile.index >= tile.count) return;
  const int key0 = tile.index * kTile, keys = smaller(kTile, tile.T - key0), kv_head = int(blockIdx.y);
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp, row0 = warp % 4 * 16, column0 = warp / 4 * kColumns;
  const float scale2 = c.scale * kLog2E;

  const auto load_queries = [&](int stage, const QueryCursor& at) {
    const int64_t first = tile.first + at.query0;
    const int rows = tile.T - at.query0, i = int(threadIdx.x) % kQueries;
    load_rows<kDim, kQueries, kBlock, kAccess>(s.tiles.q[stage], c.q, first, at.head, rows, c.D, c.width);
    load_rows<kDim, kQueries, kBlock, kAccess>(s.tiles.dout[stage], c.dout, first, at.head, rows, c.D, c.width);
    const float* from = (int(threadIdx.x) < kQueries ? c.lse2 : c.delta) + at.head * c.N + first;
    float* to = int(threadIdx.x) < kQueries ? s.tiles.lse2[stage] : s.tiles.delta[stage];
    if (int(threadIdx.x) < 2 * kQueries) copy_async_4(to + i, from + (i < rows ? i : 0), i < rows);
    copy_async_commit();
  };
  const auto advance = [&](QueryCursor& at) {
    at.query0 += kQueries;
    if (at.query0 >= tile.T) at = {at.head + 1, key0};
  };

  load_rows<kDim, kTile, kBlock, kAccess>(s.tiles.k, c.k, tile.first + key0, kv_head, keys, c.D, c.width);
  load_rows<kDim, kTile, kBlock, kAccess>(s.tiles.v, c.v, tile.first + key0, kv_head, keys, c.D, c.width);
  const int heads_end = (kv_head + 1) * c.group;
  QueryCursor next{kv_head * c.group, key0};
  load_queries(0, next);

  float dk[kColumns / 8][4] = {}, dv[kColumns / 8][4] = {};
  for (int stage = 0; next.head < heads_end; stage ^= 1) {
    const QueryCursor at = next;
    advance(next);
    copy_async_wait<0>();
    // Every thread's share of the tiles is there, and no warp reads the other stage (the queries before these) any more.
    sync_threads();
    if (next.head < heads_end) load_queries(stage ^ 1, next);
    const float slope2 = c.alibi_slopes ? c.alibi_slopes[at.head] * kLog2E : 0.0f;

    float p[kQueries / 8][4] = {}, ds[kQueries / 8][4] = {};
    multiply_transposed<kDim, kQueries>(p, [&](uint32_t (&a)[4], int k) { load_fragment<kDim>(a, s.tiles.k + row0 * kPitch<kDim>, k); }, s.tiles.q[stage]);
    multiply_transposed<kDim, kQueries>(ds, [&](uint32_t (&a)[4], int k) { load_fragment<kDim>(a, s.tiles.v + row0 * kPitch<kDim>, k); }, s.tiles.dout[stage]);
    const bool diagonal = at.query0 < key0 + kTile;
    const int distance = key0 + row0 + lane / 4 - (at.query0 + lane % 4 * 2);  // key - query of p[0][0]
#pragma unroll
    for (int b = 0; b < kQueries / 8; ++b) {
      const Vec8 lse2 = load_8(s.tiles.lse2[stage] + 8 * b + lane % 4 * 2), delta = load_8(s.tiles.delta[stage] + 8 * b + lane % 4 * 2);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int d = distance + e / 2 * 8 - 8 * b - e % 2;
        const float x = p[b][e] * scale2 - float_from_bits(lse2.w[e % 2]) + slope2 * float(d);
        p[b][e] = diagonal && d > 0 ? 0.0f : fast_exp2(x);
        ds[b][e] = p[b][e] * (ds[b][e] - float_from_bits(delta.w[e % 2]));
      }
    }
    multiply<kDim, kQueries, kColumns>(dv, [&](uint32_t (&a)[4], int k) { round_fragment(a, p, k); }, s.tiles.dout[stage] + column0);
    multiply<kDim, kQueries, kColumns>(dk, [&](uint32_t (&a)[4], int k) { round_fragment(a, ds, k); }, s.tiles.q[stage] + column0);
  }

  sync_threads();  // no warp reads the tiles any more: the results take their place
  stage_results<kDim>(s.results + row0 * kPitch<kDim> + column0, dk, c.scale, c.scale);
  sync_threads();  // all rows are staged
  if (c.rope.rotary_dim > 0) {
    rotate_back<kBlock>(s.results, kPitch<kDim>, keys, c.rope, key0);
    sync_threads();  // all pairs are turned
  }
  store_rows<kDim, kBlock, kAccess>(c.dk, tile.first + key0, kv_head, s.results, keys, c.D, c.width);
  sync_threads();  // dk is read: dv takes its place
  stage_results<kDim>(s.results + row0 * kPitch<kDim> + column0, dv, 1.0f, 1.0f);
  sync_threads();  // all rows are staged
  store_rows<kDim, kBlock, kAccess>(c.dv, tile.first + key0, kv_head, s.results, keys, c.D, c.width);
}

// ---- dq ----

template <int kDim>
struct QueriesShared {
  static constexpr int kKeys = kDim <= 64 || kDim > 128 ? kTile / 2 : kTile;  // of a tile of k and v: what the registers of kBlocks hold
  static constexpr int kBlocks = kDim <= 64 ? 3 : kDim <= 128 ? 2 : 1;
  struct Tiles {
    alignas(16) bf16 q[kTile * kPitch<kDim>], dout[kTile * kPitch<kDim>];
    alignas(16) bf16 k[2][kKeys * kPitch<kDim>], v[2][kKeys * kPitch<kDim>];
  };
  union {
    Tiles tiles;
    float results[kTile * kPitch<kDim>];
  };
};

/// 64 queries of one head. Grid: tile_blocks(), H.
template <int kDim, Access kAccess>
KERNEL BOUNDS(kThreads, QueriesShared<kDim>::kBlocks) void backward_queries(BackwardCall c) {
  using Shared = QueriesShared<kDim>;
  constexpr int kKeys = Shared::kKeys;
  Shared& s = shared_memory<Shared>();
  const SequenceTile tile = find_tile(c.cu_seqlens, c.S, int(blockIdx.x));
  if (tile.index >= tile.count) return;
  const int query0 = (tile.count - 1 - tile.index) * kTile;  // the last queries have most keys: they start first
  const int queries = smaller(kTile, tile.T - query0), keys = query0 + queries, steps = (keys + kKeys - 1) / kKeys;
  const int head = int(blockIdx.y), kv_head = head / c.group, lane = int(threadIdx.x) % kWarp, row0 = int(threadIdx.x) / kWarp * 16;
  const float scale2 = c.scale * kLog2E, slope2 = c.alibi_slopes ? c.alibi_slopes[head] * kLog2E : 0.0f;

  const auto load_keys = [&](int step) {
    load_rows<kDim, kKeys, kThreads, kAccess>(s.tiles.k[step % 2], c.k, tile.first + step * kKeys, kv_head, keys - step * kKeys, c.D, c.width);
    load_rows<kDim, kKeys, kThreads, kAccess>(s.tiles.v[step % 2], c.v, tile.first + step * kKeys, kv_head, keys - step * kKeys, c.D, c.width);
    copy_async_commit();
  };
  load_rows<kDim, kTile, kThreads, kAccess>(s.tiles.q, c.q, tile.first + query0, head, queries, c.D, c.width);
  load_rows<kDim, kTile, kThreads, kAccess>(s.tiles.dout, c.dout, tile.first + query0, head, queries, c.D, c.width);
  load_keys(0);
  float lse2[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = row0 + lane / 4 + 8 * half;
    const int64_t at = head * c.N + tile.first + query0 + row;
    lse2[half] = row < queries ? c.lse2[at] : 0.0f;
    delta[half] = row < queries ? c.delta[at] : 0.0f;
  }

  float dq[kDim / 8][4] = {};
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<0>();
    // Every thread's share of the tiles is there, and no warp reads the other stage (the keys before these) any more.
    sync_threads();
    if (step + 1 < steps) load_keys(step + 1);

    float p[kKeys / 8][4] = {}, ds[kKeys / 8][4] = {};
    multiply_transposed<kDim, kKeys>(p, [&](uint32_t (&a)[4], int k) { load_fragment<kDim>(a, s.tiles.q + row0 * kPitch<kDim>, k); }, s.tiles.k[step % 2]);
    multiply_transposed<kDim, kKeys>(ds, [&](uint32_t (&a)[4], int k) { load_fragment<kDim>(a, s.tiles.dout + row0 * kPitch<kDim>, k); }, s.tiles.v[step % 2]);
    const bool diagonal = step * kKeys + kKeys > query0;
    const int distance = step * kKeys + lane % 4 * 2 - (query0 + row0 + lane / 4);  // key - query of p[0][0]
#pragma unroll
    for (int b = 0; b < kKeys / 8; ++b) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int d = distance + 8 * b + e % 2 - e / 2 * 8;
        const float x = p[b][e] * scale2 - lse2[e / 2] + slope2 * float(d);
        const float probability = diagonal && d > 0 ? 0.0f : fast_exp2(x);
        ds[b][e] = probability * (ds[b][e] - delta[e / 2]);
      }
    }
    multiply<kDim, kKeys, kDim>(dq, [&](uint32_t (&a)[4], int k) { round_fragment(a, ds, k); }, s.tiles.k[step % 2]);
  }

  sync_threads();  // no warp reads the tiles any more: the results take their place
  stage_results<kDim>(s.results + row0 * kPitch<kDim>, dq, c.scale, c.scale);
  sync_threads();  // all rows are staged
  if (c.rope.rotary_dim > 0) {
    rotate_back<kThreads>(s.results, kPitch<kDim>, queries, c.rope, query0);
    sync_threads();  // all pairs are turned
  }
  store_rows<kDim, kThreads, kAccess>(c.dq, tile.first + query0, head, s.results, queries, c.D, c.width);
}

}  // namespace

int64_t CudaBackend::attention_scratch_bytes(int64_t N, const AttentionShape& shape) const { return 2 * N * shape.H * int64_t(sizeof(float)); }

void CudaBackend::attention_backward(HeadView dq, HeadView dk, HeadView dv, HeadView dout, HeadView out, const float* lse, HeadView q, HeadView k, HeadView v, void* scratch, const Sequences& sequences, const AttentionShape& shape) {
  check_attention_shape(shape);
  if (sequences.N == 0) return;
  float* statistics = static_cast<float*>(scratch);
  BackwardCall c{heads_of(dq), heads_of(dk), heads_of(dv), heads_of(dout), heads_of(out), heads_of(q), heads_of(k), heads_of(v), lse, statistics, statistics + shape.H * sequences.N,
                 sequences.cu_seqlens, shape.alibi_slopes, shape.rope, shape.scale, sequences.N, int(sequences.S), int(shape.H), int(shape.H / shape.G), int(shape.D), 0};
  c.width = access_width(shape.D, {c.dq, c.dk, c.dv, c.dout, c.out, c.q, c.k, c.v});
  int lanes = 1;
  while (lanes * 8 < shape.D) lanes *= 2;
  launch(row_statistics, Grid(sequences.N), kThreads, 0, stream(), c, lanes);
  with_head_dimension(shape.D, c.width, [&](auto compiled) {
    constexpr int kDim = compiled.kDim;
    constexpr Access kAccess = compiled.kAccess;
    launch(backward_keys<kDim, kAccess>, Grid(tile_blocks(sequences), shape.G), KeysShared<kDim>::kBlock, sizeof(KeysShared<kDim>), stream(), c);
    launch(backward_queries<kDim, kAccess>, Grid(tile_blocks(sequences), shape.H), kThreads, sizeof(QueriesShared<kDim>), stream(), c);
  });
}

}  // namespace polypaca::POLYPACA_CUDA
