// Every access of a kernel, seen: kernels are compiled with g++'s -fsanitize=thread, which calls __tsan_read4 and its kin before
// each access; here they are ours instead of that sanitizer's library. In host code of the same files they return at once.
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <mutex>
#include <shared_mutex>

#include "test/emulator/block.h"

namespace polypaca::emulator {
namespace {

// ---- global memory ----

struct Registry {
  std::shared_mutex mutex;
  std::map<uintptr_t, MemoryRange> ranges;  // by begin
};

Registry& registry() {
  static Registry* one = new Registry;
  return *one;
}

size_t cells_of(uintptr_t bytes) { return bytes / 2 + 1; }

/// The registered range that `address` is in; 0 bytes where there is none.
MemoryRange find_range(uintptr_t address) {
  Registry& r = registry();
  const std::shared_lock lock(r.mutex);
  auto after = r.ranges.upper_bound(address);
  if (after == r.ranges.begin()) return {};
  --after;
  return address - after->first < after->second.bytes ? after->second : MemoryRange{};
}

/// Tables of constants: a kernel may read what its own module has in read-only segments.
bool in_read_only_segment(uintptr_t address) {
  struct Query {
    uintptr_t address;
    bool found = false;
  } query{address};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        Query& q = *static_cast<Query*>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          const bool read_only = (segment.p_type == PT_LOAD && !(segment.p_flags & PF_W)) || segment.p_type == PT_GNU_RELRO;
          if (read_only && q.address - (info->dlpi_addr + segment.p_vaddr) < segment.p_memsz) q.found = true;
        }
        return int(q.found);
      },
      &query);
  return query.found;
}

const char* verb(Access access) { return access == Access::read ? "reads " : access == Access::write ? "writes " : "atomically changes "; }

