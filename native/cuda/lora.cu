// Adapters (Hu et al. 2021, arXiv:2106.09685): h = dropout(x) A^T, and y += h up^T inside linear_forward.
//   forward   h = dropout(x) A^T
//   backward  dh = dy up;  dA += dh^T dropout(x);  dx += dropout'(x) * (dh A)
// x [N, C], A [R, C], h, dh [N, R], dy [N, rows], up [rows, R] bf16; dx [N, C] bf16 or fp32; dA fp32 [R, C]. h and dh assign, dA and
// dx add. Sums are fp32.
// dropout(x) is never stored: each pass reads x once, in 16-byte loads, and draws the mask anew (core/random.h) in registers: a load
// is eight features, and eight features are one call of the generator. The factor 1 / (1 - rate) multiplies the sums, so that no
// value is rounded because of it.
//
// Tensor-core fragments straight from those loads: lane (g, t) = (lane / 4, lane % 4) of a warp loads columns 8 t .. 8 t + 7 of a
// 32-column group in rows g and g + 8. In mma.m16n8k16 it is to hold columns 2 t, 2 t + 1, 2 t + 8, 2 t + 9; but the order of the terms
// of a sum is free, as long as both factors agree on it. So the four words of the load serve two mma as they are, when the words of
// A's row g, loaded in the same way, serve as the other factor.
//
// Ranks above 64 take several passes (h: blocks of 64 ranks side by side; backward: one after the other, dx in each).
#include <algorithm>
#include <type_traits>

#include "core/error.h"
#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "cuda/launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kMostRanks = 64;  // of one pass

/// A bf16 matrix in a kernel's hands.
struct Bf16Matrix {
  bf16* data;
  int64_t ld;
};

Bf16Matrix bf16_matrix(const Matrix& m) { return {static_cast<bf16*>(m.data), m.ld}; }

/// Eight values at p, of which `left` exist; the others are zero.
template <bool kAligned>
DEVICE Vec16 load_eight(const bf16* p, int64_t left) {
  if (kAligned && left >= 8) return load_16(p);
  Vec16 v = {{0, 0, 0, 0}};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < left) v.w[i / 2] |= uint32_t(p[i].bits) << (16 * (i % 2));
  }
  return v;
}

/// The mask of one token's eight features from `chunk` * 8 on: all ones where the value is kept, all zeros where it is dropped.
DEVICE Vec16 draw_mask(const Dropout& dropout, uint32_t key0, uint32_t key1, uint32_t chunk, uint32_t position, uint32_t example) {
  const Philox4 r = philox4x32<7>(chunk, position, example, dropout.site, key0, key1);
  Vec16 mask;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = (r.v[i] & 0xFFFFu) >= dropout.threshold ? 0x0000FFFFu : 0u;
    const uint32_t high = (r.v[i] >> 16) >= dropout.threshold ? 0xFFFF0000u : 0u;
    mask.w[i] = low | high;
  }
  return mask;
}

DEVICE void apply(Vec16& values, const Vec16& mask) {
#pragma unroll
  for (int i = 0; i < 4; ++i) values.w[i] &= mask.w[i];
}

// ---- forward: a block takes 64 tokens; its warps are 2 groups of 32 tokens times 4 that share the features ----

constexpr int kForwardTokens = 64, kTokenGroups = 2, kFeatureParts = kWarps / kTokenGroups;

template <int kTiles>
struct DownShared {
  float sums[kFeatureParts][kForwardTokens][8 * kTiles + 4];  // + 4: rows start in different banks
};

