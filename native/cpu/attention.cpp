// Causal self-attention of packed sequences, blockwise with a running softmax: FlashAttention-2, Dao 2023, arXiv:2307.08691.
// Grouped queries: Ainslie et al. 2023, arXiv:2305.13245. ALiBi: Press et al. 2022, arXiv:2108.12409. RoPE: rope.h.
//   forward   s_ij = scale q_i . k_j + slope (j - i), j <= i in the same sequence;  lse_i = log sum_j exp(s_ij)
//             p_ij = exp(s_ij - lse_i);  out_i = sum_j p_ij v_j
//   backward  delta_i = dout_i . out_i;  dp_ij = dout_i . v_j;  ds_ij = p_ij (dp_ij - delta_i)
//             dq_i = scale sum_j ds_ij k_j;  dk_j = scale sum_i ds_ij q_i;  dv_j = sum_i p_ij dout_i;  then dq, dk are rotated back
// q, out and their gradients: H heads, k, v and theirs: G heads, fp32 or bf16 in the layouts of HeadView; lse fp32 [N, H].
// All outputs assign. Forward rotates q and k in place and saves lse; [T, T] never exists, only 64 x 64 blocks of it.
// Arithmetic is fp32, the softmax always; where the machine multiplies bf16 pairs (bf16_dot) and q, k, v (and dout) are bf16, the
// products take bf16 operands, p and ds rounded, and sum in fp32. Exponents are to base 2 (attention_softmax.h).
//
// A block of the result is always summed over the blocks of the other side in ascending order, whoever computes it, so that results
// do not depend on the number of threads. Blocks lie on multiples of 64 within a sequence; one that is crossed by the diagonal
// ("diagonal" below) has equal first query and key, and its products leave out what causality makes zero.
#include <math.h>
#include <omp.h>

#include "cpu/attention_softmax.h"
#include "cpu/attention_tiles.h"
#include "cpu/cpu_backend.h"
#include "cpu/rope.h"

namespace polypaca::POLYPACA_ISA {
namespace {

/// One sequence: its first token in the batch and its length.
struct Span {
  int64_t first, T;
};

/// Counts through the pairs (head, block) of all sequences, heads outside blocks within a sequence, so that a head's keys and values
/// stay cached. Each thread asks for ascending pairs, so a cursor only walks on.
struct BlockCursor {
  const Sequences& sequences;
  int64_t heads;
  int64_t s = 0, before = 0;  // sequence, and the number of pairs before it
  int64_t head = 0, block = 0;

