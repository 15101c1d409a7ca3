// Dense products by packed panels, after Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication".
//   C [M, N] = beta * C + alpha * keep(A B^T + A2 B2^T) + bias
// A [M, K], B [N, K] fp32 or bf16 stored either way round; C fp32 or bf16, rounded once; sums in fp32 over the whole of K.
// Panels: A [units][kRowStride] of up to kMaxRows rows, B [units][kPanel]. Heights of A's panels differ by at most one, so that
// none is a sliver.
// A block of A (kBlockA bytes) and one of B (kBlockB) stay in the second-level cache while all their tiles are computed. Above
// kCutUnits, K is cut and the sums of a cut wait in fp32 for the next one.
// Where threads share N, a tile fetches what a later one needs while it is computed (Ahead). One that adds to C fetches its rows of C.
// Threads share M or N, never K. The factor that all of them read is packed by all of them into `shared`; blocks of the other one
// are packed by whoever computes with them into `local`. Blocks are handed out as threads become free: an element's sum is the
// same whoever computes it.
#include "cpu/gemm.h"

#include <omp.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "core/error.h"
#include "cpu/gemm_few_rows.h"
#include "cpu/gemm_output.h"
#include "cpu/gemm_pack.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr int64_t kBlockA = int64_t(384) << 10, kBlockB = int64_t(256) << 10;  // bytes
constexpr int64_t kLongestUnits = 2048, kCutUnits = 1024;  // K is cut where it has more units than the first, about to the second
constexpr int64_t kChunk = 8;       // units that all panels of a block pack before they go on to the next rows of memory
constexpr int64_t kLine = 64;        // bytes of a line of the caches
constexpr int64_t kSharedTask = 4;   // panels of the shared factor that a thread packs at a time
constexpr int64_t kSerialWork = int64_t(1) << 16;  // multiply-adds below which a second thread costs more than it brings

POLYPACA_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
POLYPACA_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
POLYPACA_INLINE int64_t parts(int64_t total, int64_t size) { return (total + size - 1) / size; }
POLYPACA_INLINE int64_t round_up(int64_t x, int64_t to) { return parts(x, to) * to; }

/// `total` things in `pieces` runs whose lengths differ by at most one, the longer ones first.
struct Runs {
  int64_t total, pieces;
  POLYPACA_INLINE int64_t start(int64_t i) const { return i * (total / pieces) + least(i, total % pieces); }
  POLYPACA_INLINE int64_t length(int64_t i) const { return total / pieces + (i < total % pieces); }
};

/// Runs first .. first + count - 1 (as many as there are): the longer ones still come first, so that Runs gives the same lengths.
POLYPACA_INLINE Runs some_of(Runs all, int64_t first, int64_t count) {
  const int64_t end = least(first + count, all.pieces);
  return {all.start(end) - all.start(first), end - first};
}

POLYPACA_INLINE Runs panels_of(int64_t rows) { return {rows, most(1, parts(rows, kMaxRows))}; }

/// Columns in panels: full ones, and a last one of a single vector where that is enough.
POLYPACA_INLINE int64_t padded_columns(int64_t N) { return round_up(N, kLanes); }
POLYPACA_INLINE int64_t panel_width(int64_t N, int64_t panel) { return N - panel * kPanel > kLanes ? kPanel : kLanes; }

template <typename Unit>
POLYPACA_INLINE int64_t units_of(int64_t K) {
  return parts(K, Unit::kElements);
}

/// Where one panel of a factor goes: unit u of vector j0 + j to dst[u * width + j].
struct PanelPlace {
  uint32_t* dst;
  int64_t width, j0;
};

