// A running block: what the emulator's files share. Checked while it runs:
//   - every access of a kernel is inside memory that the back end allocated, shared memory up to what the launch declared, or the
//     thread's own stack, and aligned to its size;
//   - no thread reads shared memory that nobody wrote in this block, or that a copy_async in flight will write;
//   - no two threads touch the same two bytes of shared memory, one of them writing, without sync_threads between (or sync_warp,
//     in one warp). Single bytes are compared as bytes; the reads of single bytes are not remembered;
//   - the same of global memory, for two warps of a block; and no block reads or writes what another one of the launch writes:
//     blocks have no order. Atomics may;
//   - all lanes of a warp meet in the same warp operation; mma and ldmatrix have all 32;
//   - all threads of a block pass the same number of sync_threads.
// Shared memory starts as 0xFF (NaN) in every block. Not covered: bank conflicts, timing, and the rounding of
// the fast_* approximations.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "test/emulator/emulator.h"

namespace polypaca::emulator {

constexpr int kLanes = 32, kMaxThreads = 1024;
constexpr int64_t kMaxShared = 227 * 1024;  // of sm_90; sm_80 has 163 KiB

enum class WarpOperation : uint8_t { none, sync, shuffle, shuffle_xor, shuffle_down, ballot, sum, max, ldmatrix, mma };

struct AsyncCopy {
  char* to;
  const char* from;  // null: zeros
  uint32_t bytes;
  uint32_t group;
};

struct Thread {
  void* stack_pointer = nullptr;
  uint32_t index = 0, lane = 0, warp = 0;
  uint32_t barriers = 0;           // sync_threads passed or reached
  const char* waits_in = nullptr;  // where it is parked, for messages; null: runnable
  bool finished = false;
  uint32_t groups = 0;             // copy_async groups committed
  std::vector<AsyncCopy> copies;   // not waited for yet
};

struct Warp {
  WarpOperation operation = WarpOperation::none;
  int parameter = 0;
  uint32_t live = 0, arrived = 0;  // lanes, as bits
  uint32_t epoch = 0;              // sync_warp passed, over all blocks
  union Slot {                     // a lane's operands; the result takes their place
    uint32_t word;
    float value;
    struct {
      const void* row;
      uint32_t fragments[4];
    } matrix;
    struct {
      float d[4];
      uint32_t a[4], b[2];
    } mma;
  } slots[kLanes];
};

/// Who touched two bytes of shared memory last. Epochs (never 0) count sync_threads over all blocks, so that nothing is cleared between blocks.
struct SharedCell {
  uint32_t write_epoch = 0, write_warp_epoch = 0, read_epoch = 0, read_warp_epoch = 0;
  uint16_t writer = 0, reader = 0;
  uint8_t written = 0;               // bytes written in this block
  uint8_t writer_bytes = 0;          // bytes of the last write
  bool many_lanes = false, many_warps = false;  // readers of this epoch
  uint8_t in_flight = 0;             // copies
  uint32_t in_flight_block = 0;
};

/// Who touched two bytes of global memory last. Two warps of a block are not ordered between barriers, two blocks never are.
struct GlobalCell {
  uint32_t write_epoch = 0, read_epoch = 0;
  uint16_t writer = 0, reader = 0;  // threads; kManyReaders
};
constexpr uint16_t kManyReaders = 0xFFFF;

struct MemoryRange {
  uintptr_t begin = 0, bytes = 0;
  GlobalCell* cells = nullptr;  // null: there was no memory for them, nothing is compared
};

struct Block {
  const Launch* launch = nullptr;
  Extent index;
  int64_t linear_index = 0;
  uint32_t epoch = 0, first_epoch = 0, launch_epoch = 0;
  uint32_t serial = 0;  // over all blocks
  bool copies_land_early = false;
  uint64_t random = 0;
  int live = 0, at_barrier = 0;
  Thread* current = nullptr;
  void* host_stack_pointer = nullptr;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<uint32_t> runnable;
  std::vector<SharedCell> cells;
  char *stacks = nullptr, *shared = nullptr, *arguments = nullptr;
  MemoryRange recent[256];  // global ranges found in this launch, by the address's bits 8 to 15: buffers start on 256 bytes
  std::string fault;
};

/// The block whose thread is running on this host thread; null in host code.
extern thread_local Block* running __attribute__((tls_model("initial-exec")));

/// Abandons the block: run() throws Error with where it was and `what`. `code`: an address in the kernel, or null.
[[noreturn]] void report(Block& block, const Thread& thread, const std::string& what, const void* code = nullptr);

/// Parks the running thread, or lets another go first, until it is runnable again.
void park(Block& block, const char* where);
void make_runnable(Block& block, Thread& thread);
/// A lane ended: its warp may have been waiting for it only.
void leave_warp(Block& block, Thread& thread);

// ---- memory_checks.cpp ----
enum class Access : uint8_t { read, write, atomic };
/// Reports where `thread` may not touch [p, p + bytes); remembers what it touched.
void check_access(Block& block, Thread& thread, const void* p, uint32_t bytes, Access access, bool aligned, const void* code);
/// Forgets who touched global memory.
void forget_global_accesses();
/// A copy_async was issued to, or has landed in, shared memory.
void check_copy_issued(Block& block, Thread& thread, const void* shared, uint32_t bytes, const void* code);
void note_copy_landed(Block& block, Thread& thread, const void* shared, uint32_t bytes);

}  // namespace polypaca::emulator