/// kTiles: eighths of the ranks of a pass. blockIdx.y: the pass.
template <int kTiles, bool kAligned>
KERNEL BOUNDS(kThreads, kTiles <= 4 ? 2 : 1) void down_forward(Bf16Matrix h, Bf16Matrix x, Bf16Matrix A, Dropout dropout, int64_t N, int64_t C, int64_t R) {
  DownShared<kTiles>& s = shared_memory<DownShared<kTiles>>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int group = warp % kTokenGroups, part = warp / kTokenGroups;
  const int64_t first_token = int64_t(blockIdx.x) * kForwardTokens, first_rank = int64_t(blockIdx.y) * 8 * kTiles;
  const bool drops = dropout.active();
  const uint32_t key0 = drops ? dropout.key[0] : 0, key1 = drops ? dropout.key[1] : 0;

  int64_t token[4];  // rows g and g + 8 of two tiles of 16
  uint32_t position[4] = {}, example[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    token[i] = first_token + group * 32 + i * 8 + g;
    if (drops && token[i] < N) {
      position[i] = uint32_t(dropout.positions[token[i]]);
      example[i] = uint32_t(dropout.examples[token[i]]);
    }
  }
  float sums[2][kTiles][4] = {};
  for (int64_t c0 = 32 * part; c0 < C; c0 += 32 * kFeatureParts) {
    const int64_t c = c0 + 8 * t;
    Vec16 values[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = load_eight<kAligned>(x.data + token[i] * x.ld + c, token[i] < N ? C - c : 0);
    if (drops) {
#pragma unroll
      for (int i = 0; i < 4; ++i) apply(values[i], draw_mask(dropout, key0, key1, uint32_t(c / 8), position[i], example[i]));
    }
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const int64_t r = first_rank + 8 * j + g;
      const Vec16 a = load_eight<kAligned>(A.data + r * A.ld + c, r < R ? C - c : 0);
      const uint32_t first[2] = {a.w[0], a.w[1]}, second[2] = {a.w[2], a.w[3]};
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const Vec16 &upper = values[2 * m], &lower = values[2 * m + 1];
        mma_m16n8k16(sums[m][j], {upper.w[0], lower.w[0], upper.w[1], lower.w[1]}, first);
        mma_m16n8k16(sums[m][j], {upper.w[2], lower.w[2], upper.w[3], lower.w[3]}, second);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s.sums[part][group * 32 + m * 16 + g + 8 * (i / 2)][8 * j + 2 * t + i % 2] = sums[m][j][i];
    }
  }
  sync_threads();
  for (int i = threadIdx.x; i < kForwardTokens * 8 * kTiles; i += kThreads) {
    const int row = i / (8 * kTiles), column = i % (8 * kTiles);
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < kFeatureParts; ++p) sum += s.sums[p][row][column];
    const int64_t n = first_token + row, r = first_rank + column;
    if (n < N && r < R) h.data[n * h.ld + r] = to_bf16(sum * dropout.keep_scale);
  }
}

// ---- backward: a block takes 256 features (32 a warp) and a range of tokens, 64 of them between barriers ----

constexpr int kBackwardFeatures = 32 * kWarps, kStageTokens = 64, kStep = 16;

/// One row of a warp's 16 x 32 tile of masked x: 80 bytes, so that the eight rows of an 8 x 8 matrix lie in different banks.
constexpr int kTilePitch = 40;

template <int kRanks>
struct BackwardShared {
  static constexpr int kK = kRanks < 16 ? 16 : kRanks;  // dh as a factor of mma: ranks in sixteens
  alignas(16) bf16 dh[kStageTokens][kK + 8];
  alignas(16) bf16 x[kWarps][kStep][kTilePitch];
};

/// What dx is: not wanted, bf16 or fp32.
struct NoGradient {};

/// Eight values of dx.
template <typename T>
struct Eight;
template <>
struct Eight<NoGradient> {};
template <>
struct Eight<bf16> {
  Vec16 v;
};
template <>
struct Eight<float> {
  Vec16 v[2];
};

template <bool kAligned>
DEVICE Eight<bf16> load_gradient(const bf16* p, int64_t left) {
  return {load_eight<kAligned>(p, left)};
}
template <bool kAligned>
DEVICE Eight<float> load_gradient(const float* p, int64_t left) {
  if (kAligned && left >= 8) return {{load_16(p), load_16(p + 4)}};
  Eight<float> e = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < left) e.v[i / 4].w[i % 4] = bits_of(p[i]);
  }
  return e;
}

template <bool kAligned>
DEVICE void store_gradient(bf16* p, const Eight<bf16>& old, const float (&add)[8], int64_t left) {
  Vec16 v;
#pragma unroll
  for (int i = 0; i < 4; ++i) v.w[i] = pack_bf16(low_bf16(old.v.w[i]) + add[2 * i], high_bf16(old.v.w[i]) + add[2 * i + 1]);
  if (kAligned && left >= 8) {
    store_global_16(p, v);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < left) p[i].bits = uint16_t(v.w[i / 2] >> (16 * (i % 2)));
  }
}
template <bool kAligned>
DEVICE void store_gradient(float* p, const Eight<float>& old, const float (&add)[8], int64_t left) {
  Vec16 v[2];
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i / 4].w[i % 4] = bits_of(float_from_bits(old.v[i / 4].w[i % 4]) + add[i]);
  if (kAligned && left >= 8) {
    store_global_16(p, v[0]);
    store_global_16(p + 4, v[1]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < left) p[i] = float_from_bits(v[i / 4].w[i % 4]);
  }
}