std::string bytes_at(uint32_t bytes) { return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes"); }

[[noreturn]] void report_global_race(Block& block, const Thread& thread, Access access, const MemoryRange& range, uintptr_t offset, uint32_t bytes, uint32_t epoch, uint16_t other, const char* what, const void* code) {
  std::string who = "another block of this launch ";
  if (epoch >= block.first_epoch) who = other == kManyReaders ? "other threads " : "thread " + std::to_string(other) + " ";
  const char* missing = epoch >= block.first_epoch ? " with no sync_threads between" : ": blocks have no order";
  report(block, thread, std::string(verb(access)) + bytes_at(bytes) + " at offset " + std::to_string(offset) + " of a buffer of " + std::to_string(range.bytes) + " bytes, which " + who + what + missing, code);
}

/// Whether an access in `epoch` by `other` may come before or after what `thread` does now. One warp's own order is left to it.
bool unordered_global(const Block& block, const Thread& thread, uint32_t epoch, uint16_t other) {
  if (epoch < block.launch_epoch) return false;
  if (epoch < block.first_epoch) return true;
  return epoch == block.epoch && other / kLanes != thread.warp;
}

void compare_global(Block& block, Thread& thread, const MemoryRange& range, uintptr_t offset, uint32_t bytes, Access access, const void* code) {
  if (!range.cells || access == Access::atomic) return;
  for (GlobalCell *cell = range.cells + offset / 2, *last = range.cells + (offset + bytes - 1) / 2; cell <= last; ++cell) {
    if (unordered_global(block, thread, cell->write_epoch, cell->writer)) report_global_race(block, thread, access, range, offset, bytes, cell->write_epoch, cell->writer, "wrote", code);
    if (access == Access::write) {
      if (unordered_global(block, thread, cell->read_epoch, cell->reader)) report_global_race(block, thread, access, range, offset, bytes, cell->read_epoch, cell->reader, "read", code);
      cell->write_epoch = block.epoch;
      cell->writer = uint16_t(thread.index);
    } else {
      const bool others = cell->read_epoch == block.epoch && cell->reader / kLanes != thread.warp;
      cell->reader = others ? kManyReaders : uint16_t(thread.index);
      cell->read_epoch = block.epoch;
    }
  }
}

/// No buffer holds the address: says where it is.
[[noreturn]] void report_outside(Block& block, const Thread& thread, uintptr_t address, uint32_t bytes, Access access, const void* code) {
  std::string nearest;
  for (uintptr_t back = 1; back <= 4096 && back <= address; back *= 2) {
    const MemoryRange before = find_range(address - back);
    if (before.bytes == 0) continue;
    nearest = ", " + std::to_string(address - before.begin - before.bytes) + " bytes past the end of a buffer of " + std::to_string(before.bytes);
    break;
  }
  char digits[32];
  snprintf(digits, sizeof digits, "0x%zx", size_t(address));
  report(block, thread, std::string(verb(access)) + bytes_at(bytes) + " at " + digits + ", which is in no buffer of the device" + nearest, code);
}

void check_global(Block& block, Thread& thread, uintptr_t address, uint32_t bytes, Access access, const void* code) {
  MemoryRange& recent = block.recent[address >> 8 & 255];
  const uintptr_t recent_offset = address - recent.begin;
  if (recent_offset < recent.bytes && recent.bytes - recent_offset >= bytes) return compare_global(block, thread, recent, recent_offset, bytes, access, code);
  const MemoryRange range = find_range(address);
  if (range.bytes == 0) {
    if (access == Access::read && in_read_only_segment(address)) return;
    report_outside(block, thread, address, bytes, access, code);
  }
  const uintptr_t offset = address - range.begin;
  if (range.bytes - offset < bytes) {
    report(block, thread, std::string(verb(access)) + bytes_at(bytes) + " at offset " + std::to_string(offset) + " of a buffer of " + std::to_string(range.bytes) + " bytes: past its end", code);
  }
  recent = range;
  compare_global(block, thread, range, offset, bytes, access, code);
}

// ---- shared memory ----

std::string shared_access(Access access, uint32_t offset, uint32_t bytes) { return std::string(verb(access)) + bytes_at(bytes) + " at shared offset " + std::to_string(offset); }

/// Whether `other`, in `epoch`, is not ordered before what `thread` does now.
bool unordered(const Block& block, const Thread& thread, uint32_t epoch, uint32_t warp_epoch, uint32_t other) {
  if (epoch != block.epoch || other == thread.index) return false;
  return other / kLanes != thread.warp || warp_epoch == block.warps[thread.warp].epoch;
}

[[noreturn]] void report_race(Block& block, const Thread& thread, Access access, uint32_t offset, uint32_t bytes, const char* what, uint32_t other, const void* code) {
  const bool warp = other / kLanes == thread.warp;
  report(block, thread, shared_access(access, offset, bytes) + ", which thread " + std::to_string(other) + " " + what + " with no sync_threads" + (warp ? " or sync_warp" : "") + " between", code);
}

void note_read(const Block& block, const Thread& thread, SharedCell& cell) {
  const uint32_t warp_epoch = block.warps[thread.warp].epoch;
  if (cell.read_epoch != block.epoch) {
    cell.many_lanes = cell.many_warps = false;
  } else if (cell.reader / kLanes != thread.warp) {
    cell.many_warps = true;
  } else if (cell.read_warp_epoch == warp_epoch) {
    cell.many_lanes |= cell.reader != thread.index;
  } else {
    cell.many_lanes = false;
  }
  cell.read_epoch = block.epoch;
  cell.read_warp_epoch = warp_epoch;
  cell.reader = uint16_t(thread.index);
}

void note_write(const Block& block, const Thread& thread, SharedCell& cell, uint8_t mask) {
  if (cell.write_epoch < block.first_epoch) cell.written = 0;
  cell.written |= mask;
  cell.writer_bytes = mask;
  cell.write_epoch = block.epoch;
  cell.write_warp_epoch = block.warps[thread.warp].epoch;
  cell.writer = uint16_t(thread.index);
}

void check_read(Block& block, Thread& thread, SharedCell& cell, uint8_t mask, uint32_t offset, uint32_t bytes, const void* code) {
  if (cell.write_epoch < block.first_epoch || (cell.written & mask) != mask) report(block, thread, shared_access(Access::read, offset, bytes) + ", which nothing has written in this block", code);
  if ((cell.writer_bytes & mask) && unordered(block, thread, cell.write_epoch, cell.write_warp_epoch, cell.writer)) report_race(block, thread, Access::read, offset, bytes, "wrote", cell.writer, code);
  if (bytes > 1) note_read(block, thread, cell);
}

void check_write(Block& block, Thread& thread, SharedCell& cell, uint8_t mask, uint32_t offset, uint32_t bytes, const void* code) {
  if ((cell.writer_bytes & mask) && unordered(block, thread, cell.write_epoch, cell.write_warp_epoch, cell.writer)) report_race(block, thread, Access::write, offset, bytes, "wrote", cell.writer, code);
  if (cell.read_epoch != block.epoch) return;
  const bool same_warp = cell.reader / kLanes == thread.warp, same_time = cell.read_warp_epoch == block.warps[thread.warp].epoch;
  // Of two warps that read, at least one is another one; of two lanes, at least one is another one.
  if (cell.many_warps || !same_warp || (same_time && (cell.many_lanes || cell.reader != thread.index))) report_race(block, thread, Access::write, offset, bytes, "read", cell.reader, code);
}

void require_inside(Block& block, Thread& thread, uint64_t offset, uint32_t bytes, Access access, const void* code) {
  const uint64_t declared = uint64_t(block.launch->shared_bytes);
  if (offset + bytes > declared) report(block, thread, shared_access(access, uint32_t(offset), bytes) + " of the " + std::to_string(declared) + " bytes that the launch declared", code);
}

template <typename F>
void for_cells(Block& block, uint32_t offset, uint32_t bytes, F&& f) {
  const uint8_t mask = bytes == 1 ? uint8_t(1u << (offset & 1)) : 3;
  for (uint32_t cell = offset / 2, last = (offset + bytes - 1) / 2; cell <= last; ++cell) f(block.cells[cell], mask);
}

void check_shared(Block& block, Thread& thread, uint32_t offset, uint32_t bytes, Access access, const void* code) {
  require_inside(block, thread, offset, bytes, access, code);
  for_cells(block, offset, bytes, [&](SharedCell& cell, uint8_t mask) {
    if (cell.in_flight != 0 && cell.in_flight_block == block.serial) report(block, thread, shared_access(access, offset, bytes) + ", where a copy_async has been issued and not waited for", code);
    if (access == Access::read) return check_read(block, thread, cell, mask, offset, bytes, code);
    if (access == Access::atomic) {
      if (cell.write_epoch < block.first_epoch) report(block, thread, shared_access(access, offset, bytes) + ", which nothing has written in this block", code);
      return;
    }
    check_write(block, thread, cell, mask, offset, bytes, code);
    note_write(block, thread, cell, mask);
  });
}

constexpr uintptr_t kStacks = uintptr_t(kMaxThreads) * 64 * 1024, kArguments = 4096;

}  // namespace

