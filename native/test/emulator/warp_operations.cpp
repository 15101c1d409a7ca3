// What kernels call of the emulator (device_emulated.h): indices, barriers, warp operations, tensor cores, asynchronous copies.
// A warp operation deposits a lane's operands; the last lane to come computes for all.
#include <string.h>

#include <algorithm>

#include "cuda/device.h"
#include "test/emulator/block.h"

namespace polypaca::emulator {
namespace {

const char* name_of(WarpOperation operation) {
  switch (operation) {
    case WarpOperation::none: return "none";
    case WarpOperation::sync: return "sync_warp";
    case WarpOperation::shuffle: return "shuffle";
    case WarpOperation::shuffle_xor: return "shuffle_xor";
    case WarpOperation::shuffle_down: return "shuffle_down";
    case WarpOperation::ballot: return "ballot";
    case WarpOperation::sum: return "warp_sum";
    case WarpOperation::max: return "warp_max";
    case WarpOperation::ldmatrix: return "ldmatrix";
    case WarpOperation::mma: return "mma_m16n8k16";
  }
  return "?";
}

using Slots = Warp::Slot (&)[kLanes];

void shuffle_words(Slots slots, WarpOperation operation, int parameter, uint32_t live) {
  uint32_t before[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) before[lane] = live >> lane & 1 ? slots[lane].word : 0xFFFFFFFFu;  // an ended lane has nothing to give
  for (int lane = 0; lane < kLanes; ++lane) {
    int from = operation == WarpOperation::shuffle_xor ? lane ^ parameter : lane + parameter;
    if (from < 0 || from >= kLanes) from = lane;
    slots[lane].word = before[from];
  }
}

/// In the order of device_nvcc.h: pairs at distance 16, 8, 4, 2, 1.
template <typename F>
void reduce_values(Slots slots, F combine) {
  for (int mask = kLanes / 2; mask > 0; mask /= 2) {
    float other[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) other[lane] = slots[lane ^ mask].value;
    for (int lane = 0; lane < kLanes; ++lane) slots[lane].value = combine(slots[lane].value, other[lane]);
  }
}

float low(uint32_t pair) { return to_float(bf16{uint16_t(pair)}); }
float high(uint32_t pair) { return to_float(bf16{uint16_t(pair >> 16)}); }

// Fragments of mma.m16n8k16, with g = lane / 4 and t = lane % 4:
//   a[0..3] rows g, g + 8, g, g + 8; columns 2t, 2t, 2t + 8, 2t + 8, the next column in the high half
//   b[0..1] rows 2t, 2t + 8 (the next row in the high half) of column g
//   d[0..3] (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
void multiply_add(Slots slots) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const auto& s = slots[lane].mma;
    for (int i = 0; i < 4; ++i) {
      const int row = g + (i % 2) * 8, column = 2 * t + (i / 2) * 8;
      a[row][column] = low(s.a[i]);
      a[row][column + 1] = high(s.a[i]);
      d[g + (i / 2) * 8][2 * t + i % 2] = s.d[i];
    }
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = low(s.b[i]);
      b[2 * t + 8 * i + 1][g] = high(s.b[i]);
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) slots[lane].mma.d[i] = d[g + (i / 2) * 8][2 * t + i % 2];
  }
}

/// Matrix i's row r is at lane 8 i + r's address; lane 4 r + c gets its columns 2c and 2c + 1 (rows and columns exchanged: transposed).
void load_matrices(Block& block, Warp& warp, uint32_t first_thread, int count, bool transposed) {
  uint16_t matrix[4][8][8];
  for (int i = 0; i < count * 8; ++i) {
    const void* row = warp.slots[i].matrix.row;
    check_access(block, block.threads[first_thread + uint32_t(i)], row, 16, Access::read, true, nullptr);
    memcpy(matrix[i / 8][i % 8], row, 16);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int r = lane / 4, c = 2 * (lane % 4);
    for (int i = 0; i < count; ++i) {
      const uint16_t first = transposed ? matrix[i][c][r] : matrix[i][r][c], second = transposed ? matrix[i][c + 1][r] : matrix[i][r][c + 1];
      warp.slots[lane].matrix.fragments[i] = uint32_t(first) | uint32_t(second) << 16;
    }
  }
}