/// Arguments of down_backward. partial [token ranges, R, C] fp32 takes each block's share of dh^T dropout(x), still without the mask's
/// factor; R is at most 64 here.
struct DownBackward {
  void* dx;
  int64_t dx_ld;
  float* partial;
  Bf16Matrix dh, x, A;
  Dropout dropout;
  int64_t N, C, R, range;  // range: tokens of a block, a multiple of kStageTokens
  bool dh_aligned;         // rows of dh in 16-byte loads
};

/// A's values as the second factor of dh A, for the warp's 32 features in the order that leaves a lane eight neighbours of dx: column n
/// of tile i is feature 8 (n / 2) + 2 i + n % 2.
template <int kSteps>
DEVICE void load_weights(uint32_t (&weights)[kSteps][4][2], const Bf16Matrix& A, int64_t c0, int64_t C, int64_t R, int g, int t) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t c = c0 + 8 * (g / 2) + 2 * i + g % 2, r = 16 * step + 8 * half + 2 * t;
        const uint32_t low = c < C && r < R ? A.data[r * A.ld + c].bits : 0u, high = c < C && r + 1 < R ? A.data[(r + 1) * A.ld + c].bits : 0u;
        weights[step][i][half] = low | high << 16;
      }
    }
  }
}

/// The thread's share of 64 tokens of dh, from `first` on: up to `end`, zero beyond.
template <int kChunks, int kK>
DEVICE void load_stage(Vec16 (&stage)[kChunks], const DownBackward& a, int64_t first, int64_t end) {
#pragma unroll
  for (int i = 0; i < kChunks; ++i) {
    const int chunk = threadIdx.x + i * kThreads, row = chunk / (kK / 8), r = chunk % (kK / 8) * 8;
    const int64_t n = first + row, left = row < kStageTokens && n < end ? a.R - r : 0;
    const bf16* p = a.dh.data + n * a.dh.ld + r;
    stage[i] = a.dh_aligned ? load_eight<true>(p, left) : load_eight<false>(p, left);
  }
}

/// dx += mask * factor * (dh A) for the lane's two rows of eight features.
template <typename T, int kSteps, int kPitch, bool kAligned>
DEVICE void add_input_gradient(const DownBackward& a, const bf16 (*dh)[kPitch], const uint32_t (&weights)[kSteps][4][2], const Vec16 (&mask)[2], const Eight<T> (&old)[2], const int64_t (&token)[2], int64_t end, int64_t c, int lane) {
  float product[4][4] = {};
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    uint32_t rows[4];
    ldmatrix_x4(rows, &dh[lane % 16][16 * step + 8 * (lane / 16)]);
#pragma unroll
    for (int i = 0; i < 4; ++i) mma_m16n8k16(product[i], rows, weights[step][i]);
  }
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float add[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const bool kept = (mask[row].w[i / 2] >> (16 * (i % 2)) & 1u) != 0;
      add[i] = kept ? a.dropout.keep_scale * product[i / 2][2 * row + i % 2] : 0.0f;
    }
    const int64_t left = token[row] < end ? a.C - c : 0;
    if (left > 0) store_gradient<kAligned>(static_cast<T*>(a.dx) + token[row] * a.dx_ld + c, old[row], add, left);
  }
}