void check_access(Block& block, Thread& thread, const void* p, uint32_t bytes, Access access, bool aligned, const void* code) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  if (address - reinterpret_cast<uintptr_t>(block.stacks) < kStacks) return;
  const uintptr_t offset = address - reinterpret_cast<uintptr_t>(block.shared);
  const bool shared = offset < uintptr_t(kMaxShared);
  if (aligned && address % bytes != 0) {
    report(block, thread, std::string(verb(access)) + bytes_at(bytes) + (shared ? " of shared memory" : " of global memory") + " at an address that is " + std::to_string(address % bytes) + " past a multiple of " + std::to_string(bytes), code);
  }
  if (shared) return check_shared(block, thread, uint32_t(offset), bytes, access, code);
  if (access == Access::read && address - reinterpret_cast<uintptr_t>(block.arguments) < kArguments) return;
  check_global(block, thread, address, bytes, access, code);
}

void check_copy_issued(Block& block, Thread& thread, const void* shared, uint32_t bytes, const void* code) {
  const uintptr_t offset = reinterpret_cast<uintptr_t>(shared) - reinterpret_cast<uintptr_t>(block.shared);
  if (offset >= uintptr_t(kMaxShared)) report(block, thread, "copies asynchronously to what is not shared memory", code);
  if (offset % bytes != 0) report(block, thread, shared_access(Access::write, uint32_t(offset), bytes) + " by copy_async: not a multiple of " + std::to_string(bytes), code);
  require_inside(block, thread, offset, bytes, Access::write, code);
  for_cells(block, uint32_t(offset), bytes, [&](SharedCell& cell, uint8_t mask) {
    check_write(block, thread, cell, mask, uint32_t(offset), bytes, code);
    if (cell.in_flight_block != block.serial) cell.in_flight = 0;
    cell.in_flight_block = block.serial;
    if (cell.in_flight != 0) report(block, thread, shared_access(Access::write, uint32_t(offset), bytes) + " by copy_async, where another copy_async has been issued and not waited for", code);
    ++cell.in_flight;
  });
}

