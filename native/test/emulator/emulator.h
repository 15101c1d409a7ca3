// Runs a kernel that was compiled as C++: one block at a time, each thread a fiber, the next thread to run drawn by a seeded
// generator (POLYPACA_EMULATOR_SEED, default 1). Faults of a kernel throw Error out of run(); block.h says what is checked.
#pragma once
#include <cstdint>
#include <source_location>

namespace polypaca::emulator {

struct Extent {
  int64_t x = 1, y = 1, z = 1;
};

struct Launch {
  const void* kernel;                // its address: what names it in messages
  void (*enter)(const void* packed); // calls the kernel with the arguments in `packed`
  const void* packed;
  int64_t packed_bytes;
  Extent grid;
  int threads;
  int64_t shared_bytes;
  std::source_location at;
};

/// Returns when all blocks ran. Launches of several host threads take turns.
void run(const Launch& launch);

/// Memory that kernels may touch, as cudaMalloc's: [data, data + bytes).
void register_memory(void* data, int64_t bytes);
void unregister_memory(void* data);

}  // namespace polypaca::emulator