/// kRanks: 8, 16, 32 or 64, at least R.
template <int kRanks, typename T, bool kAligned>
KERNEL BOUNDS(kThreads, kRanks <= 16 ? 2 : 1) void down_backward(DownBackward a) {
  using Shared = BackwardShared<kRanks>;
  constexpr int kSteps = Shared::kK / 16, kTiles = kRanks / 8, kChunks = (kStageTokens * Shared::kK / 8 + kThreads - 1) / kThreads;
  constexpr bool kWantsInput = !std::is_same_v<T, NoGradient>;
  Shared& s = shared_memory<Shared>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int64_t c0 = int64_t(blockIdx.x) * kBackwardFeatures + 32 * warp, c = c0 + 8 * t;
  const int64_t begin = int64_t(blockIdx.y) * a.range, end = smaller(begin + a.range, a.N);
  const bool drops = a.dropout.active();
  const uint32_t key0 = drops ? a.dropout.key[0] : 0, key1 = drops ? a.dropout.key[1] : 0;

  uint32_t weights[kSteps][4][2];
  if (kWantsInput) load_weights<kSteps>(weights, a.A, c0, a.C, a.R, g, t);
  float sums[2][kTiles][4] = {};
  Vec16 stage[kChunks];
  load_stage<kChunks, Shared::kK>(stage, a, begin, end);
  for (int64_t first = begin; first < end; first += kStageTokens) {
    sync_threads();  // all have read the stage before
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int chunk = threadIdx.x + i * kThreads;
      if (chunk < kStageTokens * Shared::kK / 8) store_16(&s.dh[chunk / (Shared::kK / 8)][chunk % (Shared::kK / 8) * 8], stage[i]);
    }
    sync_threads();
    if (first + kStageTokens < end) load_stage<kChunks, Shared::kK>(stage, a, first + kStageTokens, end);
    if (c0 >= a.C) continue;  // the warp has no features, but its threads load dh
    for (int row0 = 0; row0 < kStageTokens && first + row0 < end; row0 += kStep) {
      const int64_t token[2] = {first + row0 + g, first + row0 + g + 8};
      Vec16 values[2], mask[2];
      Eight<T> old[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int64_t left = token[i] < end ? a.C - c : 0;
        values[i] = load_eight<kAligned>(a.x.data + token[i] * a.x.ld + c, left);
        if constexpr (kWantsInput) old[i] = load_gradient<kAligned>(static_cast<const T*>(a.dx) + token[i] * a.dx_ld + c, left);
        mask[i] = Vec16{{~0u, ~0u, ~0u, ~0u}};
        if (drops && left > 0) mask[i] = draw_mask(a.dropout, key0, key1, uint32_t(c / 8), uint32_t(a.dropout.positions[token[i]]), uint32_t(a.dropout.examples[token[i]]));
        apply(values[i], mask[i]);
      }
      sync_warp();  // the warp has read its tile of the step before
#pragma unroll
      for (int i = 0; i < 2; ++i) store_16(&s.x[warp][g + 8 * i][8 * t], values[i]);
      sync_warp();
      const bf16(*dh)[Shared::kK + 8] = &s.dh[row0];
      // dA^T [features, ranks] += x^T dh: both factors have their tokens in rows, hence both are read transposed.
      uint32_t features[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) ldmatrix_x4_transposed(features[i], &s.x[warp][lane % 8 + 8 * (lane / 16)][16 * i + 8 * (lane / 8 % 2)]);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        uint32_t ranks[2];
        ldmatrix_x2_transposed(ranks, &dh[lane % 16][8 * j]);
#pragma unroll
        for (int i = 0; i < 2; ++i) mma_m16n8k16(sums[i][j], features[i], ranks);
      }
      if constexpr (kWantsInput) add_input_gradient<T, kSteps, Shared::kK + 8, kAligned>(a, dh, weights, mask, old, token, end, c, lane);
    }
  }
  float* partial = a.partial + int64_t(blockIdx.y) * a.R * a.C;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int64_t feature = c0 + 16 * i + g + 8 * (k / 2), r = 8 * j + 2 * t + k % 2;
        if (feature < a.C && r < a.R) partial[r * a.C + feature] = sums[i][j][k];
      }
    }
  }
}

/// dA[i] += factor * (the ranges' shares, in order).
KERNEL BOUNDS(kThreads, 4) void add_partials(float* dA, const float* partial, int64_t count, int64_t ranges, float factor) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = 0.0f;
  for (int64_t range = 0; range < ranges; ++range) sum += partial[range * count + i];
  dA[i] += factor * sum;
}

// ---- launchers ----

/// Whether rows can be read and written in pieces of 16 bytes.
bool is_aligned(const Matrix& m) { return reinterpret_cast<uintptr_t>(m.data) % 16 == 0 && m.ld * size_of(m.dtype) % 16 == 0; }

void expect_bf16(const Matrix& m) {
  if (m.dtype != DType::bf16) fail(ErrorCode::internal, "adapters compute in bf16 on a GPU");
}