/// Packs one factor's panels, kChunk units at a time where its stored rows run across k.
template <typename Unit, typename S, typename Panel>
POLYPACA_INLINE void pack_panels(const Operand& m, int64_t panels, int64_t total, int64_t k0, int64_t K, const Panel& panel) {
  const int64_t units = units_of<Unit>(K), chunk = m.k_contiguous ? most(units, 1) : kChunk;
  const int64_t first = panel(0).j0, run = least(panel(panels - 1).j0 + kPanel, total) - first;
  for (int64_t u = 0; u < units; u += chunk) {
    const int64_t end = least(u + chunk, units);
    if (!m.k_contiguous) prefetch_rows<S>(m, first, run, k0 + end * Unit::kElements, k0 + least(K, (end + chunk) * Unit::kElements));
    for (int64_t i = 0; i < panels; ++i) {
      const PanelPlace place = panel(i);
      for (int64_t v = 0; v < place.width; v += kLanes) {
        uint32_t* dst = place.dst + u * place.width + v;
        if (m.k_contiguous) {
          pack_along<Unit, S>(dst, place.width, m, place.j0 + v, total, k0, K);
        } else {
          pack_across<Unit, S>(dst, place.width, m, place.j0 + v, total, k0, K, u, end);
        }
      }
    }
  }
}

template <typename Unit, typename Panel>
POLYPACA_INLINE void pack_panels(const Operand& m, int64_t panels, int64_t total, int64_t k0, int64_t K, const Panel& panel) {
  m.dtype == DType::bf16 ? pack_panels<Unit, bf16>(m, panels, total, k0, K, panel) : pack_panels<Unit, float>(m, panels, total, k0, K, panel);
}

/// Rows m0 .. of A; `units` is a panel's whole length, this operand starts `offset` units into it.
template <typename Unit>
void pack_rows(uint32_t* dst, int64_t units, int64_t offset, const Operand& m, int64_t m0, Runs rows, int64_t M, int64_t k0, int64_t K) {
  pack_panels<Unit>(m, rows.pieces, M, k0, K, [&](int64_t i) { return PanelPlace{dst + (i * units + offset) * kRowStride, kRowStride, m0 + rows.start(i)}; });
}

/// Panels first .. end - 1 of B, likewise.
template <typename Unit>
void pack_columns(uint32_t* dst, int64_t units, int64_t offset, const Operand& m, int64_t N, int64_t first, int64_t end, int64_t k0, int64_t K) {
  pack_panels<Unit>(m, end - first, N, k0, K, [&](int64_t i) {
    const int64_t width = panel_width(N, first + i);
    return PanelPlace{dst + i * units * kPanel + offset * width, width, (first + i) * kPanel};
  });
}

/// What every thread knows of one cut of one product.
struct Plan {
  const GemmCall* call;
  Stage stage;
  int64_t k0, K, K2;                  // of A and B: K values from k0 on; of A2 and B2: all or none
  int64_t units1, units2, units;      // of K, K2 and both
  int64_t b_units;                    // per panel of B that is packed here: units, or units2 beside a prepacked weight
  int64_t packed_units, packed_first; // of a prepacked panel: its whole length, and where this cut starts in it
  int64_t panels;                     // of B
  int64_t threads;
  bool by_columns;                    // threads share N
  int64_t panels_a, panels_b;         // per block, at most
  uint32_t* shared;
  char* local;
  int64_t local_bytes;
};

/// Rows m0 .. m0 + rows.total - 1 of A as packed panels.
struct BlockA {
  const uint32_t* data;
  int64_t m0;
  Runs rows;
};

/// Panels first .. end - 1 of B, the part of them that is packed here.
struct BlockB {
  const uint32_t* data;
  int64_t first, end;
};

template <typename Unit>
void pack_block_a(const Plan& p, uint32_t* dst, int64_t m0, Runs rows) {
  const GemmCall& call = *p.call;
  pack_rows<Unit>(dst, p.units, 0, call.a, m0, rows, call.M, p.k0, p.K);
  if (p.units2 > 0) pack_rows<Unit>(dst, p.units, p.units1, call.a2, m0, rows, call.M, 0, p.K2);
}

template <typename Unit>
void pack_block_b(const Plan& p, uint32_t* dst, int64_t first, int64_t end) {
  const GemmCall& call = *p.call;
  if (!call.packed_b) pack_columns<Unit>(dst, p.b_units, 0, call.b, call.N, first, end, p.k0, p.K);
  if (p.units2 > 0) pack_columns<Unit>(dst, p.b_units, p.b_units - p.units2, call.b2, call.N, first, end, 0, p.K2);
}