/// All live lanes came: computes for them and lets them go on.
void complete(Block& block, Warp& warp, uint32_t first_thread) {
  Slots slots = warp.slots;
  switch (warp.operation) {
    case WarpOperation::none: break;
    case WarpOperation::sync: ++warp.epoch; break;
    case WarpOperation::shuffle: {
      uint32_t before[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) before[lane] = warp.live >> lane & 1 ? slots[lane].mma.b[0] : 0xFFFFFFFFu;
      for (int lane = 0; lane < kLanes; ++lane) slots[lane].word = before[slots[lane].mma.b[1] % kLanes];
      break;
    }
    case WarpOperation::shuffle_xor:
    case WarpOperation::shuffle_down: shuffle_words(slots, warp.operation, warp.parameter, warp.live); break;
    case WarpOperation::ballot: {
      uint32_t votes = 0;
      for (int lane = 0; lane < kLanes; ++lane) votes |= (warp.live >> lane & 1 & slots[lane].word) << lane;
      for (Warp::Slot& slot : slots) slot.word = votes;
      break;
    }
    case WarpOperation::sum: reduce_values(slots, [](float a, float b) { return a + b; }); break;
    case WarpOperation::max: reduce_values(slots, [](float a, float b) { return fmaxf(a, b); }); break;
    case WarpOperation::ldmatrix: load_matrices(block, warp, first_thread, warp.parameter / 2, warp.parameter % 2 != 0); break;
    case WarpOperation::mma: multiply_add(slots); break;
  }
  for (uint32_t lanes = warp.arrived; lanes != 0; lanes &= lanes - 1) {
    Thread& thread = block.threads[first_thread + uint32_t(__builtin_ctz(lanes))];
    if (&thread != block.current) make_runnable(block, thread);
  }
  warp.arrived = 0;
}

bool needs_all_lanes(WarpOperation operation) { return operation == WarpOperation::mma || operation == WarpOperation::ldmatrix || operation == WarpOperation::sum || operation == WarpOperation::max; }

/// The lane's slot is filled; comes back when the operation is done, with the result in it.
void meet(Block& block, Thread& thread, Warp& warp, WarpOperation operation, int parameter) {
  if (needs_all_lanes(operation) && warp.live != 0xFFFFFFFFu) {
    report(block, thread, std::string("is in ") + name_of(operation) + ", which needs all 32 lanes, after a lane of its warp has returned");
  }
  if (warp.arrived == 0) {
    warp.operation = operation;
    warp.parameter = parameter;
  } else if (warp.operation != operation || warp.parameter != parameter) {
    report(block, thread, std::string("is in ") + name_of(operation) + " (" + std::to_string(parameter) + "), other lanes of its warp are in " + name_of(warp.operation) + " (" + std::to_string(warp.parameter) + ")");
  }
  warp.arrived |= 1u << thread.lane;
  if (warp.arrived == warp.live) {
    complete(block, warp, thread.index - thread.lane);
  } else {
    park(block, name_of(operation));
  }
}

struct Lane {
  Block& block = *running;
  Thread& thread = *block.current;
  Warp& warp = block.warps[thread.warp];
  Warp::Slot& slot = warp.slots[thread.lane];
  void meet(WarpOperation operation, int parameter = 0) { emulator::meet(block, thread, warp, operation, parameter); }
};