/// Tokens that a block of down_backward takes: enough blocks for any GPU, and the same on each, so that sums are the same, too.
int64_t tokens_per_range(int64_t N, int64_t C) {
  constexpr int64_t kWantedBlocks = 264;
  const int64_t ranges = std::max<int64_t>(1, kWantedBlocks / ceil_divide(C, kBackwardFeatures));
  return ceil_divide(ceil_divide(N, ranges), kStageTokens) * kStageTokens;
}

template <int kTiles>
void launch_down_forward(const Matrix& h, const Matrix& x, const Matrix& A, const Dropout& dropout, int64_t N, int64_t C, int64_t R, const Stream& stream) {
  const Grid grid(ceil_divide(N, kForwardTokens), ceil_divide(R, 8 * kTiles));
  const auto kernel = is_aligned(x) && is_aligned(A) ? down_forward<kTiles, true> : down_forward<kTiles, false>;
  launch(kernel, grid, kThreads, sizeof(DownShared<kTiles>), stream, bf16_matrix(h), bf16_matrix(x), bf16_matrix(A), dropout, N, C, R);
}

template <int kRanks, typename T>
void launch_down_backward(const DownBackward& a, bool aligned, const Stream& stream) {
  const Grid grid(ceil_divide(a.C, kBackwardFeatures), ceil_divide(a.N, a.range));
  launch(aligned ? down_backward<kRanks, T, true> : down_backward<kRanks, T, false>, grid, kThreads, sizeof(BackwardShared<kRanks>), stream, a);
}

template <int kRanks>
void launch_down_backward(const DownBackward& a, DType dx, bool aligned, const Stream& stream) {
  if (!a.dx) launch_down_backward<kRanks, NoGradient>(a, aligned, stream);
  else if (dx == DType::f32) launch_down_backward<kRanks, float>(a, aligned, stream);
  else launch_down_backward<kRanks, bf16>(a, aligned, stream);
}

}  // namespace

int64_t CudaBackend::lora_scratch_bytes(int64_t N, int64_t C, int64_t R) {
  return ceil_divide(N, tokens_per_range(N, C)) * std::min<int64_t>(R, kMostRanks) * C * 4;
}

void CudaBackend::lora_down_forward(Matrix h, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) {
  for (const Matrix& m : {h, x, A}) expect_bf16(m);
  const auto run = R <= 8 ? launch_down_forward<1> : R <= 16 ? launch_down_forward<2> : R <= 32 ? launch_down_forward<4> : launch_down_forward<8>;
  run(h, x, A, dropout, N, C, R, stream());
}

void CudaBackend::lora_up_backward(Matrix dh, Matrix dy, Matrix up, int64_t N, int64_t rows, int64_t R) {
  Product product;
  product.d = dh, product.a = in_bf16(dy, N, rows), product.b = up;
  product.M = N, product.N = R, product.K = rows;
  products().run(product, stream());
}

void CudaBackend::lora_down_backward(Matrix dx, float* dA, Matrix dh, Matrix x, Matrix A, const Dropout& dropout, int64_t N, int64_t C, int64_t R) {
  for (const Matrix& m : {dh, x, A}) expect_bf16(m);
  DownBackward a;
  a.dx = dx.data, a.dx_ld = dx.ld;
  a.x = bf16_matrix(x);
  a.dropout = dropout;
  a.N = N, a.C = C, a.range = tokens_per_range(N, C);
  a.partial = static_cast<float*>(scratch(lora_scratch_bytes(N, C, R)));
  const bool aligned = is_aligned(x) && (!dx || is_aligned(dx));
  for (int64_t first = 0; first < R; first += kMostRanks) {
    a.R = std::min<int64_t>(R - first, kMostRanks);
    a.dh = bf16_matrix(dh.at(0, first)), a.A = bf16_matrix(A.at(first, 0));
    a.dh_aligned = is_aligned(dh.at(0, first));
    const auto run = a.R <= 8 ? launch_down_backward<8> : a.R <= 16 ? launch_down_backward<16> : a.R <= 32 ? launch_down_backward<32> : launch_down_backward<64>;
    run(a, dx.dtype, aligned, stream());
    const int64_t count = a.R * C;
    launch(add_partials, Grid(ceil_divide(count, kThreads)), kThreads, 0, stream(), dA + first * C, a.partial, count, ceil_divide(N, a.range), dropout.keep_scale);
  }
}

}  // namespace polypaca::POLYPACA_CUDA