  POLYPACA_INLINE Span span() const { return {sequences.cu_seqlens[s], sequences.cu_seqlens[s + 1] - sequences.cu_seqlens[s]}; }
  POLYPACA_INLINE int64_t blocks() const { return rounded_up(span().T, kBlock) / kBlock; }
  POLYPACA_INLINE void seek(int64_t pair) {
    while (pair >= before + blocks() * heads) before += blocks() * heads, ++s;
    head = (pair - before) / blocks();
    block = (pair - before) % blocks();
  }
  POLYPACA_INLINE int64_t from_last() const { return (blocks() - 1 - block) * kBlock; }  // first token of the block, long rows first
};

POLYPACA_INLINE int64_t count_blocks(const Sequences& sequences) {
  int64_t blocks = 0;
  for (int64_t s = 0; s < sequences.S; ++s) blocks += rounded_up(sequences.cu_seqlens[s + 1] - sequences.cu_seqlens[s], kBlock) / kBlock;
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

// ---- forward ----

struct ForwardCall {
  HeadView out, q, k, v;
  float* lse;
  const Sequences& sequences;
  const AttentionShape& shape;
};

template <typename Unit>
void forward_block(ForwardTiles& t, const ForwardCall& call, Span span, int64_t head, int64_t query0) {
  const AttentionShape& shape = call.shape;
  const int64_t D = shape.D, ld = rounded_up(D, 16), depth = units_of<Unit>(D), ld_depth = stride_of<Unit>(D), kv_head = head / (shape.H / shape.G);
  const int64_t queries = smaller(kBlock, span.T - query0), padded = rounded_up(queries, 16);
  load_rows<Unit>(t.out, ld_depth, call.q, span.first + query0, head, queries, padded, D);
  transpose(t.q_t, kBlock, t.out, ld_depth, padded, depth);
  for (int64_t i = 0; i < kBlock; ++i) t.max[i] = kMasked, t.sum[i] = 0.0f;

  for (int64_t key0 = 0; key0 <= query0; key0 += kBlock) {
    const bool diagonal = key0 == query0;
    const int64_t keys = smaller(kBlock, span.T - key0), padded_keys = rounded_up(keys, kRowsAtOnce);
    load_rows<Unit>(t.k, ld_depth, call.k, span.first + key0, kv_head, keys, padded_keys, D);
    load_across<Unit>(t.v, ld, call.v, span.first + key0, kv_head, keys, padded_keys, D);
    product<Unit, false, Into::assign>(t.p_t, kBlock, t.k, ld_depth, t.q_t, kBlock, keys, queries, nullptr,
                                       [=](int64_t j, int64_t, int64_t end) { return Depth{0, diagonal && j >= end ? 0 : depth}; });
    softmax_block<Unit>(t, keys, queries, diagonal, float(key0 - query0), shape.scale * kLog2E, slope2_of(shape, head));
    const auto earlier_keys = [=](int64_t i, int64_t, int64_t) { return Depth{0, units_of<Unit>(diagonal ? smaller(keys, i + kRowsAtOnce) : keys)}; };
    if (key0 == 0) {
      product<Unit, true, Into::assign>(t.out, ld, t.p_t, kBlock, t.v, ld, queries, D, nullptr, earlier_keys);
    } else {
      product<Unit, true, Into::rescale>(t.out, ld, t.p_t, kBlock, t.v, ld, queries, D, t.rescale, earlier_keys);
    }
  }
  for (int64_t i = 0; i < queries; ++i) {
    const float inverse = 1.0f / t.sum[i];
    for (int64_t d = 0; d < ld; d += kLanes) floats_at(t.out + i * ld + d) *= inverse;
    call.lse[(span.first + query0 + i) * shape.H + head] = float((double(t.max[i]) + log2(double(t.sum[i]))) * 0.6931471805599453);
  }
  store_rows(call.out, span.first + query0, head, t.out, ld, queries, D);
}

template <typename Unit>
void forward(const ForwardCall& call) {
  const int64_t H = call.shape.H, items = count_blocks(call.sequences) * H;
#pragma omp parallel
  {
    ForwardTiles tiles;
    BlockCursor cursor{call.sequences, H};
#pragma omp for schedule(monotonic : dynamic, 1)
    for (int64_t item = 0; item < items; ++item) {
      cursor.seek(item);
      forward_block<Unit>(tiles, call, cursor.span(), cursor.head, cursor.from_last());
    }
  }
}

// ---- backward ----

struct BackwardCall {
  HeadView dq, dk, dv, dout, out, q, k, v;
  const float* lse;
  float *delta, *dq_sum;  // scratch: [H, N] and [H, N, ld], ld = D rounded up to 16
  const Sequences& sequences;
  const AttentionShape& shape;
};

/// delta of `count` tokens from `first` on.
void compute_delta(const BackwardCall& call, int64_t first, int64_t head, int64_t count) {
  with_types(call.out.dtype, call.dout.dtype, [&]<typename A, typename B>(TypeTag<A>, TypeTag<B>) {
    for (int64_t n = first; n < first + count; ++n) {
      const A* out = static_cast<const A*>(call.out.data) + offset_of(call.out, n, head);
      const B* dout = static_cast<const B*>(call.dout.data) + offset_of(call.dout, n, head);
      call.delta[head * call.sequences.N + n] = dot(out, dout, call.shape.D);
    }
  });
}

template <typename Unit>
void load_keys(BackwardTiles& t, const BackwardCall& call, Span span, int64_t kv_head, int64_t key0) {
  const int64_t D = call.shape.D, keys = smaller(kBlock, span.T - key0), padded = rounded_up(keys, 16), first = span.first + key0;
  float* rows = t.dq;  // free until the first product of a block
  load_rows<Unit>(rows, stride_of<Unit>(D), call.v, first, kv_head, keys, padded, D);
  transpose(t.v_t, kBlock, rows, stride_of<Unit>(D), padded, units_of<Unit>(D));
  load_rows<Unit>(rows, stride_of<Unit>(D), call.k, first, kv_head, keys, padded, D);
  transpose(t.k_t, kBlock, rows, stride_of<Unit>(D), padded, units_of<Unit>(D));
  load_across<Unit>(t.k, rounded_up(D, 16), call.k, first, kv_head, keys, padded, D);
}

template <typename Unit>
void load_queries(BackwardTiles& t, const BackwardCall& call, Span span, int64_t head, int64_t query0) {
  const int64_t D = call.shape.D, queries = smaller(kBlock, span.T - query0), padded = rounded_up(queries, kRowsAtOnce), first = span.first + query0;
  load_rows<Unit>(t.q, stride_of<Unit>(D), call.q, first, head, queries, padded, D);
  load_rows<Unit>(t.dout, stride_of<Unit>(D), call.dout, first, head, queries, padded, D);
  if constexpr (Unit::kElements == 2) {
    load_across<Unit>(t.q_across, rounded_up(D, 16), call.q, first, head, queries, padded, D);
    load_across<Unit>(t.dout_across, rounded_up(D, 16), call.dout, first, head, queries, padded, D);
  }
  for (int64_t i = 0; i < kBlock; ++i) {
    t.lse2[i] = i < queries ? call.lse[(first + i) * call.shape.H + head] * kLog2E : 0.0f;
    t.delta[i] = i < queries ? call.delta[head * call.sequences.N + first + i] : 0.0f;
  }
}

/// The loaded queries against the loaded keys: dk, dv add; dq_sum (rows of stride ld) assigns for the first key block, else adds.
template <typename Unit, bool kForKeys, bool kForQueries>
void backward_block(BackwardTiles& t, const BackwardCall& call, Span span, int64_t head, int64_t query0, int64_t key0, float* dq_sum) {
  constexpr bool kPairs = Unit::kElements == 2;
  const int64_t D = call.shape.D, ld = rounded_up(D, 16), depth = units_of<Unit>(D), ld_depth = stride_of<Unit>(D);
  const int64_t queries = smaller(kBlock, span.T - query0), keys = smaller(kBlock, span.T - key0);
  const bool diagonal = query0 == key0;
  const auto not_above = [=](int64_t i, int64_t begin, int64_t) { return Depth{0, diagonal && begin >= i + kRowsAtOnce ? 0 : depth}; };
  product<Unit, false, Into::assign>(t.p, kBlock, t.q, ld_depth, t.k_t, kBlock, queries, keys, nullptr, not_above);
  product<Unit, false, Into::assign>(t.ds, kBlock, t.dout, ld_depth, t.v_t, kBlock, queries, keys, nullptr, not_above);
  score_gradients<Unit>(t, keys, queries, diagonal, float(key0 - query0), call.shape.scale * kLog2E, slope2_of(call.shape, head));
  if constexpr (kForKeys) {
    const auto later_queries = [=](int64_t j, int64_t, int64_t) { return Depth{diagonal ? j / Unit::kElements : 0, units_of<Unit>(queries)}; };
    product<Unit, true, Into::add>(t.dv, ld, t.p, kBlock, kPairs ? t.dout_across : t.dout, ld, keys, D, nullptr, later_queries);
    product<Unit, true, Into::add>(t.dk, ld, t.ds, kBlock, kPairs ? t.q_across : t.q, ld, keys, D, nullptr, later_queries);
  }
  if constexpr (kForQueries) {
    product<Unit, false, Into::assign>(t.dq, ld, kPairs ? t.ds_along : t.ds, kBlock / Unit::kElements, t.k, ld, queries, D, nullptr,
                                       [=](int64_t i, int64_t, int64_t) { return Depth{0, units_of<Unit>(diagonal ? smaller(keys, i + kRowsAtOnce) : keys)}; });
    for (int64_t x = 0; x < queries * ld; x += kLanes) floats_at(dq_sum + x) = key0 == 0 ? floats_at(t.dq + x) : floats_at(dq_sum + x) + floats_at(t.dq + x);
  }
}

/// Multiplies by `scale`, rotates back and stores `rows` rows of a tile.
void store_gradient(const HeadView& dx, float* tile, const BackwardCall& call, int64_t first, int64_t head, int64_t rows, float scale, bool rotated) {
  const int64_t D = call.shape.D, ld = rounded_up(D, 16);
  for (int64_t r = 0; r < rows; ++r) {
    float* row = tile + r * ld;
    for (int64_t d = 0; d < ld; d += kLanes) floats_at(row + d) *= scale;
    if (rotated && call.shape.rope.rotary_dim != 0) rotate(row, call.shape.rope, call.sequences.positions[first + r], -1.0f);
  }
  store_rows(dx, first, head, tile, ld, rows, D);
}

/// dk, dv of one block of keys, and with kForQueries that block's share of dq (the first block also computes delta).
template <typename Unit, bool kForQueries>
void backward_keys(BackwardTiles& t, const BackwardCall& call, Span span, int64_t kv_head, int64_t key0) {
  const int64_t group = call.shape.H / call.shape.G, ld = rounded_up(call.shape.D, 16);
  load_keys<Unit>(t, call, span, kv_head, key0);
  for (int64_t x = 0; x < kBlock * ld; x += kLanes) floats_at(t.dk + x) = floats_at(t.dv + x) = Floats{};
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t query0 = key0; query0 < span.T; query0 += kBlock) {
      if (kForQueries && key0 == 0) compute_delta(call, span.first + query0, head, smaller(kBlock, span.T - query0));
      load_queries<Unit>(t, call, span, head, query0);
      backward_block<Unit, true, kForQueries>(t, call, span, head, query0, key0, call.dq_sum + (head * call.sequences.N + span.first + query0) * ld);
    }
  }
  const int64_t keys = smaller(kBlock, span.T - key0);
  store_gradient(call.dk, t.dk, call, span.first + key0, kv_head, keys, call.shape.scale, true);
  store_gradient(call.dv, t.dv, call, span.first + key0, kv_head, keys, 1.0f, false);
}

/// dq of one block of queries.
template <typename Unit>
void backward_queries(BackwardTiles& t, const BackwardCall& call, Span span, int64_t head, int64_t query0) {
  const int64_t queries = smaller(kBlock, span.T - query0);
  load_queries<Unit>(t, call, span, head, query0);
  for (int64_t key0 = 0; key0 <= query0; key0 += kBlock) {
    load_keys<Unit>(t, call, span, head / (call.shape.H / call.shape.G), key0);
    backward_block<Unit, false, true>(t, call, span, head, query0, key0, t.dk);  // dk's tile is free here
  }
  store_gradient(call.dq, t.dk, call, span.first + query0, head, queries, call.shape.scale, true);
}

/// Whole (sequence, key/value head) pairs: five products per pair of blocks.
template <typename Unit>
void backward_by_head(const BackwardCall& call) {
  const AttentionShape& shape = call.shape;
  const int64_t group = shape.H / shape.G, ld = rounded_up(shape.D, 16);
#pragma omp parallel
  {
    BackwardTiles tiles;
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < call.sequences.S * shape.G; ++item) {
      const int64_t s = item / shape.G, kv_head = item % shape.G, first = call.sequences.cu_seqlens[s];
      const Span span{first, call.sequences.cu_seqlens[s + 1] - first};
      for (int64_t key0 = 0; key0 < span.T; key0 += kBlock) backward_keys<Unit, true>(tiles, call, span, kv_head, key0);
      for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        store_gradient(call.dq, call.dq_sum + (head * call.sequences.N + first) * ld, call, first, head, span.T, shape.scale, true);
      }
    }
  }
}

