// Values of randomly initialised matrices.
#pragma once
#include <cstdint>

namespace polypaca {

/// Normal draws with mean 0 and this deviation: elements [first, first + n) of the endless sequence that (seed, stream) names go to
/// dst[0..n). An element depends on (seed, stream, its place) alone: not on threads, nor on how a sequence is cut into calls.
void normal_draws(float* dst, int64_t first, int64_t n, uint64_t seed, uint32_t stream, float deviation);

}  // namespace polypaca
