// Causal self-attention of packed sequences, blockwise with a running softmax: FlashAttention-2, Dao 2023, arXiv:2307.08691.
// Grouped queries: Ainslie et al. 2023, arXiv:2305.13245. ALiBi: Press et al. 2022, arXiv:2108.12409. RoPE: rope.h.
//   forward   s_ij = scale q_i . k_j + slope (j - i), j <= i in the same sequence;  lse_i = log sum_j exp(s_ij)
//             p_ij = exp(s_ij - lse_i);  out_i = sum_j p_ij v_j
//   backward  delta_i = dout_i . out_i;  dp_ij = dout_i . v_j;  ds_ij = p_ij (dp_ij - delta_i)
//             dq_i = scale sum_j ds_ij k_j;  dk_j = scale sum_i ds_ij q_i;  dv_j = sum_i p_ij dout_i;  then dq, dk are rotated back
// q, out and their gradients: H heads, k, v and theirs: G heads, fp32 or bf16 in the layouts of HeadView; lse fp32 [N, H].
// All outputs assign. Forward rotates q and k in place and saves lse; [T, T] never exists, only 64 x 64 blocks of it.
// Arithmetic is fp32. Exponents are taken to base 2, with log2(e) folded into scale and slope.
//
// A block of the result is always summed over the blocks of the other side in ascending order, whoever computes it, so that results
// do not depend on the number of threads. Blocks lie on multiples of 64 within a sequence; one that is crossed by the diagonal
// ("diagonal" below) has equal first query and key, and its products leave out what causality makes zero.
#include <math.h>
#include <omp.h>

#include "cpu/attention_tiles.h"
#include "cpu/cpu_backend.h"
#include "cpu/rope.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr int64_t kBlock = 64;
constexpr float kLog2E = 1.44269504f, kMasked = -1e30f;

/// One sequence and the blocks that a call works on.
struct Span {
  int64_t first, T;  // first token in the batch, length
};

/// Finds the sequence of a block, blocks of all sequences counted through. Each thread asks for ascending blocks, so it only walks on.
struct BlockCursor {
  const Sequences& sequences;
  int64_t s = 0, before = 0;  // sequence, and the number of blocks before it

  POLYPACA_INLINE Span span() const { return {sequences.cu_seqlens[s], sequences.cu_seqlens[s + 1] - sequences.cu_seqlens[s]}; }
  POLYPACA_INLINE int64_t blocks() const { return round_up(span().T, kBlock) / kBlock; }
  POLYPACA_INLINE void seek(int64_t block) {
    while (block >= before + blocks()) before += blocks(), ++s;
  }
};

POLYPACA_INLINE int64_t count_blocks(const Sequences& sequences) {
  int64_t blocks = 0;
  for (int64_t s = 0; s < sequences.S; ++s) blocks += round_up(sequences.cu_seqlens[s + 1] - sequences.cu_seqlens[s], kBlock) / kBlock;
  return blocks;
}

POLYPACA_INLINE float slope2_of(const AttentionShape& shape, int64_t head) { return shape.alibi_slopes ? shape.alibi_slopes[head] * kLog2E : 0.0f; }

void rotate_all(const HeadView& q, const HeadView& k, const Sequences& sequences, const AttentionShape& shape) {
  if (shape.rope.rotary_dim == 0) return;
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < sequences.N; ++n) {
    for (int64_t h = 0; h < shape.H; ++h) rotate(q, n, h, shape.rope, sequences.positions[n], 1.0f);
    for (int64_t g = 0; g < shape.G; ++g) rotate(k, n, g, shape.rope, sequences.positions[n], 1.0f);
  }
}

// ---- forward: scores are kept transposed, [key][query], so that the softmax runs along the lanes without horizontal steps ----