/// Directs what tiles fetch while they are computed. Each fetches the panel of A that the next tile needs, which comes from another
/// thread's cache or from afar; the last ones of a block fetch the source of the block of B that is packed next instead.
struct Ahead {
  const char* source;
  int64_t wait, units;  // tiles until the source's turn; units of a panel

  /// Of the next block's source: panels first .. end - 1 of B; none where first is end. Whole rows along k are one run of memory;
  /// rows that lie apart are left to pack_panels (fetching them from here made products slower).
  POLYPACA_INLINE Ahead(const Plan& p, int64_t first, int64_t end, int64_t tiles) : source(nullptr), wait(tiles), units(p.units) {
    const Operand& b = p.call->b;
    if (first == end || !b.k_contiguous || b.ld != p.K || p.call->packed_b) return;
    const int64_t ld = b.ld * size_of(b.dtype), rows = least(end * kPanel, p.call->N) - first * kPanel;
    source = static_cast<const char*>(b.data) + first * kPanel * ld;
    wait = tiles - parts(rows * ld, kLine * most(1, units));
  }

  POLYPACA_INLINE void apply(MicroCall& micro) {
    const bool panel = wait-- > 0 || !source;
    micro.ahead = panel ? reinterpret_cast<const char*>(micro.a + kRowStride * units) : source;
    micro.ahead_step = panel ? kRowStride * int64_t(sizeof(uint32_t)) : kLine;
    if (!panel) source += units * kLine;
  }
};

/// All tiles of one block of A and one of B. Full tiles that need no more than a bias, an addition to C and rounding are written by the
/// micro-kernel itself.
template <typename Unit>
void multiply_blocks(const Plan& p, const BlockA& a, const BlockB& b, Ahead* ahead) {
  const GemmCall& call = *p.call;
  const Matrix& c = p.stage.out.c;
  alignas(64) float tile[kMaxRows * kPanel];
  for (int64_t panel = b.first; panel < b.end; ++panel) {
    const int64_t n = panel * kPanel, width = panel_width(call.N, panel);
    const bool direct = p.stage.plain() && call.N - n >= width;
    const uint32_t* own = b.data + (panel - b.first) * kPanel * p.b_units;
    MicroCall micro{nullptr, own, own, p.units, 0, tile, direct ? c.dtype : DType::f32, direct ? c.ld : width, nullptr, false, nullptr, 0};
    if (direct) {
      micro.bias = p.stage.out.bias ? p.stage.out.bias + n : nullptr;
      micro.adds = p.stage.out.beta != 0.0f;
    }
    if (call.packed_b) {
      micro.b = static_cast<const uint32_t*>(call.packed_b) + panel * kPanel * p.packed_units + p.packed_first * width;
      micro.units = p.units1;
      micro.units2 = p.units2;
    }
    for (int64_t i = 0; i < a.rows.pieces; ++i) {
      const int64_t m = a.m0 + a.rows.start(i), rows = a.rows.length(i);
      micro.a = a.data + i * kRowStride * p.units;
      if (ahead) ahead->apply(micro);
      if (direct) micro.c = c.at(m, n).data;
      find_micro_kernel<Unit>(rows, width / kLanes)(micro);
      if (!direct) store_tile<Unit>(p.stage, tile, rows, width, m, n, call.N);
    }
  }
}

/// Threads share N: all pack A, then each packs blocks of B and multiplies them with all of A.
template <typename Unit>
void work_by_columns(const Plan& p) {
  const Runs all = panels_of(p.call->M);
#pragma omp for schedule(dynamic, 1)
  for (int64_t first = 0; first < all.pieces; first += kSharedTask) {
    pack_block_a<Unit>(p, p.shared + first * kRowStride * p.units, all.start(first), some_of(all, first, kSharedTask));
  }
  uint32_t* block_b = reinterpret_cast<uint32_t*>(p.local + omp_get_thread_num() * p.local_bytes);
  const Runs blocks{p.panels, least(p.panels, round_up(parts(p.panels, p.panels_b), p.threads))};
#pragma omp for schedule(dynamic, 1)
  for (int64_t i = 0; i < blocks.pieces; ++i) {
    const BlockB b{block_b, blocks.start(i), blocks.start(i) + blocks.length(i)};
    if (p.b_units > 0) pack_block_b<Unit>(p, block_b, b.first, b.end);
    const int64_t next = i + p.threads;  // blocks go round the threads as long as none is disturbed
    const int64_t start = next < blocks.pieces ? blocks.start(next) : 0, length = next < blocks.pieces ? blocks.length(next) : 0;
    Ahead ahead(p, start, start + length, all.pieces * blocks.length(i));
    for (int64_t j = 0; j < all.pieces; j += p.panels_a) {
      multiply_blocks<Unit>(p, BlockA{p.shared + j * kRowStride * p.units, all.start(j), some_of(all, j, p.panels_a)}, b, &ahead);
    }
  }
}

