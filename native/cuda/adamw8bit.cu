// AdamW with moments of 8 bits (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861).
//   m = signed map[code] * m_scale, v = unsigned map[code] * v_scale; the step of adamw.cu in fp32; then per block of kMomentBlock
//   scale = largest magnitude, code = that of the nearest of the map's values to x / scale
// A positive v whose nearest value is 0 gets the smallest one instead: its m need not be 0, and m / (sqrt(0) + epsilon) would be a step of
// any size. The maps are core/dynamic_map.h's; scales are fp32, one per block.
// One warp per block of kMomentBlock values, eight a lane: no barrier but for the maps' copies in shared memory.
#include "core/dynamic_map.h"
#include "cuda/adamw_update.cuh"
#include "cuda/cuda_backend.h"
#include "cuda/row_launch.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
static_assert(kMomentBlock == kWarp * kVector);
constexpr float kSmallestNormal = 1.17549435e-38f;

/// The values of both maps: a kernel argument.
struct MapValues {
  float of_m[256], of_v[256];
};

constexpr MapValues map_values() {
  constexpr DynamicMap has_sign = make_dynamic_map(true), has_none = make_dynamic_map(false);
  MapValues values{};
  for (int i = 0; i < 256; ++i) values.of_m[i] = has_sign.value[i], values.of_v[i] = has_none.value[i];
  return values;
}
constexpr MapValues kMapValues = map_values();

struct AdamW8bitShared {
  MapValues value;
  float m_middle[256], v_middle[256];  // between value[i] and value[i + 1]; 255 of each
};

/// Code of the nearest value; halfway, of the lower one.
DEVICE int encode(const float* middle, float x) {
  int code = 0;
  for (int half = 128; half > 0; half /= 2) code += x > middle[code + half - 1] ? half : 0;
  return code;
}

template <bool kAligned>
DEVICE void load_codes(int (&code)[kVector], const uint8_t* p, int64_t left) {
  if constexpr (kAligned) {
    const Vec8 raw = load_8(p);
    for (int i = 0; i < kVector; ++i) code[i] = int(raw.w[i / 4] >> (8 * (i % 4)) & 0xFFu);
  } else {
    for (int i = 0; i < kVector; ++i) code[i] = i < left ? p[i] : 0;
  }
}

template <bool kAligned>
DEVICE void store_codes(uint8_t* p, const int (&code)[kVector], int64_t left) {
  if constexpr (kAligned) {
    Vec8 raw{};
    for (int i = 0; i < kVector; ++i) raw.w[i / 4] |= uint32_t(code[i]) << (8 * (i % 4));
    store_8(p, raw);
  } else {
    for (int i = 0; i < kVector; ++i) {
      if (i < left) p[i] = uint8_t(code[i]);
    }
  }
}

/// A lane's eight values of moment block `block`; the others of the warp have the rest. left <= 0: none, but the warp's operations are
/// taken part in.
template <bool kAligned>
DEVICE void update(const AdamW8bitRange& r, const AdamWCoefficients& a, const AdamW8bitShared& s, int64_t block, int64_t i, int64_t left) {
  const float m_scale = r.m_scale[block], v_scale = r.v_scale[block];
  float p[kVector], g[kVector], m[kVector] = {}, v[kVector] = {}, m_largest = 0.0f, v_largest = 0.0f;
  int m_code[kVector], v_code[kVector];
  if (left > 0) {
    load_masters<kAligned>(p, r.master, i, left);
    load_elements<kAligned>(g, r.grad + i, left);
    load_codes<kAligned>(m_code, r.m + i, left);
    load_codes<kAligned>(v_code, r.v + i, left);
    for (int j = 0; j < kVector; ++j) {
      if (!kAligned && j >= left) break;
      m[j] = s.value.of_m[m_code[j]] * m_scale;
      v[j] = s.value.of_v[v_code[j]] * v_scale;
      adamw_update(p[j], m[j], v[j], g[j], a);
      m_largest = fmaxf(m_largest, fabsf(m[j]));
      v_largest = fmaxf(v_largest, v[j]);
    }
  }
  m_largest = warp_max(m_largest);
  v_largest = warp_max(v_largest);
  // A subnormal scale, whose inverse may overflow, counts as zero.
  const float new_m_scale = m_largest >= kSmallestNormal ? m_largest : 0.0f, new_v_scale = v_largest >= kSmallestNormal ? v_largest : 0.0f;
  const float m_factor = new_m_scale > 0.0f ? 1.0f / new_m_scale : 0.0f, v_factor = new_v_scale > 0.0f ? 1.0f / new_v_scale : 0.0f;
  sync_warp();  // every lane has read the old scales
  if (threadIdx.x % kWarp == 0) r.m_scale[block] = new_m_scale, r.v_scale[block] = new_v_scale;
  if (left <= 0) return;
  for (int j = 0; j < kVector; ++j) {
    m_code[j] = encode(s.m_middle, m[j] * m_factor);
    v_code[j] = encode(s.v_middle, v[j] * v_factor);
    if (v_code[j] == 0 && v[j] > 0.0f) v_code[j] = 1;
  }
  store_codes<kAligned>(r.m + i, m_code, left);
  store_codes<kAligned>(r.v + i, v_code, left);
  store_masters<kAligned>(r.master, i, p, left);
}

template <bool kAligned>
KERNEL BOUNDS(kThreads, 2) void adamw8bit(AdamW8bitRange r, AdamWConstants constants, const StepState* state, MapValues maps) {
  AdamW8bitShared& s = shared_memory<AdamW8bitShared>();
  if (!state->applies) return;
  for (int t = threadIdx.x; t < 256; t += kThreads) {
    s.value.of_m[t] = maps.of_m[t];
    s.value.of_v[t] = maps.of_v[t];
  }
  sync_threads();
  for (int t = threadIdx.x; t < 255; t += kThreads) {
    s.m_middle[t] = float((double(s.value.of_m[t]) + double(s.value.of_m[t + 1])) / 2.0);
    s.v_middle[t] = float((double(s.value.of_v[t]) + double(s.value.of_v[t + 1])) / 2.0);
  }
  sync_threads();
  const AdamWCoefficients a(constants, *state);
  const int64_t blocks = (r.count + kMomentBlock - 1) / kMomentBlock;
  for (int64_t block = int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp; block < blocks; block += int64_t(gridDim.x) * kWarps) {
    const int64_t i = block * kMomentBlock + threadIdx.x % kWarp * kVector, left = r.count - i;
    if (kAligned && (block + 1) * kMomentBlock <= r.count) {  // the same for the whole warp
      update<true>(r, a, s, block, i, left);
    } else {
      update<false>(r, a, s, block, i, left);
    }
  }
}

}  // namespace

void CudaBackend::adamw8bit(const AdamW8bitRange& range, const AdamWOptions& options) {
  if (range.count == 0) return;
  constexpr int64_t kMostBlocks = 2048;  // each makes its own copy of the maps
  const int64_t blocks = std::min<int64_t>(ceil_divide(ceil_divide(range.count, kMomentBlock), kWarps), kMostBlocks);
  const bool aligned = is_aligned(range.master) && is_aligned(range.m) && is_aligned(range.v) && is_aligned(range.grad);
  with_flag(aligned, [&]<bool kAligned>(std::bool_constant<kAligned>) {
    launch(POLYPACA_CUDA::adamw8bit<kAligned>, Grid(blocks), kThreads, sizeof(AdamW8bitShared), stream(), range, AdamWConstants(options, range.weight_decay), options.state, kMapValues);
  });
}

}  // namespace polypaca::POLYPACA_CUDA