struct ForwardTiles {
  alignas(64) float q_t[kMaxHeadDim * kBlock];  // [D][queries]
  alignas(64) float k[kBlock * kMaxHeadDim], v[kBlock * kMaxHeadDim], out[kBlock * kMaxHeadDim];
  alignas(64) float p_t[kBlock * kBlock];       // scores, then probabilities, [keys][queries]
  alignas(64) float max[kBlock], sum[kBlock], rescale[kBlock];
};

/// Scores to probabilities relative to the running maximum, for `keys` keys from key0 and `queries` queries from query0.
template <bool kDiagonal, bool kAlibi>
void softmax_block(ForwardTiles& t, int64_t keys, int64_t queries, float distance0, float scale2, float slope2) {
  Vec lane;
  for (int l = 0; l < kLanes; ++l) lane[l] = float(l);
  for (int64_t c = 0; c < queries; c += kLanes) {
    const Vec query = lane + float(c);
    const int64_t end = kDiagonal ? less_of(keys, c + kLanes) : keys;  // later keys are masked for the whole column
    Vec high = splat(kMasked);
    for (int64_t j = 0; j < end; ++j) {
      Vec& x = vec_at(t.p_t + j * kBlock + c);
      Vec s = x * scale2;
      if constexpr (kAlibi) s += slope2 * ((distance0 + float(j)) - query);
      if constexpr (kDiagonal) s = query < splat(float(j)) ? splat(kMasked) : s;
      if constexpr (kAlibi || kDiagonal) x = s;
      high = larger_of(high, s);
    }
    Vec& max = vec_at(t.max + c);
    high = larger_of(high, max);
    const Vec shrink = exp2_of(max - high);
    max = high;
    Vec sum = Vec{};
    for (int64_t j = 0; j < end; ++j) {
      Vec& x = vec_at(t.p_t + j * kBlock + c);
      Vec p = exp2_of((kAlibi || kDiagonal) ? x - high : x * scale2 - high);
      if constexpr (kDiagonal) p = query < splat(float(j)) ? Vec{} : p;
      x = p;
      sum += p;
    }
    vec_at(t.rescale + c) = shrink;
    vec_at(t.sum + c) = vec_at(t.sum + c) * shrink + sum;
  }
}

void softmax_block(ForwardTiles& t, int64_t keys, int64_t queries, bool diagonal, float distance0, float scale2, float slope2) {
  if (diagonal) {
    slope2 != 0.0f ? softmax_block<true, true>(t, keys, queries, distance0, scale2, slope2) : softmax_block<true, false>(t, keys, queries, distance0, scale2, slope2);
  } else {
    slope2 != 0.0f ? softmax_block<false, true>(t, keys, queries, distance0, scale2, slope2) : softmax_block<false, false>(t, keys, queries, distance0, scale2, slope2);
  }
}

struct ForwardCall {
  HeadView out, q, k, v;
  float* lse;
  const AttentionShape& shape;
};

