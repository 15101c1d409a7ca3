// What the attention kernels share: which tile of which sequence a block works on, moving tiles between the packed batch and shared
// memory, and their products on tensor cores.
//
// A block of kThreads has 4 warps; each owns 16 of a tile's 64 rows in every product. Head dimensions are compiled for a few sizes
// kDim; a smaller D is padded with zeros in shared memory, which changes no product.
//
// Shared memory. A tile's rows are kDim + 8 elements apart, an odd number of 16-byte pieces: the 8 rows that ldmatrix reads at once,
// and the 8 consecutive rows that a warp's copies may touch, then start in 8 different groups of 4 banks, so neither ever conflicts.
//
// Fragments. A warp's 16 rows of a result are sums[b][e], b counting blocks of 8 columns. Lane l holds rows l / 4 (e = 0, 1) and
// l / 4 + 8 (e = 2, 3), columns 8 b + l % 4 * 2 + e % 2: PTX manual, "Matrix fragments for mma.m16n8k16".
#pragma once
#include "backend/backend.h"
#include "cuda/device.h"

namespace polypaca::POLYPACA_CUDA {

constexpr int kTile = 64;       // sequences are cut at multiples of this
constexpr int kThreads = 128;   // of most attention kernels
constexpr float kLog2E = 1.44269504f;

/// Elements between rows of a tile in shared memory: bf16 operands, and fp32 results on their way out (there, 8 more words than a
/// multiple of 16 let the four rows that half a warp writes at once by 8 bytes lie in different banks).
constexpr int tile_pitch(int dim) { return dim + 8; }

/// A HeadView as kernels take it: row (n, head) is `data + n * token_stride + head * head_stride`.
struct Heads {
  bf16* data;
  int64_t token_stride, head_stride;
  DEVICE bf16* row(int64_t n, int64_t head) const { return data + n * token_stride + head * head_stride; }
};

// ---- which tile ----

/// Tile `index` of `count` in the sequence whose T tokens start at `first`; a surplus block has index >= count.
struct SequenceTile {
  int64_t first;
  int T, index, count;
};

/// Sequence s owns the blocks from cu_seqlens[s] / 64 + s up to the same of s + 1: never fewer than its tiles, at most one more. So
/// N / 64 + S blocks serve any lengths, no table of tiles is needed, and a captured launch stays valid when lengths change.
/// Each warp searches for itself, 32 sequences at a time. All lanes must call.
DEVICE SequenceTile find_tile(const int32_t* cu_seqlens, int S, int block) {
  const int lane = int(threadIdx.x) % kWarp;
  int low = 0, high = S;  // the sequence is one of low .. high - 1
  while (high - low > 1) {
    const int step = (high - low + kWarp - 1) / kWarp, probe = low + lane * step;
    const bool reached = probe < high && cu_seqlens[smaller(probe, S)] / kTile + probe <= block;
    low += (__builtin_popcount(ballot(reached)) - 1) * step;  // the lanes that reached are the first ones; lane 0 always did
    high = smaller(high, low + step);
  }
  const int first = cu_seqlens[low], T = cu_seqlens[low + 1] - first;
  return {first, T, block - (first / kTile + low), (T + kTile - 1) / kTile};
}

/// Blocks for find_tile; `index` and `count` are the same for all threads of a block.
inline int64_t tile_blocks(const Sequences& sequences) { return sequences.N / kTile + sequences.S; }

// ---- moving tiles ----

template <int kDim, int kRows, int kBlock, int kElements, typename Row>
DEVICE void load_pieces(bf16* tile, const Row& row, int rows, int D) {
  constexpr int kPieces = kDim / kElements;
#pragma unroll(kElements == 8 ? 16 : 1)
  for (int i = int(threadIdx.x); i < kRows * kPieces; i += kBlock) {
    const int r = i / kPieces, column = i % kPieces * kElements;
    const bool valid = r < rows && column < D;
    const bf16* from = row(valid ? r : 0) + (valid ? column : 0);
    bf16* to = tile + r * tile_pitch(kDim) + column;
    if constexpr (kElements == 8) copy_async_16(to, from, valid);
    if constexpr (kElements == 4) copy_async_8(to, from, valid);
    if constexpr (kElements == 2) copy_async_4(to, from, valid);
    if constexpr (kElements == 1) *to = valid ? *from : bf16{0};
  }
}

/// D elements each of rows row(0) .. row(rows - 1), then zeros up to kDim and kRows; what is beyond is not read. All kBlock threads
/// call; the tile is there after copy_async_commit, copy_async_wait and a barrier. `width`: access_width().
template <int kDim, int kRows, int kBlock, typename Row>
DEVICE void load_tile(bf16* tile, const Row& row, int rows, int D, int width) {
  if (width == 16) {
    load_pieces<kDim, kRows, kBlock, 8>(tile, row, rows, D);
  } else if (width == 8) {
    load_pieces<kDim, kRows, kBlock, 4>(tile, row, rows, D);
  } else if (width == 4) {
    load_pieces<kDim, kRows, kBlock, 2>(tile, row, rows, D);
  } else {
    load_pieces<kDim, kRows, kBlock, 1>(tile, row, rows, D);
  }
}

/// The usual case: rows at one distance.
template <int kDim, int kRows, int kBlock>
DEVICE void load_rows(bf16* tile, const Heads& heads, int64_t first, int64_t head, int rows, int D, int width) {
  const bf16* from = heads.row(first, head);
  const int stride = int(heads.token_stride);
  load_tile<kDim, kRows, kBlock>(tile, [=](int r) { return from + r * stride; }, rows, D, width);
}

/// A warp's 16 rows of a result, times a factor for each half, to `rows`: its first row in shared memory, first column of sums.
template <int kDim, int kBlocks>
DEVICE void stage_results(float* rows, const float (&sums)[kBlocks][4], float factor, float factor_8) {
  const int lane = int(threadIdx.x) % kWarp;
  float* to = rows + lane / 4 * tile_pitch(kDim) + lane % 4 * 2;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    store_8(to + b * 8, Vec8{{bits_of(sums[b][0] * factor), bits_of(sums[b][1] * factor)}});
    store_8(to + b * 8 + 8 * tile_pitch(kDim), Vec8{{bits_of(sums[b][2] * factor_8), bits_of(sums[b][3] * factor_8)}});
  }
}