/// Threads share M: all pack B, then each packs blocks of A and multiplies them with all of B.
template <typename Unit>
void work_by_rows(const Plan& p) {
  if (p.b_units > 0) {
#pragma omp for schedule(dynamic, 1)
    for (int64_t first = 0; first < p.panels; first += kSharedTask) {
      pack_block_b<Unit>(p, p.shared + first * kPanel * p.b_units, first, least(first + kSharedTask, p.panels));
    }
  }
  uint32_t* block_a = reinterpret_cast<uint32_t*>(p.local + omp_get_thread_num() * p.local_bytes);
  const int64_t M = p.call->M;
  const Runs blocks{M, least(M, round_up(parts(M, p.panels_a * kMaxRows), p.threads))};
#pragma omp for schedule(dynamic, 1)
  for (int64_t i = 0; i < blocks.pieces; ++i) {
    const BlockA a{block_a, blocks.start(i), panels_of(blocks.length(i))};
    pack_block_a<Unit>(p, block_a, a.m0, a.rows);
    multiply_blocks<Unit>(p, a, BlockB{p.shared, 0, p.panels}, nullptr);
  }
}

/// Whether threads share N: along the longer side, unless that leaves some of them with clearly less to do.
bool shares_columns(const GemmCall& call, int64_t panels, int64_t threads) {
  const double even_rows = double(call.M) / double(threads * parts(parts(call.M, kMaxRows), threads) * kMaxRows);
  const double even_columns = double(panels) / double(threads * parts(panels, threads));
  if (call.N >= call.M) return even_columns >= 0.9 * even_rows;
  return even_rows < 0.9 * even_columns;
}

/// C from one cut of K.
template <typename Unit>
void multiply_cut(Plan& p, GemmScratch& scratch) {
  const GemmCall& call = *p.call;
  p.units1 = units_of<Unit>(p.K);
  p.units2 = units_of<Unit>(p.K2);
  p.units = p.units1 + p.units2;
  p.b_units = call.packed_b ? p.units2 : p.units;
  p.panels_a = most(1, kBlockA / (most(1, p.units) * 4 * kRowStride));
  p.panels_b = most(1, kBlockB / (most(1, p.units) * 4 * kPanel));
  const int64_t shared = p.by_columns ? panels_of(call.M).pieces * kRowStride * p.units * 4 : p.panels * kPanel * p.b_units * 4;
  p.local_bytes = round_up(p.by_columns ? p.panels_b * kPanel * p.b_units * 4 : p.panels_a * kRowStride * p.units * 4, 4096);
  p.shared = static_cast<uint32_t*>(reserve(scratch.shared, shared));
  p.local = static_cast<char*>(reserve(scratch.local, p.local_bytes * p.threads));
#pragma omp parallel num_threads(int(p.threads))
  p.by_columns ? work_by_columns<Unit>(p) : work_by_rows<Unit>(p);
}

