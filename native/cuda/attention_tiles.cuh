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
template <int kDim>
constexpr int kPitch = kDim + 8;

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

// ---- moving tiles ----

/// How rows are accessed. wide: by 16 bytes. narrow: by what a launch finds possible, 8, 4 or 2 bytes (access_width); compiled for
/// few head dimensions, and apart, because the addresses of all widths together take the registers that tiles need.
enum class Access { wide, narrow };

/// Eight lanes (or what a short row needs) share a row: a warp's copies are whole 128-byte lines, and a thread's columns stay.
/// Trip counts are constants: a loop from threadIdx.x on would be unrolled for any number of threads.
template <int kDim, int kRows, int kBlock, int kElements, typename Row>
DEVICE void load_pieces(bf16* tile, const Row& row, int rows, int D) {
  constexpr int kLanes = kDim / kElements < 8 ? kDim / kElements : 8, kWidth = kLanes * kElements, kAtOnce = kBlock / kLanes;
  [[maybe_unused]] constexpr int kUnroll = kElements == 8 ? 8 : 1;  // g++ knows no such pragma
  const int r0 = int(threadIdx.x) / kLanes, column0 = int(threadIdx.x) % kLanes * kElements;
#pragma unroll(kUnroll)
  for (int i = 0; i < (kRows + kAtOnce - 1) / kAtOnce; ++i) {
    const int r = r0 + i * kAtOnce;
    if (kRows % kAtOnce != 0 && r >= kRows) break;
    const bf16* from = row(r < rows ? r : 0);
    bf16* to = tile + r * kPitch<kDim>;
#pragma unroll(kUnroll)
    for (int j = 0; j < (kDim + kWidth - 1) / kWidth; ++j) {
      const int column = column0 + j * kWidth;
      if (kDim % kWidth != 0 && column >= kDim) break;
      const bool valid = r < rows && column < D;
      if constexpr (kElements == 8) copy_async_16(to + column, valid ? from + column : from, valid);
      if constexpr (kElements == 4) copy_async_8(to + column, valid ? from + column : from, valid);
      if constexpr (kElements == 2) copy_async_4(to + column, valid ? from + column : from, valid);
      if constexpr (kElements == 1) to[column] = valid ? from[column] : bf16{0};
    }
  }
}

/// D elements each of rows row(0) .. row(rows - 1), then zeros up to kDim and kRows; what is beyond is not read. All kBlock threads
/// call; the tile is there after copy_async_commit, copy_async_wait and a barrier.
template <int kDim, int kRows, int kBlock, Access kAccess, typename Row>
DEVICE void load_tile(bf16* tile, const Row& row, int rows, int D, int width) {
  if constexpr (kAccess == Access::wide) {
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
template <int kDim, int kRows, int kBlock, Access kAccess>
DEVICE void load_rows(bf16* tile, const Heads& heads, int64_t first, int64_t head, int rows, int D, int width) {
  const bf16* from = heads.row(first, head);
  const int stride = int(heads.token_stride);
  load_tile<kDim, kRows, kBlock, kAccess>(tile, [=](int r) { return from + r * stride; }, rows, D, width);
}

/// A warp's 16 rows of a result, times a factor for each half, to `rows`: its first row in shared memory, first column of sums.
template <int kDim, int kBlocks>
DEVICE void stage_results(float* rows, const float (&sums)[kBlocks][4], float factor, float factor_8) {
  const int lane = int(threadIdx.x) % kWarp;
  float* to = rows + lane / 4 * kPitch<kDim> + lane % 4 * 2;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    store_8(to + b * 8, Vec8{{bits_of(sums[b][0] * factor), bits_of(sums[b][1] * factor)}});
    store_8(to + b * 8 + 8 * kPitch<kDim>, Vec8{{bits_of(sums[b][2] * factor_8), bits_of(sums[b][3] * factor_8)}});
  }
}

/// Eight fp32 values in bf16 to the first min(8, count) elements at `to`.
template <Access kAccess>
DEVICE void store_piece(bf16* to, const float* from, int count, int width) {
  const Vec16 low = load_16(from), high = load_16(from + 4);
  Vec16 v;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    v.w[i] = pack_bf16(float_from_bits(low.w[2 * i]), float_from_bits(low.w[2 * i + 1]));
    v.w[2 + i] = pack_bf16(float_from_bits(high.w[2 * i]), float_from_bits(high.w[2 * i + 1]));
  }
  if constexpr (kAccess == Access::wide) {
    store_16(to, v);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (width >= 4) {  // 8 bytes are two of 4
        if (2 * i < count) *reinterpret_cast<uint32_t*>(to + 2 * i) = v.w[i];
      } else {
        if (2 * i < count) to[2 * i] = bf16{uint16_t(v.w[i])};
        if (2 * i + 1 < count) to[2 * i + 1] = bf16{uint16_t(v.w[i] >> 16)};
      }
    }
  }
}