/// Single blocks, first of keys, then of queries: seven products per pair of blocks instead of five, but work for any number of threads.
template <typename Unit>
void backward_by_block(const BackwardCall& call) {
  const AttentionShape& shape = call.shape;
  const int64_t blocks = count_blocks(call.sequences);
#pragma omp parallel
  {
    BackwardTiles tiles;
#pragma omp for schedule(dynamic, 1)
    for (int64_t item = 0; item < call.sequences.S * shape.H; ++item) {
      const int64_t s = item / shape.H, first = call.sequences.cu_seqlens[s];
      compute_delta(call, first, item % shape.H, call.sequences.cu_seqlens[s + 1] - first);
    }
    BlockCursor cursor{call.sequences, shape.G};
#pragma omp for schedule(monotonic : dynamic, 1)
    for (int64_t item = 0; item < blocks * shape.G; ++item) {
      cursor.seek(item);
      backward_keys<Unit, false>(tiles, call, cursor.span(), cursor.head, cursor.block * kBlock);  // the first keys have most queries
    }
    BlockCursor query_cursor{call.sequences, shape.H};
#pragma omp for schedule(monotonic : dynamic, 1)
    for (int64_t item = 0; item < blocks * shape.H; ++item) {
      query_cursor.seek(item);
      backward_queries<Unit>(tiles, call, query_cursor.span(), query_cursor.head, query_cursor.from_last());
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
  const int64_t threads = omp_get_max_threads(), rounds = rounded_up(sequences.S * G, threads) / threads;
  const double by_head = double(rounds) * total / double(sequences.S), ideal = total * double(G) / double(threads);
  return (by_head > longest ? by_head : longest) <= 1.4 * ideal;
}

template <typename Unit>
void backward(const BackwardCall& call) {
  enough_heads(call.sequences, call.shape.G) ? backward_by_head<Unit>(call) : backward_by_block<Unit>(call);
}

}  // namespace

void CpuBackend::attention_forward(HeadView out, float* lse, HeadView q, HeadView k, HeadView v, const Sequences& sequences, const AttentionShape& shape) {
  check_attention_shape(shape);
  rotate_all(q, k, sequences, shape);
  const ForwardCall call{out, q, k, v, lse, sequences, shape};
#if defined(__AVX512F__)
  if (bf16_dot() && q.dtype == DType::bf16 && k.dtype == DType::bf16 && v.dtype == DType::bf16) return forward<Bf16Unit>(call);
#endif
  forward<Fp32Unit>(call);
}

int64_t CpuBackend::attention_scratch_bytes(int64_t N, const AttentionShape& shape) const {
  return (rounded_up(shape.H * N, 16) + shape.H * N * rounded_up(shape.D, 16)) * int64_t(sizeof(float));
}

void CpuBackend::attention_backward(HeadView dq, HeadView dk, HeadView dv, HeadView dout, HeadView out, const float* lse, HeadView q, HeadView k, HeadView v, void* scratch, const Sequences& sequences, const AttentionShape& shape) {
  check_attention_shape(shape);
  float* delta = static_cast<float*>(scratch);
  const BackwardCall call{dq, dk, dv, dout, out, q, k, v, lse, delta, delta + rounded_up(shape.H * sequences.N, 16), sequences, shape};
#if defined(__AVX512F__)
  if (bf16_dot() && q.dtype == DType::bf16 && k.dtype == DType::bf16 && v.dtype == DType::bf16 && dout.dtype == DType::bf16) return backward<Bf16Unit>(call);
#endif
  backward<Fp32Unit>(call);
}

}  // namespace polypaca::POLYPACA_ISA