void forward_block(ForwardTiles& t, const ForwardCall& call, Span span, int64_t head, int64_t query0) {
  const AttentionShape& shape = call.shape;
  const int64_t D = shape.D, ld = round_up(D, 16), kv_head = head / (shape.H / shape.G);
  const int64_t queries = less_of(kBlock, span.T - query0), padded = round_up(queries, 16);
  const float scale2 = shape.scale * kLog2E, slope2 = slope2_of(shape, head);
  load_rows(t.out, ld, call.q, span.first + query0, head, queries, padded, D);
  transpose(t.q_t, kBlock, t.out, ld, padded, D);
  for (int64_t i = 0; i < kBlock; ++i) t.max[i] = kMasked, t.sum[i] = 0.0f;

  for (int64_t key0 = 0; key0 <= query0; key0 += kBlock) {
    const bool diagonal = key0 == query0;
    const int64_t keys = less_of(kBlock, span.T - key0), padded_keys = round_up(keys, kRowsAtOnce);
    load_rows(t.k, ld, call.k, span.first + key0, kv_head, keys, padded_keys, D);
    load_rows(t.v, ld, call.v, span.first + key0, kv_head, keys, padded_keys, D);
    product<false, Into::assign>(t.p_t, kBlock, t.k, ld, t.q_t, kBlock, keys, queries, nullptr,
                                 [=](int64_t j, int64_t, int64_t end) { return Depth{0, diagonal && j >= end ? 0 : D}; });
    softmax_block(t, keys, queries, diagonal, float(key0 - query0), scale2, slope2);
    const auto earlier_keys = [=](int64_t i, int64_t, int64_t) { return Depth{0, diagonal ? less_of(keys, i + kRowsAtOnce) : keys}; };
    if (key0 == 0) {
      product<true, Into::assign>(t.out, ld, t.p_t, kBlock, t.v, ld, queries, D, nullptr, earlier_keys);
    } else {
      product<true, Into::rescale>(t.out, ld, t.p_t, kBlock, t.v, ld, queries, D, t.rescale, earlier_keys);
    }
  }
  for (int64_t i = 0; i < queries; ++i) {
    const float inverse = 1.0f / t.sum[i];
    for (int64_t d = 0; d < ld; d += kLanes) vec_at(t.out + i * ld + d) *= inverse;
    call.lse[(span.first + query0 + i) * shape.H + head] = float((double(t.max[i]) + log2(double(t.sum[i]))) * 0.6931471805599453);
  }
  store_rows(call.out, span.first + query0, head, t.out, ld, queries, D);
}

// ---- backward ----

struct BackwardTiles {
  alignas(64) float k[kBlock * kMaxHeadDim], k_t[kMaxHeadDim * kBlock], v_t[kMaxHeadDim * kBlock];
  alignas(64) float q[kBlock * kMaxHeadDim], dout[kBlock * kMaxHeadDim];
  alignas(64) float dk[kBlock * kMaxHeadDim], dv[kBlock * kMaxHeadDim], dq[kBlock * kMaxHeadDim];
  alignas(64) float p[kBlock * kBlock], ds[kBlock * kBlock];  // [queries][keys]
  alignas(64) float lse2[kBlock], delta[kBlock];
};

struct BackwardCall {
  HeadView dq, dk, dv, dout, out, q, k, v;
  const float* lse;
  float *delta, *dq_sum;  // scratch: [H, N] and [H, N, ld], ld = D rounded up to 16
  const Sequences& sequences;
  const AttentionShape& shape;
};

void compute_delta(const BackwardCall& call, Span span, int64_t head) {
  alignas(64) float out[kMaxHeadDim], dout[kMaxHeadDim];
  const int64_t ld = round_up(call.shape.D, 16);
  for (int64_t n = span.first; n < span.first + span.T; ++n) {
    load_rows(out, ld, call.out, n, head, 1, 1, call.shape.D);
    load_rows(dout, ld, call.dout, n, head, 1, 1, call.shape.D);
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t d = 0; d < ld; ++d) sum += out[d] * dout[d];
    call.delta[head * call.sequences.N + n] = sum;
  }
}

void load_keys(BackwardTiles& t, const BackwardCall& call, Span span, int64_t kv_head, int64_t key0) {
  const int64_t D = call.shape.D, ld = round_up(D, 16), keys = less_of(kBlock, span.T - key0), padded = round_up(keys, 16);
  load_rows(t.k, ld, call.v, span.first + key0, kv_head, keys, padded, D);
  transpose(t.v_t, kBlock, t.k, ld, padded, D);
  load_rows(t.k, ld, call.k, span.first + key0, kv_head, keys, padded, D);
  transpose(t.k_t, kBlock, t.k, ld, padded, D);
}