template <typename Unit>
void gemm_with(const GemmCall& call, GemmScratch& scratch) {
  Plan p{};
  p.call = &call;
  p.panels = parts(call.N, kPanel);
  p.threads = omp_in_parallel() || call.M * call.N * (call.K + call.K2) < kSerialWork ? 1 : omp_get_max_threads();
  p.by_columns = shares_columns(call, p.panels, p.threads);
  p.packed_units = units_of<Unit>(call.K);
  const Runs cuts{p.packed_units, p.packed_units > kLongestUnits ? parts(p.packed_units, kCutUnits) : 1};
  // Sums of a cut wait in C itself where the next one may add to it, which the micro-kernel does best, else beside it.
  const bool in_c = call.out.c.dtype == DType::f32 && !call.out.keep && !call.out.bias && call.out.alpha == 1.0f && call.out.beta == 0.0f;
  for (int64_t i = 0; i < cuts.pieces; ++i) {
    const bool first = i == 0, last = i + 1 == cuts.pieces;
    p.packed_first = cuts.start(i);
    p.k0 = p.packed_first * Unit::kElements;
    p.K = least(cuts.length(i) * Unit::kElements, call.K - p.k0);
    p.K2 = last ? call.K2 : 0;
    p.stage = {call.out, nullptr};
    if (in_c) {
      if (!first) p.stage.out.beta = 1.0f;
    } else if (cuts.pieces > 1) {
      float* sums = static_cast<float*>(reserve(scratch.sums, call.M * call.N * 4));
      if (last) p.stage.earlier = sums;
      else p.stage.out = {{sums, DType::f32, call.N}, 1.0f, first ? 0.0f : 1.0f};
    }
    multiply_cut<Unit>(p, scratch);
  }
}

void check_dtype(DType dtype) {
  if (dtype == DType::f16) fail(ErrorCode::unsupported, "fp16 is a storage type of checkpoint files; convert to fp32 or bf16 before computing");
}

}  // namespace

void gemm(const GemmCall& call, GemmScratch& scratch) {
  if (call.M <= 0 || call.N <= 0) return;
  check_dtype(call.a.dtype);
  check_dtype(call.b.dtype);
  check_dtype(call.out.c.dtype);
  const bool few = suits_few_rows(call);
#ifdef __AVX512F__
  if (call.bf16_dot) return few ? gemm_few_rows<Bf16Unit>(call, scratch) : gemm_with<Bf16Unit>(call, scratch);
#endif
  few ? gemm_few_rows<Fp32Unit>(call, scratch) : gemm_with<Fp32Unit>(call, scratch);
}

namespace {

/// Panels as gemm_with and gemm_few_rows lay them out, over all M that are no larger: which side is shared depends on M. Of each side
/// the largest M needs most, so the search ends when both have been met.
template <typename Unit>
GemmScratchBytes most_scratch_of(GemmCall call) {
  const int64_t threads = omp_get_max_threads(), panels = parts(call.N, kPanel), longest = units_of<Unit>(call.K);
  const int64_t units2 = units_of<Unit>(call.K2), units = least(longest, kLongestUnits) + units2, b_units = call.packed_b ? units2 : units;
  // More rows than these divide evenly enough (even_rows > 1 - threads * kMaxRows / M >= 0.9): columns are not shared.
  const int64_t uneven = most(call.N, 10 * threads * kMaxRows);
  GemmScratchBytes most_of;
  if (longest > kLongestUnits) most_of.sums = call.M * call.N * 4;
  if (!call.packed_b) most_of.shared = kFewRows * (vectors_of(call.K, Unit::kElements) + vectors_of(call.K2, Unit::kElements) + 1) * kLanes * 4;
  for (bool met[2] = {}; call.M > 0 && !(met[0] && met[1]); call.M = least(call.M - 1, uneven)) {
    const bool by_columns = shares_columns(call, panels, threads);
    if (met[by_columns]) continue;
    met[by_columns] = true;
    const int64_t local = by_columns ? (b_units > 0 ? most(kBlockB, kPanel * units * 4) : 0) : most(kBlockA, kRowStride * units * 4);
    most_of.shared = most(most_of.shared, by_columns ? panels_of(call.M).pieces * kRowStride * units * 4 : panels * kPanel * b_units * 4);
    most_of.local = most(most_of.local, round_up(local, 4096) * threads);
  }
  return most_of;
}

constexpr int64_t kHugePage = int64_t(1) << 21;

}  // namespace

GemmScratchBytes most_scratch(int64_t M, int64_t N, int64_t K, int64_t K2, bool packed_b, bool bf16_dot) {
  GemmCall call;
  call.M = M, call.N = N, call.K = K, call.K2 = K2;
  call.packed_b = packed_b ? &call : nullptr;  // whether there is one is all that counts
  return bf16_dot ? most_scratch_of<Bf16Unit>(call) : most_scratch_of<Fp32Unit>(call);
}