void issue_copy(void* shared, const void* global, bool valid, uint32_t bytes, const void* code) {
  Lane lane;
  if (valid) check_access(lane.block, lane.thread, global, bytes, Access::read, true, code);
  check_copy_issued(lane.block, lane.thread, shared, bytes, code);
  const AsyncCopy copy{static_cast<char*>(shared), valid ? static_cast<const char*>(global) : nullptr, bytes, lane.thread.groups};
  lane.thread.copies.push_back(copy);
  if (!lane.block.copies_land_early) return;
  if (copy.from) memcpy(copy.to, copy.from, bytes);
  else memset(copy.to, 0, bytes);
}

void land(Block& block, Thread& thread, const AsyncCopy& copy) {
  if (!block.copies_land_early) {
    if (copy.from) memcpy(copy.to, copy.from, copy.bytes);
    else memset(copy.to, 0, copy.bytes);
  }
  note_copy_landed(block, thread, copy.to, copy.bytes);
}

void checked(const void* p, uint32_t bytes, Access access, const void* code) {
  Block& block = *running;
  check_access(block, *block.current, p, bytes, access, true, code);
}

}  // namespace

void leave_warp(Block& block, Thread& thread) {
  Warp& warp = block.warps[thread.warp];
  warp.live &= ~(1u << thread.lane);
  if (warp.arrived == 0) return;
  if (needs_all_lanes(warp.operation)) report(block, thread, std::string("returns while other lanes of its warp wait in ") + name_of(warp.operation) + ", which needs all 32");
  if (warp.arrived == warp.live) complete(block, warp, thread.index - thread.lane);
}

}  // namespace polypaca::emulator