void load_queries(BackwardTiles& t, const BackwardCall& call, Span span, int64_t head, int64_t query0) {
  const int64_t D = call.shape.D, ld = round_up(D, 16), queries = less_of(kBlock, span.T - query0), first = span.first + query0;
  load_rows(t.q, ld, call.q, first, head, queries, round_up(queries, kRowsAtOnce), D);
  load_rows(t.dout, ld, call.dout, first, head, queries, round_up(queries, kRowsAtOnce), D);
  for (int64_t i = 0; i < kBlock; ++i) {
    t.lse2[i] = i < queries ? call.lse[(first + i) * call.shape.H + head] * kLog2E : 0.0f;
    t.delta[i] = i < queries ? call.delta[head * call.sequences.N + first + i] : 0.0f;
  }
}

/// p: scores to probabilities; ds: dp to the scores' gradient.
template <bool kDiagonal, bool kAlibi>
void score_gradients(BackwardTiles& t, int64_t queries, int64_t keys, float distance0, float scale2, float slope2) {
  Vec lane;
  for (int l = 0; l < kLanes; ++l) lane[l] = float(l);
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t end = kDiagonal ? less_of(keys, i / kRowsAtOnce * kRowsAtOnce + kRowsAtOnce) : keys;
    for (int64_t c = 0; c < end; c += kLanes) {
      Vec &p = vec_at(t.p + i * kBlock + c), &ds = vec_at(t.ds + i * kBlock + c);
      const Vec key = lane + float(c);
      Vec s = p * scale2 - t.lse2[i];
      if constexpr (kAlibi) s += slope2 * (key + (distance0 - float(i)));
      Vec probability = exp2_of(s);
      if constexpr (kDiagonal) probability = key > splat(float(i)) ? Vec{} : probability;
      p = probability;
      ds = probability * (ds - t.delta[i]);
    }
  }
}

void score_gradients(BackwardTiles& t, int64_t queries, int64_t keys, bool diagonal, float distance0, float scale2, float slope2) {
  if (diagonal) {
    slope2 != 0.0f ? score_gradients<true, true>(t, queries, keys, distance0, scale2, slope2) : score_gradients<true, false>(t, queries, keys, distance0, scale2, slope2);
  } else {
    slope2 != 0.0f ? score_gradients<false, true>(t, queries, keys, distance0, scale2, slope2) : score_gradients<false, false>(t, queries, keys, distance0, scale2, slope2);
  }
}

/// The loaded queries against the loaded keys: dk, dv add; dq_sum (rows of stride ld) assigns for the first key block, else adds.
template <bool kForKeys, bool kForQueries>
void backward_block(BackwardTiles& t, const BackwardCall& call, Span span, int64_t head, int64_t query0, int64_t key0, float* dq_sum) {
  const int64_t D = call.shape.D, ld = round_up(D, 16);
  const int64_t queries = less_of(kBlock, span.T - query0), keys = less_of(kBlock, span.T - key0);
  const bool diagonal = query0 == key0;
  const auto not_above = [=](int64_t i, int64_t begin, int64_t) { return Depth{0, diagonal && begin >= i + kRowsAtOnce ? 0 : D}; };
  product<false, Into::assign>(t.p, kBlock, t.q, ld, t.k_t, kBlock, queries, keys, nullptr, not_above);
  product<false, Into::assign>(t.ds, kBlock, t.dout, ld, t.v_t, kBlock, queries, keys, nullptr, not_above);
  score_gradients(t, queries, keys, diagonal, float(key0 - query0), call.shape.scale * kLog2E, slope2_of(call.shape, head));
  if constexpr (kForKeys) {
    const auto later_queries = [=](int64_t j, int64_t, int64_t) { return Depth{diagonal ? j : 0, queries}; };
    product<true, Into::add>(t.dv, ld, t.p, kBlock, t.dout, ld, keys, D, nullptr, later_queries);
    product<true, Into::add>(t.dk, ld, t.ds, kBlock, t.q, ld, keys, D, nullptr, later_queries);
  }
  if constexpr (kForQueries) {
    product<false, Into::assign>(t.dq, ld, t.ds, kBlock, t.k, ld, queries, D, nullptr,
                                 [=](int64_t i, int64_t, int64_t) { return Depth{0, diagonal ? less_of(keys, i + kRowsAtOnce) : keys}; });
    for (int64_t x = 0; x < queries * ld; x += kLanes) vec_at(dq_sum + x) = key0 == 0 ? vec_at(t.dq + x) : vec_at(dq_sum + x) + vec_at(t.dq + x);
  }
}

