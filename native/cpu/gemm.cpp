// Dense products by packed panels, after Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication".
//   C [M, N] = beta * C + alpha * keep(A B^T + A2 B2^T) + bias
// A [M, K], B [N, K] fp32 or bf16 stored either way round; C fp32 or bf16, rounded once; sums in fp32 over the whole of K.
// Panels: A [units][up to kMaxRows], B [units][kPanel]. Heights of A's panels differ by at most one, so that no thread is left
// with a sliver. A block of A (kBlockA bytes) and one of B (kBlockB) stay in the second-level cache while all their tiles are
// computed. K is cut only above kBlockUnits, and then partial sums wait in a buffer, in the order in which they would have been
// added in registers.
// Threads share M or N, never K. The factor that all of them need is packed by all of them into `shared`, the other one by its
// owner into `local`, block by block.
#include "cpu/gemm.h"

#include <omp.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "cpu/gemm_output.h"
#include "cpu/gemm_pack.h"
#include "core/error.h"

namespace polypaca::POLYPACA_ISA {
namespace {

constexpr int64_t kBlockA = int64_t(384) << 10, kBlockB = int64_t(256) << 10;  // bytes
constexpr int64_t kBlockUnits = 2048;
constexpr int64_t kChunk = 16;  // units that all panels of a block pack before they go on to the next rows of memory
constexpr int64_t kSerialWork = int64_t(1) << 16;  // multiply-adds below which a second thread costs more than it brings

POLYPACA_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
POLYPACA_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
POLYPACA_INLINE int64_t parts(int64_t total, int64_t size) { return (total + size - 1) / size; }
POLYPACA_INLINE int64_t round_up(int64_t x, int64_t to) { return parts(x, to) * to; }

/// `total` things in `pieces` runs whose lengths differ by at most one.
struct Runs {
  int64_t total, pieces;
  POLYPACA_INLINE int64_t start(int64_t i) const { return i * (total / pieces) + least(i, total % pieces); }
  POLYPACA_INLINE int64_t length(int64_t i) const { return total / pieces + (i < total % pieces); }
};

/// Columns that the panels of an N-wide operand hold: full panels, and a last one of one vector where that is enough.
POLYPACA_INLINE int64_t padded_columns(int64_t N) { return round_up(N, kLanes); }
POLYPACA_INLINE int64_t panel_width(int64_t N, int64_t panel) { return N - panel * kPanel > kLanes ? kPanel : kLanes; }

template <typename Unit>
POLYPACA_INLINE int64_t units_of(int64_t K) {
  return parts(K, Unit::kElements);
}

/// Packs the vectors from j0 on, panel by panel (A), into dst; `units` is the length of a whole panel.
template <typename Unit, typename S>
void pack_rows(uint32_t* dst, int64_t units, const Operand& m, int64_t j0, Runs panels, int64_t K) {
  const int64_t own = units_of<Unit>(K), chunk = m.k_contiguous ? own : kChunk;
  for (int64_t u = 0; u < own; u += chunk) {
    for (int64_t p = 0; p < panels.pieces; ++p) {
      const int64_t first = panels.start(p), rows = panels.length(p);
      for (int64_t v = 0; v < rows; v += kLanes) {
        const int64_t j = j0 + first + v, count = least(kLanes, rows - v);
        uint32_t* panel = dst + first * units + v;
        if (m.k_contiguous) {
          pack_along<Unit, S>(panel, rows, m, j, count, count, K);
        } else {
          pack_across<Unit, S>(panel + u * rows, rows, m, j, count, count, K, u, least(u + chunk, own));
        }
      }
    }
  }
}

/// Packs panels p0 .. p1 - 1 of B [N, K] into dst; dst + offset is where this operand's units start in the first panel.
template <typename Unit, typename S>
void pack_panels(uint32_t* dst, int64_t units, int64_t offset, const Operand& m, int64_t N, int64_t p0, int64_t p1, int64_t K) {
  const int64_t own = units_of<Unit>(K), chunk = m.k_contiguous ? own : kChunk;
  for (int64_t u = 0; u < own; u += chunk) {
    for (int64_t p = p0; p < p1; ++p) {
      const int64_t width = panel_width(N, p);
      uint32_t* panel = dst + (p - p0) * kPanel * units + offset * width;
      for (int64_t v = 0; v < width; v += kLanes) {
        const int64_t j = p * kPanel + v, count = most(0, least(kLanes, N - j));
        if (m.k_contiguous) {
          pack_along<Unit, S>(panel + v, width, m, j, count, kLanes, K);
        } else {
          pack_across<Unit, S>(panel + v + u * width, width, m, j, count, kLanes, K, u, least(u + chunk, own));
        }
      }
    }
  }
}

template <typename Unit>
void pack_rows(uint32_t* dst, int64_t units, const Operand& m, int64_t j0, Runs panels, int64_t K) {
  m.dtype == DType::bf16 ? pack_rows<Unit, bf16>(dst, units, m, j0, panels, K) : pack_rows<Unit, float>(dst, units, m, j0, panels, K);
}

template <typename Unit>
void pack_panels(uint32_t* dst, int64_t units, int64_t offset, const Operand& m, int64_t N, int64_t p0, int64_t p1, int64_t K) {
  m.dtype == DType::bf16 ? pack_panels<Unit, bf16>(dst, units, offset, m, N, p0, p1, K) : pack_panels<Unit, float>(dst, units, offset, m, N, p0, p1, K);
}

/// What every thread of one product knows.
struct Plan {
  const GemmCall* call;
  int64_t units1, units2, units;      // of K, K2 and both
  int64_t b_units;                    // per panel of B that is packed here: units, or units2 beside a prepacked weight
  int64_t panels;                     // of B
  int64_t threads;
  bool by_columns;                    // threads share N
  int64_t rows_a, panels_b;           // per block
  uint32_t* shared;
  char* local;
  int64_t local_bytes;
};

/// Rows [m0, m0 + rows.total) of A as packed panels.
struct BlockA {
  const uint32_t* data;
  int64_t m0;
  Runs rows;
};

/// Panels first .. end - 1 of B; packed (if not null) starts at panel `first`.
struct BlockB {
  const uint32_t* packed;
  int64_t first, end;
};

POLYPACA_INLINE Runs panels_of(int64_t rows) { return {rows, most(1, parts(rows, kMaxRows))}; }

template <typename Unit>
void pack_block_a(const Plan& p, uint32_t* dst, int64_t m0, Runs rows) {
  pack_rows<Unit>(dst, p.units, p.call->a, m0, rows, p.call->K);
  if (p.units2 == 0) return;
  // Behind the units of A in every panel, which is behind its whole length: offsets differ by panel height.
  for (int64_t i = 0; i < rows.pieces; ++i) {
    const int64_t first = rows.start(i), count = rows.length(i);
    pack_rows<Unit>(dst + first * p.units + p.units1 * count, 0, p.call->a2, m0 + first, Runs{count, 1}, p.call->K2);
  }
}

template <typename Unit>
void pack_block_b(const Plan& p, uint32_t* dst, int64_t first, int64_t end) {
  const GemmCall& call = *p.call;
  int64_t offset = 0;
  if (!call.packed_b) {
    pack_panels<Unit>(dst, p.b_units, 0, call.b, call.N, first, end, call.K);
    offset = p.units1;
  }
  if (p.units2 > 0) pack_panels<Unit>(dst, p.b_units, offset, call.b2, call.N, first, end, call.K2);
}

/// All tiles of one block of A and one of B.
template <typename Unit>
void multiply_blocks(const Plan& p, const BlockA& a, const BlockB& b, float* partial) {
  const GemmCall& call = *p.call;
  alignas(64) float registers[kMaxRows * kPanel];
  const Runs cuts{p.units, most(1, parts(p.units, kBlockUnits))};
  for (int64_t cut = 0; cut < cuts.pieces; ++cut) {
    const int64_t u0 = cuts.start(cut), u1 = u0 + cuts.length(cut);
    for (int64_t panel = b.first; panel < b.end; ++panel) {
      const int64_t width = panel_width(call.N, panel), n = panel * kPanel;
      const uint32_t* own = b.packed + (panel - b.first) * kPanel * p.b_units;
      MicroCall micro{};
      if (call.packed_b) {
        // Units below units1 are in the prepacked weight, those above in the panel packed here.
        const uint32_t* prepacked = static_cast<const uint32_t*>(call.packed_b) + panel * kPanel * p.units1;
        const int64_t middle = u1 < p.units1 ? u1 : most(u0, p.units1);
        micro.units = middle - u0;
        micro.units2 = u1 - middle;
        micro.b = prepacked + u0 * width;
        micro.b2 = own + (middle - p.units1) * width;
      } else {
        micro.units = u1 - u0;
        micro.b = own + u0 * width;
      }
      for (int64_t i = 0; i < a.rows.pieces; ++i) {
        const int64_t first = a.rows.start(i), rows = a.rows.length(i);
        micro.a = a.data + first * p.units + u0 * rows;
        micro.tile = cuts.pieces == 1 ? registers : partial + ((panel - b.first) * a.rows.total + first) * kPanel;
        micro.resume = cut > 0;
        find_micro_kernel<Unit>(rows, width / kLanes)(micro);
        if (cut + 1 == cuts.pieces) store_tile(call.out, micro.tile, rows, width, a.m0 + first, n, call.N);
      }
    }
  }
}

POLYPACA_INLINE int64_t bytes_of_block_a(const Plan& p) { return round_up(p.rows_a * p.units * 4, 64); }
POLYPACA_INLINE int64_t bytes_of_block_b(const Plan& p) { return round_up(p.panels_b * kPanel * p.b_units * 4, 64); }
POLYPACA_INLINE int64_t bytes_of_partial(const Plan& p) { return p.units > kBlockUnits ? p.rows_a * p.panels_b * kPanel * 4 : 0; }

/// One thread's share of packing the factor that all threads read.
template <typename Unit>
void pack_shared(const Plan& p, int64_t share) {
  if (p.by_columns) {
    const Runs all = panels_of(p.call->M), packing{all.pieces, p.threads};
    for (int64_t i = packing.start(share); i < packing.start(share) + packing.length(share); ++i) {
      const int64_t m0 = all.start(i), rows = all.length(i);
      pack_block_a<Unit>(p, p.shared + m0 * p.units, m0, Runs{rows, 1});
    }
  } else if (p.b_units > 0) {
    const Runs packing{p.panels, p.threads};
    const int64_t first = packing.start(share);
    pack_block_b<Unit>(p, p.shared + first * kPanel * p.b_units, first, first + packing.length(share));
  }
}

/// One thread's columns of C: A is packed, B is packed here, block by block.
template <typename Unit>
void multiply_columns(const Plan& p, int64_t share) {
  const Runs all = panels_of(p.call->M), columns{p.panels, p.threads};
  char* local = p.local + share * p.local_bytes;
  uint32_t* block_b = reinterpret_cast<uint32_t*>(local);
  float* partial = reinterpret_cast<float*>(local + bytes_of_block_b(p));
  const int64_t end = columns.start(share) + columns.length(share);
  const int64_t panels_a = p.rows_a / kMaxRows;
  for (int64_t first = columns.start(share); first < end; first += p.panels_b) {
    const BlockB b{block_b, first, least(first + p.panels_b, end)};
    if (p.b_units > 0) pack_block_b<Unit>(p, block_b, b.first, b.end);
    for (int64_t i = 0; i < all.pieces; i += panels_a) {
      const int64_t m0 = all.start(i), count = least(panels_a, all.pieces - i);
      // The higher panels come first in `all`, hence also in this piece of it: Runs gives the same heights again.
      const int64_t rows = (i + count < all.pieces ? all.start(i + count) : p.call->M) - m0;
      multiply_blocks<Unit>(p, BlockA{p.shared + m0 * p.units, m0, Runs{rows, count}}, b, partial);
    }
  }
}

/// One thread's rows of C: B is packed, A is packed here, block by block.
template <typename Unit>
void multiply_rows(const Plan& p, int64_t share) {
  const Runs rows{p.call->M, p.threads};
  if (rows.length(share) == 0) return;
  char* local = p.local + share * p.local_bytes;
  uint32_t* block_a = reinterpret_cast<uint32_t*>(local);
  float* partial = reinterpret_cast<float*>(local + bytes_of_block_a(p));
  const Runs blocks{rows.length(share), parts(rows.length(share), p.rows_a)};
  for (int64_t i = 0; i < blocks.pieces; ++i) {
    const BlockA a{block_a, rows.start(share) + blocks.start(i), panels_of(blocks.length(i))};
    pack_block_a<Unit>(p, block_a, a.m0, a.rows);
    for (int64_t first = 0; first < p.panels; first += p.panels_b) {
      multiply_blocks<Unit>(p, a, BlockB{p.shared + first * kPanel * p.b_units, first, least(first + p.panels_b, p.panels)}, partial);
    }
  }
}

/// Whether threads share N: along the longer side, unless that leaves some of them with clearly less to do.
bool shares_columns(const GemmCall& call, int64_t panels, int64_t threads) {
  const double even_rows = double(call.M) / double(threads * parts(parts(call.M, kMaxRows), threads) * kMaxRows);
  const double even_columns = double(panels) / double(threads * parts(panels, threads));
  if (call.N >= call.M) return even_columns >= 0.9 * even_rows;
  return even_rows < 0.9 * even_columns;
}

template <typename Unit>
void gemm_with(const GemmCall& call, GemmScratch& scratch) {
  Plan p{};
  p.call = &call;
  p.units1 = units_of<Unit>(call.K);
  p.units2 = units_of<Unit>(call.K2);
  p.units = p.units1 + p.units2;
  p.b_units = call.packed_b ? p.units2 : p.units;
  p.panels = parts(call.N, kPanel);
  p.threads = omp_in_parallel() || call.M * call.N * (call.K + call.K2) < kSerialWork ? 1 : omp_get_max_threads();
  p.by_columns = shares_columns(call, p.panels, p.threads);
  const int64_t block_units = most(1, least(p.units, kBlockUnits));
  p.rows_a = most(1, kBlockA / (block_units * 4 * kMaxRows)) * kMaxRows;
  p.panels_b = most(1, kBlockB / (block_units * 4 * kPanel));
  const int64_t shared = p.by_columns ? call.M * p.units * 4 : p.panels * kPanel * p.b_units * 4;
  p.local_bytes = round_up((p.by_columns ? bytes_of_block_b(p) : bytes_of_block_a(p)) + bytes_of_partial(p), 4096);
  p.shared = static_cast<uint32_t*>(reserve(scratch.shared, shared));
  p.local = static_cast<char*>(reserve(scratch.local, p.local_bytes * p.threads));
#pragma omp parallel num_threads(int(p.threads))
  {
    // Shares, not threads: a team may be smaller than asked for.
    const int64_t team = omp_get_num_threads(), first = omp_get_thread_num();
    for (int64_t share = first; share < p.threads; share += team) pack_shared<Unit>(p, share);
#pragma omp barrier
    for (int64_t share = first; share < p.threads; share += team) {
      p.by_columns ? multiply_columns<Unit>(p, share) : multiply_rows<Unit>(p, share);
    }
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
#ifdef __AVX512F__
  if (call.bf16_dot) return gemm_with<Bf16Unit>(call, scratch);
#endif
  gemm_with<Fp32Unit>(call, scratch);
}

void* reserve(GemmScratch::Block& block, int64_t bytes) {
  constexpr int64_t kHugePage = int64_t(1) << 21;
  if (bytes <= block.bytes) return block.data;
  free(block.data);
  block = {};
  void* data = nullptr;
  const int64_t size = bytes >= kHugePage ? round_up(bytes, kHugePage) : round_up(bytes, 4096);
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
      pack_panels<Bf16Unit>(dst, units, 0, b, N, p, p + 1, K);
      continue;
    }
#endif
    pack_panels<Fp32Unit>(dst, units, 0, b, N, p, p + 1, K);
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
      alignas(64) uint32_t a[kMaxRows * kUnits] = {}, b[kPanel * kUnits] = {};
      alignas(64) float tile[kMaxRows * kPanel];
      const MicroCall call{a, b, nullptr, kUnits, 0, tile, false};
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