int64_t reserved_bytes(int64_t bytes) { return bytes >= kHugePage ? round_up(bytes, kHugePage) : round_up(bytes, 4096); }

void* reserve(GemmScratch::Block& block, int64_t bytes) {
  if (bytes <= block.bytes) return block.data;
  free(block.data);
  block = {};
  void* data = nullptr;
  const int64_t size = reserved_bytes(bytes);
  if (posix_memalign(&data, size_t(bytes >= kHugePage ? kHugePage : 4096), size_t(size)) != 0) {
    fail(ErrorCode::out_of_memory, "could not allocate the packing buffers of a matrix product. Use a smaller --micro-batch-tokens.");
  }
#ifdef MADV_HUGEPAGE
  if (size >= kHugePage) madvise(data, size_t(size), MADV_HUGEPAGE);
#endif
  block = {static_cast<char*>(data), size};
  return data;
}

void release_scratch(GemmScratch& scratch) {
  free(scratch.shared.data);
  free(scratch.local.data);
  free(scratch.mask.data);
  free(scratch.sums.data);
  scratch = {};
}

int64_t packed_bytes(int64_t N, int64_t K, bool bf16_dot) {
  return padded_columns(N) * (bf16_dot ? units_of<Bf16Unit>(K) : units_of<Fp32Unit>(K)) * 4;
}

void pack_operand(void* packed, const Operand& b, int64_t N, int64_t K, bool bf16_dot) {
  const int64_t units = bf16_dot ? units_of<Bf16Unit>(K) : units_of<Fp32Unit>(K);
  const int64_t panels = parts(N, kPanel);
#pragma omp parallel for schedule(static)
  for (int64_t p = 0; p < panels; ++p) {
    uint32_t* dst = static_cast<uint32_t*>(packed) + p * kPanel * units;
#ifdef __AVX512F__
    if (bf16_dot) {
      pack_columns<Bf16Unit>(dst, units, 0, b, N, p, p + 1, 0, K);
      continue;
    }
#endif
    pack_columns<Fp32Unit>(dst, units, 0, b, N, p, p + 1, 0, K);
  }
}

namespace {

template <typename Unit>
double kernel_peak(double seconds) {
  constexpr int64_t kUnits = 256, kRounds = 64;
  const int64_t threads = omp_get_max_threads();
  double best = 0.0;
  for (const double start = omp_get_wtime(); omp_get_wtime() - start < seconds;) {
    double slowest = 0.0;
#pragma omp parallel reduction(max : slowest)
    {
      alignas(64) uint32_t a[kRowStride * kUnits], b[kPanel * kUnits];
      alignas(64) float tile[kMaxRows * kPanel];
      // Values with busy bits: a processor that multiplies zeros is faster than it will be in earnest.
      for (int64_t i = 0; i < kRowStride * kUnits; ++i) a[i] = 0x3F9E3F35u + uint32_t(i % 61) * 0x00030005u;
      for (int64_t i = 0; i < kPanel * kUnits; ++i) b[i] = 0x3F67BF4Bu + uint32_t(i % 53) * 0x00070003u;
      const MicroCall call{a, b, nullptr, kUnits, 0, tile, DType::f32, kPanel, nullptr, false, nullptr, 0};
#pragma omp barrier
      const double begin = omp_get_wtime();
      for (int64_t i = 0; i < kRounds; ++i) micro_kernel<Unit, kMaxRows, 2>(call);
      slowest = omp_get_wtime() - begin;
    }
    const double rate = 2.0 * double(kMaxRows * kPanel * kUnits * Unit::kElements * kRounds * threads) / slowest;
    if (rate > best) best = rate;
  }
  return best;
}

}  // namespace

double measure_kernel_peak(bool bf16_dot, double seconds) {
#ifdef __AVX512F__
  if (bf16_dot) return kernel_peak<Bf16Unit>(seconds);
#else
  (void)bf16_dot;
#endif
  return kernel_peak<Fp32Unit>(seconds);
}

}  // namespace polypaca::POLYPACA_ISA