/// Multiplies by `scale`, rotates back and stores `rows` rows of a tile.
void store_gradient(const HeadView& dx, float* tile, const BackwardCall& call, int64_t first, int64_t head, int64_t rows, float scale, bool rotated) {
  const int64_t D = call.shape.D, ld = round_up(D, 16);
  for (int64_t r = 0; r < rows; ++r) {
    float* row = tile + r * ld;
    for (int64_t d = 0; d < ld; d += kLanes) vec_at(row + d) *= scale;
    if (rotated && call.shape.rope.rotary_dim != 0) rotate(row, call.shape.rope, call.sequences.positions[first + r], -1.0f);
  }
  store_rows(dx, first, head, tile, ld, rows, D);
}

/// dk, dv of one block of keys, and with kForQueries that block's share of dq.
template <bool kForQueries>
void backward_keys(BackwardTiles& t, const BackwardCall& call, Span span, int64_t kv_head, int64_t key0) {
  const int64_t group = call.shape.H / call.shape.G, ld = round_up(call.shape.D, 16);
  load_keys(t, call, span, kv_head, key0);
  for (int64_t x = 0; x < kBlock * ld; x += kLanes) vec_at(t.dk + x) = vec_at(t.dv + x) = Vec{};
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t query0 = key0; query0 < span.T; query0 += kBlock) {
      load_queries(t, call, span, head, query0);
      backward_block<true, kForQueries>(t, call, span, head, query0, key0, call.dq_sum + (head * call.sequences.N + span.first + query0) * ld);
    }
  }
  const int64_t keys = less_of(kBlock, span.T - key0);
  store_gradient(call.dk, t.dk, call, span.first + key0, kv_head, keys, call.shape.scale, true);
  store_gradient(call.dv, t.dv, call, span.first + key0, kv_head, keys, 1.0f, false);
}

/// dq of one block of queries.
void backward_queries(BackwardTiles& t, const BackwardCall& call, Span span, int64_t head, int64_t query0) {
  const int64_t queries = less_of(kBlock, span.T - query0);
  load_queries(t, call, span, head, query0);
  for (int64_t key0 = 0; key0 <= query0; key0 += kBlock) {
    load_keys(t, call, span, head / (call.shape.H / call.shape.G), key0);
    backward_block<false, true>(t, call, span, head, query0, key0, t.dk);  // dk's tile is free here
  }
  store_gradient(call.dq, t.dk, call, span.first + query0, head, queries, call.shape.scale, true);
}

/// Whole (sequence, key/value head) pairs, five products per pair of blocks.
void backward_by_head(const BackwardCall& call) {
  const AttentionShape& shape = call.shape;
  const int64_t group = shape.H / shape.G, ld = round_up(shape.D, 16);
#pragma omp parallel
  {
    BackwardTiles tiles;
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < call.sequences.S * shape.G; ++item) {
      const int64_t s = item / shape.G, kv_head = item % shape.G, first = call.sequences.cu_seqlens[s];
      const Span span{first, call.sequences.cu_seqlens[s + 1] - first};
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) compute_delta(call, span, head);
      for (int64_t key0 = 0; key0 < span.T; key0 += kBlock) backward_keys<true>(tiles, call, span, kv_head, key0);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        store_gradient(call.dq, call.dq_sum + (head * call.sequences.N + first) * ld, call, first, head, span.T, shape.scale, true);
      }
    }
  }
}

