// The host's side of the attention kernels: checks, the choice of the compiled head dimension, and of the width of accesses.
#pragma once
#include <cstdint>
#include <initializer_list>

#include "core/error.h"
#include "cuda/attention_tiles.cuh"
#include "cuda/launch.h"

namespace polypaca::POLYPACA_CUDA {

inline Heads heads_of(const HeadView& view) {
  if (view.dtype != DType::bf16) fail(ErrorCode::unsupported, "attention on CUDA takes bf16 values; this tensor is fp32");
  return {static_cast<bf16*>(view.data), view.token_stride, view.head_stride};
}

inline void check_attention_shape(const AttentionShape& shape) {
  if (shape.D < 1 || shape.D > 256) fail(ErrorCode::unsupported, "attention: the head dimension must be between 1 and 256 on CUDA");
  if (shape.G < 1 || shape.H % shape.G != 0) fail(ErrorCode::shape_mismatch, "attention: the number of query heads must be a multiple of the number of key/value heads");
  if (shape.rope.rotary_dim < 0 || shape.rope.rotary_dim > shape.D || shape.rope.rotary_dim % 2 != 0) fail(ErrorCode::shape_mismatch, "attention: the rotary width must be even and at most the head dimension");
}

/// The widest access, 16, 8, 4 or 2 bytes, with which D elements of every row can be read and written: no access may be misaligned or
/// reach beyond D.
inline int access_width(int64_t D, std::initializer_list<Heads> all) {
  uint64_t bits = uint64_t(D * 2) | 16;
  for (const Heads& heads : all) bits |= uint64_t(reinterpret_cast<uintptr_t>(heads.data)) | uint64_t(heads.token_stride * 2) | uint64_t(heads.head_stride * 2);
  return int(bits & (~bits + 1));  // the lowest bit set
}

/// Blocks that find_tile shares out.
inline int64_t tile_blocks(const Sequences& sequences) { return sequences.N / kTile + sequences.S; }

template <int kDimension, Access kAccessOf>
struct Compiled {
  static constexpr int kDim = kDimension;
  static constexpr Access kAccess = kAccessOf;
};

/// Calls visit(Compiled<kDim, kAccess>()) with the smallest compiled head dimension that holds D. Narrow rows are rare: 100 and 12 of
/// known models and tests.
template <typename Visit>
void with_head_dimension(int64_t D, int width, const Visit& visit) {
  if (width < 16) {
    if (D <= 32) return visit(Compiled<32, Access::narrow>());
    if (D <= 112) return visit(Compiled<112, Access::narrow>());
    return visit(Compiled<256, Access::narrow>());
  }
  if (D <= 32) return visit(Compiled<32, Access::wide>());
  if (D <= 64) return visit(Compiled<64, Access::wide>());
  if (D <= 80) return visit(Compiled<80, Access::wide>());
  if (D <= 96) return visit(Compiled<96, Access::wide>());
  if (D <= 112) return visit(Compiled<112, Access::wide>());
  if (D <= 128) return visit(Compiled<128, Access::wide>());
  visit(Compiled<256, Access::wide>());
}

}  // namespace polypaca::POLYPACA_CUDA