void note_copy_landed(Block& block, Thread& thread, const void* shared, uint32_t bytes) {
  const uint32_t offset = uint32_t(reinterpret_cast<uintptr_t>(shared) - reinterpret_cast<uintptr_t>(block.shared));
  for_cells(block, offset, bytes, [&](SharedCell& cell, uint8_t mask) {
    --cell.in_flight;
    note_write(block, thread, cell, mask);
  });
}

void register_memory(void* data, int64_t bytes) {
  const MemoryRange range{reinterpret_cast<uintptr_t>(data), uintptr_t(bytes), static_cast<GlobalCell*>(calloc(cells_of(uintptr_t(bytes)), sizeof(GlobalCell)))};
  Registry& r = registry();
  const std::unique_lock lock(r.mutex);
  r.ranges[range.begin] = range;
}

void unregister_memory(void* data) {
  Registry& r = registry();
  const std::unique_lock lock(r.mutex);
  const auto found = r.ranges.find(reinterpret_cast<uintptr_t>(data));
  if (found == r.ranges.end()) return;
  free(found->second.cells);
  r.ranges.erase(found);
}

void forget_global_accesses() {
  Registry& r = registry();
  const std::unique_lock lock(r.mutex);
  for (auto& [begin, range] : r.ranges) {
    if (range.cells) memset(static_cast<void*>(range.cells), 0, cells_of(range.bytes) * sizeof(GlobalCell));
  }
}

}  // namespace polypaca::emulator

// ---- what g++ calls ----

namespace {
using namespace polypaca::emulator;

inline void on_access(const void* p, uint32_t bytes, Access access, bool aligned, const void* code) {
  if (Block* block = running) check_access(*block, *block->current, p, bytes, access, aligned, code);
}
}  // namespace

#define POLYPACA_ACCESS(bytes)                                                                                                      \
  void __tsan_read##bytes(void* p) { on_access(p, bytes, Access::read, true, __builtin_return_address(0)); }                        \
  void __tsan_write##bytes(void* p) { on_access(p, bytes, Access::write, true, __builtin_return_address(0)); }                      \
  void __tsan_volatile_read##bytes(void* p) { on_access(p, bytes, Access::read, true, __builtin_return_address(0)); }               \
  void __tsan_volatile_write##bytes(void* p) { on_access(p, bytes, Access::write, true, __builtin_return_address(0)); }             \
  void __tsan_unaligned_read##bytes(void* p) { on_access(p, bytes, Access::read, false, __builtin_return_address(0)); }             \
  void __tsan_unaligned_write##bytes(void* p) { on_access(p, bytes, Access::write, false, __builtin_return_address(0)); }           \
  void __tsan_unaligned_volatile_read##bytes(void* p) { on_access(p, bytes, Access::read, false, __builtin_return_address(0)); }    \
  void __tsan_unaligned_volatile_write##bytes(void* p) { on_access(p, bytes, Access::write, false, __builtin_return_address(0)); }

// Atomics of host code (shared pointers, static locals); kernels have device.h's.
#define POLYPACA_ATOMIC(bits, T)                                                                                                    \
  T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }                           \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }                           \
  T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }                 \
  T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }                 \
  T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); }                 \
  T __tsan_atomic##bits##_fetch_and(volatile T* p, T v, int) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); }                 \
  T __tsan_atomic##bits##_fetch_or(volatile T* p, T v, int) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }                   \
  T __tsan_atomic##bits##_fetch_xor(volatile T* p, T v, int) { return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST); }                 \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T v, int, int) {                                    \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                  \
  }                                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T v, int, int) {                                      \
    return __atomic_compare_exchange_n(p, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                   \
  }

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}
void __tsan_read_range(void* p, unsigned long bytes) { on_access(p, uint32_t(bytes), Access::read, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, unsigned long bytes) { on_access(p, uint32_t(bytes), Access::write, false, __builtin_return_address(0)); }
POLYPACA_ACCESS(1)
POLYPACA_ACCESS(2)
POLYPACA_ACCESS(4)
POLYPACA_ACCESS(8)
POLYPACA_ACCESS(16)
POLYPACA_ATOMIC(8, uint8_t)
POLYPACA_ATOMIC(16, uint16_t)
POLYPACA_ATOMIC(32, uint32_t)
POLYPACA_ATOMIC(64, uint64_t)
}