/// The first `count` rows of fp32 results in shared memory to rows of one head. All kBlock threads, after a barrier.
template <int kDim, int kBlock, Access kAccess>
DEVICE void store_rows(const Heads& heads, int64_t first, int64_t head, const float* rows, int count, int D, int width) {
  constexpr int kPieces = kDim / 8;
  bf16* to = heads.row(first, head);
  for (int i = int(threadIdx.x); i < count * kPieces; i += kBlock) {
    const int r = i / kPieces, column = i % kPieces * 8;
    if (column < D) store_piece<kAccess>(to + r * heads.token_stride + column, rows + r * kPitch<kDim> + column, D - column, width);
  }
}

// ---- products ----

/// The warp's operand from shared memory: 16 rows from `rows` on, columns 16 step .. 16 step + 15.
template <int kDim>
DEVICE void load_fragment(uint32_t (&a)[4], const bf16* rows, int step) {
  const int lane = int(threadIdx.x) % kWarp;
  ldmatrix_x4(a, rows + lane % 16 * kPitch<kDim> + step * 16 + lane / 16 * 8);
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
  const bf16* at = b + (lane / 16 * 8 + lane % 8) * kPitch<kDim> + lane / 8 % 2 * 8;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t left[4], right[4];
    fragment(left, step);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      ldmatrix_x4(right, at + n * 16 * kPitch<kDim> + step * 16);
      mma_m16n8k16(sums[2 * n], left, {right[0], right[1]});
      mma_m16n8k16(sums[2 * n + 1], left, {right[2], right[3]});
    }
  }
}

/// sums [16, kColumns] += a [16, kDepth] b: the rows of tile b (of pitch kPitch<kDim>, from its first wanted column on) are
/// summed over.
template <int kDim, int kDepth, int kColumns, typename Fragment>
DEVICE void multiply(float (&sums)[kColumns / 8][4], const Fragment& fragment, const bf16* b) {
  const int lane = int(threadIdx.x) % kWarp;
  const bf16* at = b + lane % 16 * kPitch<kDim> + lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    uint32_t left[4], right[4];
    fragment(left, step);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      ldmatrix_x4_transposed(right, at + step * 16 * kPitch<kDim> + n * 16);
      mma_m16n8k16(sums[2 * n], left, {right[0], right[1]});
      mma_m16n8k16(sums[2 * n + 1], left, {right[2], right[3]});
    }
  }
}

// ---- scores and their softmax: Milakov & Gimelshein 2018, arXiv:1805.02867 ----

/// visit(value, its key - its query) for every value of a result [queries, keys]; `distance` is that of sums[0][0].
template <int kBlocks, typename Visit>
DEVICE void for_each_score(float (&sums)[kBlocks][4], int distance, const Visit& visit) {
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int e = 0; e < 4; ++e) visit(sums[b][e], distance + 8 * b + e % 2 - e / 2 * 8);
  }
}

/// The running softmax of a thread's two rows. Scores are kept as q . k + slope / scale (j - i): `scale2` = scale log2(e) turns
/// them into exponents to base 2.
struct RunningSoftmax {
  float max[2] = {-INFINITY, -INFINITY};  // of the row, the same in the 4 lanes that share it
  float sum[2] = {0.0f, 0.0f};            // of this lane's share of the row

  /// Scores to probabilities relative to the new maximum; `out` follows it.
  template <int kScores, int kOut>
  DEVICE void add(float (&scores)[kScores][4], float (&out)[kOut][4], float scale2) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float high = max[half];
#pragma unroll
      for (int b = 0; b < kScores; ++b) high = fmaxf(high, fmaxf(scores[b][2 * half], scores[b][2 * half + 1]));
      high = fmaxf(high, shuffle_xor(high, 1));
      high = fmaxf(high, shuffle_xor(high, 2));  // finite: the first key tile has key 0, which no query masks
      const float shrink = fast_exp2((max[half] - high) * scale2), high2 = high * scale2;
      max[half] = high;
      sum[half] *= shrink;
#pragma unroll
      for (int b = 0; b < kOut; ++b) out[b][2 * half] *= shrink, out[b][2 * half + 1] *= shrink;
#pragma unroll
      for (int b = 0; b < kScores; ++b) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          scores[b][e] = fast_exp2(scores[b][e] * scale2 - high2);
          sum[half] += scores[b][e];
        }
      }
    }
  }

  /// All of the row's sum, in each lane.
  DEVICE float row_sum(int half) const {
    const float pair = sum[half] + shuffle_xor(sum[half], 1);
    return pair + shuffle_xor(pair, 2);
  }
};

}  // namespace polypaca::POLYPACA_CUDA
