// Launchers of the attention kernels, and what they share. Contracts: backend.h; formulas: the .cu files.
#pragma once
#include "backend/backend.h"
#include "cuda/attention_tiles.h"
#include "cuda/runtime.h"

namespace polypaca::POLYPACA_CUDA {

/// RoPE on rows 0 .. N - 1 of all heads of q and k, in place.
void rotate_in_place(const Stream& stream, Heads q, Heads k, const int32_t* positions, int64_t N, const AttentionShape& shape);

void attention_forward(const Stream& stream, HeadView out, float* lse, HeadView q, HeadView k, HeadView v, const Sequences& sequences, const AttentionShape& shape);

int64_t attention_scratch_bytes(int64_t N, const AttentionShape& shape);
void attention_backward(const Stream& stream, HeadView dq, HeadView dk, HeadView dv, HeadView dout, HeadView out, const float* lse, HeadView q, HeadView k, HeadView v, void* scratch, const Sequences& sequences, const AttentionShape& shape);

}  // namespace polypaca::POLYPACA_CUDA