namespace polypaca::cuda_emulated {

using emulator::Access;
using emulator::Block;
using emulator::Lane;
using emulator::Thread;
using emulator::WarpOperation;

Index3 thread_index() { return {emulator::running->current->index, 0, 0}; }
Index3 block_index() {
  const emulator::Extent& e = emulator::running->index;
  return {unsigned(e.x), unsigned(e.y), unsigned(e.z)};
}
Index3 block_size() { return {unsigned(emulator::running->threads.size()), 1, 1}; }
Index3 grid_size() {
  const emulator::Extent& e = emulator::running->launch->grid;
  return {unsigned(e.x), unsigned(e.y), unsigned(e.z)};
}

void* shared_memory_of(int64_t bytes) {
  Block& block = *emulator::running;
  if (bytes > block.launch->shared_bytes) {
    emulator::report(block, *block.current, "takes " + std::to_string(bytes) + " bytes of shared memory, the launch declared " + std::to_string(block.launch->shared_bytes));
  }
  return block.shared;
}

void sync_threads() {
  Block& block = *emulator::running;
  ++block.current->barriers;
  ++block.at_barrier;
  if (block.at_barrier < block.live) return emulator::park(block, "sync_threads");
  block.at_barrier = 0;
  ++block.epoch;
  for (Thread& thread : block.threads) {
    if (!thread.finished && &thread != block.current) emulator::make_runnable(block, thread);
  }
}

void sync_warp() { Lane().meet(WarpOperation::sync); }

uint32_t shuffle_xor(uint32_t v, int lane_mask) {
  Lane lane;
  lane.slot.word = v;
  lane.meet(WarpOperation::shuffle_xor, lane_mask);
  return lane.slot.word;
}

uint32_t shuffle_down(uint32_t v, int delta) {
  Lane lane;
  lane.slot.word = v;
  lane.meet(WarpOperation::shuffle_down, delta);
  return lane.slot.word;
}

uint32_t shuffle(uint32_t v, int from) {
  Lane lane;
  lane.slot.mma.b[0] = v;
  lane.slot.mma.b[1] = uint32_t(from);  // each lane may ask for another one
  lane.meet(WarpOperation::shuffle);
  return lane.slot.word;
}

uint32_t ballot(bool vote) {
  Lane lane;
  lane.slot.word = vote;
  lane.meet(WarpOperation::ballot);
  return lane.slot.word;
}

float warp_sum(float v) {
  Lane lane;
  lane.slot.value = v;
  lane.meet(WarpOperation::sum);
  return lane.slot.value;
}

float warp_max(float v) {
  Lane lane;
  lane.slot.value = v;
  lane.meet(WarpOperation::max);
  return lane.slot.value;
}

Vec16 load_16(const void* p) {
  emulator::checked(p, 16, Access::read, __builtin_return_address(0));
  Vec16 v;
  memcpy(&v, p, 16);
  return v;
}
void store_16(void* p, Vec16 v) {
  emulator::checked(p, 16, Access::write, __builtin_return_address(0));
  memcpy(p, &v, 16);
}
void store_global_16(void* p, Vec16 v) {
  emulator::Block& block = *emulator::running;
  const auto offset = static_cast<const char*>(p) - block.shared;
  if (offset >= 0 && offset < emulator::kMaxShared) emulator::report(block, *block.current, "writes to global memory at shared offset " + std::to_string(offset), __builtin_return_address(0));
  emulator::checked(p, 16, Access::write, __builtin_return_address(0));
  memcpy(p, &v, 16);
}
Vec8 load_8(const void* p) {
  emulator::checked(p, 8, Access::read, __builtin_return_address(0));
  Vec8 v;
  memcpy(&v, p, 8);
  return v;
}
void store_8(void* p, Vec8 v) {
  emulator::checked(p, 8, Access::write, __builtin_return_address(0));
  memcpy(p, &v, 8);
}

void copy_async_16(void* shared, const void* global, bool valid) { emulator::issue_copy(shared, global, valid, 16, __builtin_return_address(0)); }
void copy_async_8(void* shared, const void* global, bool valid) { emulator::issue_copy(shared, global, valid, 8, __builtin_return_address(0)); }
void copy_async_4(void* shared, const void* global, bool valid) { emulator::issue_copy(shared, global, valid, 4, __builtin_return_address(0)); }
void copy_async_commit() { ++Lane().thread.groups; }
void copy_async_wait_for(int pending) {
  Lane lane;
  auto& copies = lane.thread.copies;
  // Copies that are in no group yet are waited for by nothing.
  const int64_t done_below = int64_t(lane.thread.groups) - pending;
  const auto first_kept = std::find_if(copies.begin(), copies.end(), [&](const emulator::AsyncCopy& copy) { return copy.group >= done_below; });
  for (auto copy = copies.begin(); copy != first_kept; ++copy) emulator::land(lane.block, lane.thread, *copy);
  copies.erase(copies.begin(), first_kept);
}

Vec16 load_matrices_4(const void* row, bool transposed) {
  Lane lane;
  lane.slot.matrix.row = row;
  lane.meet(WarpOperation::ldmatrix, 8 + transposed);
  const auto& r = lane.slot.matrix.fragments;
  return Vec16{{r[0], r[1], r[2], r[3]}};
}
Vec8 load_matrices_2(const void* row, bool transposed) {
  Lane lane;
  lane.slot.matrix.row = row;
  lane.meet(WarpOperation::ldmatrix, 4 + transposed);
  return Vec8{{lane.slot.matrix.fragments[0], lane.slot.matrix.fragments[1]}};
}

Accumulators multiply_fragments(Accumulators d, Vec16 a, Vec8 b) {
  Lane lane;
  auto& s = lane.slot.mma;
  memcpy(s.d, d.d, sizeof s.d);
  memcpy(s.a, a.w, sizeof s.a);
  memcpy(s.b, b.w, sizeof s.b);
  lane.meet(WarpOperation::mma);
  memcpy(d.d, s.d, sizeof s.d);
  return d;
}

int32_t atomic_add(int32_t* p, int32_t v) {
  emulator::checked(p, 4, Access::atomic, __builtin_return_address(0));
  const int32_t before = *p;
  *p = before + v;
  return before;
}

}  // namespace polypaca::cuda_emulated