/// Eight fp32 values in bf16 to the first min(8, count) elements at `to`.
DEVICE void store_piece(bf16* to, const float* from, int count, int width) {
  const Vec16 low = load_16(from), high = load_16(from + 4);
  Vec16 v;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    v.w[i] = pack_bf16(float_from_bits(low.w[2 * i]), float_from_bits(low.w[2 * i + 1]));
    v.w[2 + i] = pack_bf16(float_from_bits(high.w[2 * i]), float_from_bits(high.w[2 * i + 1]));
  }
  if (width == 16) return store_16(to, v);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (width >= 4) {
      if (2 * i < count) *reinterpret_cast<uint32_t*>(to + 2 * i) = v.w[i];
    } else {
      if (2 * i < count) to[2 * i] = bf16{uint16_t(v.w[i])};
      if (2 * i + 1 < count) to[2 * i + 1] = bf16{uint16_t(v.w[i] >> 16)};
    }
  }
}

/// The first `count` rows of fp32 results in shared memory to rows of one head. All kBlock threads, after a barrier.
template <int kDim, int kBlock>
DEVICE void store_rows(const Heads& heads, int64_t first, int64_t head, const float* rows, int count, int D, int width) {
  constexpr int kPieces = kDim / 8;
  bf16* to = heads.row(first, head);
  for (int i = int(threadIdx.x); i < count * kPieces; i += kBlock) {
    const int r = i / kPieces, column = i % kPieces * 8;
    if (column < D) store_piece(to + r * heads.token_stride + column, rows + r * tile_pitch(kDim) + column, D - column, width);
  }
}

// ---- products ----

/// The warp's operand from shared memory: 16 rows from `rows` on, columns 16 step .. 16 step + 15.
template <int kDim>
DEVICE void load_fragment(uint32_t (&a)[4], const bf16* rows, int step) {
  const int lane = int(threadIdx.x) % kWarp;
  ldmatrix_x4(a, rows + lane % 16 * tile_pitch(kDim) + step * 16 + lane / 16 * 8);
}

/// The warp's operand from a result in registers: columns 16 step .. 16 step + 15 of it, rounded to bf16. A result's fragment is an
/// operand's fragment, so that probabilities never leave the registers.
template <int kBlocks>
DEVICE void round_fragment(uint32_t (&a)[4], const float (&sums)[kBlocks][4], int step) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    a[2 * i] = pack_bf16(sums[2 * step + i][0], sums[2 * step + i][1]);
    a[2 * i + 1] = pack_bf16(sums[2 * step + i][2], sums[2 * step + i][3]);
  }
}

/// sums [16, kColumns] += a [16, kDim] b^T: the rows of tile b are the columns of the result. fragment(a, step) gives a.
template <int kDim, int kColumns, typename Fragment>
DEVICE void multiply_transposed(float (&sums)[kColumns / 8][4], const Fragment& fragment, const bf16* b) {
  const int lane = int(threadIdx.x) % kWarp;
  const bf16* at = b + (lane / 16 * 8 + lane % 8) * tile_pitch(kDim) + lane / 8 % 2 * 8;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t left[4], right[4];
    fragment(left, step);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      ldmatrix_x4(right, at + n * 16 * tile_pitch(kDim) + step * 16);
      mma_m16n8k16(sums[2 * n], left, {right[0], right[1]});
      mma_m16n8k16(sums[2 * n + 1], left, {right[2], right[3]});
    }
  }
}

/// sums [16, kColumns] += a [16, kDepth] b: the rows of tile b (of pitch tile_pitch(kDim), from its first wanted column on) are
/// summed over.
template <int kDim, int kDepth, int kColumns, typename Fragment>
DEVICE void multiply(float (&sums)[kColumns / 8][4], const Fragment& fragment, const bf16* b) {
  const int lane = int(threadIdx.x) % kWarp;
  const bf16* at = b + lane % 16 * tile_pitch(kDim) + lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    uint32_t left[4], right[4];
    fragment(left, step);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      ldmatrix_x4_transposed(right, at + step * 16 * tile_pitch(kDim) + n * 16);
      mma_m16n8k16(sums[2 * n], left, {right[0], right[1]});
      mma_m16n8k16(sums[2 * n + 1], left, {right[2], right[3]});
    }
  }
}

// ---- scores ----

/// key - query of sums[0][0]; visit(value, distance, e) for every value of a fragment of scores [queries, keys].
template <int kBlocks, typename Visit>
DEVICE void for_each_score(float (&sums)[kBlocks][4], int distance, const Visit& visit) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int e = 0; e < 4; ++e) visit(sums[b][e], distance + 8 * b + e % 2 - e / 2 * 8);
  }
}

}  // namespace polypaca::POLYPACA_CUDA