/// Single blocks, first of keys, then of queries: seven products per pair of blocks instead of five, but work for any number of threads.
void backward_by_block(const BackwardCall& call) {
  const AttentionShape& shape = call.shape;
  const int64_t blocks = count_blocks(call.sequences);
#pragma omp parallel
  {
    BackwardTiles tiles;
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < call.sequences.S * shape.H; ++item) {
      const int64_t s = item / shape.H, first = call.sequences.cu_seqlens[s];
      compute_delta(call, {first, call.sequences.cu_seqlens[s + 1] - first}, item % shape.H);
    }
    BlockCursor cursor{call.sequences};
#pragma omp for schedule(monotonic : dynamic, 1)
    for (int64_t item = 0; item < blocks * shape.G; ++item) {
      cursor.seek(item / shape.G);
      backward_keys<false>(tiles, call, cursor.span(), item % shape.G, (item / shape.G - cursor.before) * kBlock);
    }
    BlockCursor query_cursor{call.sequences};
#pragma omp for schedule(monotonic : dynamic, 1)
    for (int64_t item = 0; item < blocks * shape.H; ++item) {
      query_cursor.seek(item / shape.H);
      const int64_t last_first = query_cursor.before + query_cursor.blocks() - 1 - item / shape.H;  // long rows first
      backward_queries(tiles, call, query_cursor.span(), item % shape.H, last_first * kBlock);
    }
  }
}

/// Whether pairs of (sequence, key/value head) keep all threads busy well enough.
bool enough_heads(const Sequences& sequences, int64_t G) {
  double total = 0.0, longest = 0.0;
  for (int64_t s = 0; s < sequences.S; ++s) {
    const double T = double(sequences.cu_seqlens[s + 1] - sequences.cu_seqlens[s]);
    total += T * T;
    longest = T * T > longest ? T * T : longest;
  }
  const int64_t threads = omp_get_max_threads(), rounds = round_up(sequences.S * G, threads) / threads;
  const double by_head = double(rounds) * total / double(sequences.S), ideal = total * double(G) / double(threads);
  return (by_head > longest ? by_head : longest) <= 1.4 * ideal;
}

}  // namespace

void CpuBackend::attention_forward(HeadView out, float* lse, HeadView q, HeadView k, HeadView v, const Sequences& sequences, const AttentionShape& shape) {
  check_attention_shape(shape);
  rotate_all(q, k, sequences, shape);
  const ForwardCall call{out, q, k, v, lse, shape};
  const int64_t items = count_blocks(sequences) * shape.H;
#pragma omp parallel
  {
    ForwardTiles tiles;
    BlockCursor cursor{sequences};
#pragma omp for schedule(monotonic : dynamic, 1)
    for (int64_t item = 0; item < items; ++item) {
      cursor.seek(item / shape.H);
      const int64_t last_first = cursor.before + cursor.blocks() - 1 - item / shape.H;  // long rows first
      forward_block(tiles, call, cursor.span(), item % shape.H, last_first * kBlock);
    }
  }
}

int64_t CpuBackend::attention_scratch_bytes(int64_t N, const AttentionShape& shape) const {
  return (round_up(shape.H * N, 16) + shape.H * N * round_up(shape.D, 16)) * int64_t(sizeof(float));
}

void CpuBackend::attention_backward(HeadView dq, HeadView dk, HeadView dv, HeadView dout, HeadView out, const float* lse, HeadView q, HeadView k, HeadView v, void* scratch, const Sequences& sequences, const AttentionShape& shape) {
  check_attention_shape(shape);
  float* delta = static_cast<float*>(scratch);
  const BackwardCall call{dq, dk, dv, dout, out, q, k, v, lse, delta, delta + round_up(shape.H * sequences.N, 16), sequences, shape};
  if (enough_heads(sequences, shape.G)) {
    backward_by_head(call);
  } else {
    backward_by_block(call);
  }
}

}  // namespace polypaca::POLYPACA_ISA
