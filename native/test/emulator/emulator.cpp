// Threads as fibers, the order in which they run, and barriers.
#include "test/emulator/emulator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <mutex>
#include <numeric>
#include <set>
#include <tuple>

#include "core/error.h"
#include "test/emulator/block.h"
#include "test/emulator/symbols.h"
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace polypaca::emulator {

thread_local Block* running = nullptr;

namespace {

constexpr int64_t kStack = 64 * 1024, kArguments = 4096, kGuard = 4096;

// ---- fibers ----

[[noreturn]] void fiber_main();

#if defined(__x86_64__)

// Saves the registers that a called function must keep, and the stack pointer; ucontext would make a system call for the signal mask.
extern "C" void polypaca_switch_fiber(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl polypaca_switch_fiber
.hidden polypaca_switch_fiber
.type polypaca_switch_fiber, @function
polypaca_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size polypaca_switch_fiber, .-polypaca_switch_fiber
)");

void* new_fiber(char* stack) {
  // As a call would leave it: the stack pointer is 8 off a multiple of 16 when fiber_main starts.
  void** top = reinterpret_cast<void**>(stack + kStack - 16);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  return top;
}

void switch_fiber(void** save, void* load) { polypaca_switch_fiber(save, load); }

#else

void* new_fiber(char* stack) {
  // The context lies at the stack's lower end, above the guard page.
  ucontext_t* context = reinterpret_cast<ucontext_t*>(stack + kGuard);
  getcontext(context);
  context->uc_stack.ss_sp = stack + kGuard + sizeof(ucontext_t);
  context->uc_stack.ss_size = size_t(kStack - kGuard - int64_t(sizeof(ucontext_t)));
  context->uc_link = nullptr;
  makecontext(context, reinterpret_cast<void (*)()>(&fiber_main), 0);
  return context;
}

void switch_fiber(void** save, void* load) {
  ucontext_t here;  // lives on this stack for as long as the fiber is away
  *save = &here;
  swapcontext(&here, static_cast<ucontext_t*>(load));
}

#endif

uint32_t draw(Block& block, uint32_t below) {
  block.random ^= block.random << 13;  // xorshift64, Marsaglia 2003
  block.random ^= block.random >> 7;
  block.random ^= block.random << 17;
  return uint32_t(((block.random >> 32) * below) >> 32);
}

/// Takes one of the runnable threads away; null where there is none.
Thread* next_thread(Block& block) {
  if (block.runnable.empty()) return nullptr;
  uint32_t& slot = block.runnable[draw(block, uint32_t(block.runnable.size()))];
  Thread* thread = &block.threads[slot];
  slot = block.runnable.back();
  block.runnable.pop_back();
  return thread;
}

void switch_from(Block& block, void** save) {
  Thread* next = next_thread(block);
  block.current = next;
  switch_fiber(save, next ? next->stack_pointer : block.host_stack_pointer);
}

void release_barrier(Block& block) {
  block.at_barrier = 0;
  ++block.epoch;
  for (Thread& thread : block.threads) {
    if (!thread.finished) make_runnable(block, thread);
  }
}

void fiber_main() {
  Block& block = *running;
  Thread& thread = *block.current;
  block.launch->enter(block.arguments);
  thread.finished = true;
  --block.live;
  leave_warp(block, thread);
  if (block.live > 0 && block.at_barrier == block.live) release_barrier(block);
  switch_from(block, &thread.stack_pointer);
  __builtin_unreachable();
}

// ---- messages ----

std::string text(const Extent& e) { return "(" + std::to_string(e.x) + ", " + std::to_string(e.y) + ", " + std::to_string(e.z) + ")"; }

const char* short_file(const char* path) {
  const char* at = strstr(path, "native/");
  return at ? at : path;
}

std::string describe(const Launch& launch) {
  return function_at(launch.kernel) + " launched at " + short_file(launch.at.file_name()) + ":" + std::to_string(launch.at.line());
}

// ---- launches ----

char* map_memory(int64_t bytes) {
  void* data = mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) throw Error(ErrorCode::out_of_memory, "the emulator could not map " + std::to_string(bytes) + " bytes of stacks");
  return static_cast<char*>(data);
}

/// One emulated multiprocessor, kept between launches.
struct Machine {
  std::mutex mutex;
  Block block;
  std::set<std::tuple<const void*, int, int64_t>> recorded;  // kernel, threads, bytes of shared memory
  uint64_t seed = 1;

  void prepare() {
    const char* text = getenv("POLYPACA_EMULATOR_SEED");
    seed = text && *text ? strtoull(text, nullptr, 10) : 1;
    for (MemoryRange& range : block.recent) range = {};
    if (block.stacks) return;
    block.stacks = map_memory(kMaxThreads * kStack);
    for (int i = 0; i < kMaxThreads; ++i) mprotect(block.stacks + i * kStack, size_t(kGuard), PROT_NONE);  // overflow stops here
    block.shared = map_memory(kMaxShared);
    block.arguments = map_memory(kArguments);
    block.cells.resize(size_t(kMaxShared / 2));
  }
};

Machine& machine() {
  static Machine* one = new Machine;  // never destroyed: a thread may still run when the process ends
  return *one;
}

uint64_t mix(uint64_t x) {  // splitmix64, Steele et al. 2014
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

void require_valid(const Launch& launch) {
  const auto refuse = [&](const std::string& why) { throw Error(ErrorCode::internal, "emulator: " + describe(launch) + ": " + why); };
  const Extent& g = launch.grid;
  if (g.x < 1 || g.x > 0x7FFFFFFF || g.y < 1 || g.y > 65535 || g.z < 1 || g.z > 65535) refuse("grid " + text(g) + " is not within (2^31 - 1, 65535, 65535), at least 1 each");
  if (launch.threads < 1 || launch.threads > kMaxThreads || launch.threads % kLanes != 0) refuse(std::to_string(launch.threads) + " threads: expected a multiple of 32 up to 1024");
  if (launch.shared_bytes < 0 || launch.shared_bytes > kMaxShared) refuse(std::to_string(launch.shared_bytes) + " bytes of shared memory: at most 232448");
  if (launch.packed_bytes > kArguments) refuse(std::to_string(launch.packed_bytes) + " bytes of arguments: at most 4096");
}

/// POLYPACA_EMULATOR_LAUNCHES names a file that gets a line for every kernel, number of threads and size of shared memory that is
/// launched: what occupancy depends on beside registers (scripts/cuda-kernels.mjs).
void record(Machine& m, const Launch& launch) {
  const char* path = getenv("POLYPACA_EMULATOR_LAUNCHES");
  if (!path || !*path || !m.recorded.insert({launch.kernel, launch.threads, launch.shared_bytes}).second) return;
  FILE* file = fopen(path, "a");
  if (!file) throw Error(ErrorCode::io, std::string("POLYPACA_EMULATOR_LAUNCHES: ") + path + " cannot be opened for appending");
  fprintf(file, "%d\t%lld\t%s\n", launch.threads, static_cast<long long>(launch.shared_bytes), function_at(launch.kernel).c_str());
  fclose(file);
}

void start_block(Block& block, const Launch& launch, int64_t linear, uint64_t seed) {
  block.linear_index = linear;
  block.index = {linear % launch.grid.x, linear / launch.grid.x % launch.grid.y, linear / (launch.grid.x * launch.grid.y)};
  block.first_epoch = ++block.epoch;
  ++block.serial;
  // Half of the blocks, and with the next seed the other half: either way hides some faults (a missing wait, a missing barrier).
  block.copies_land_early = (mix(uint64_t(linear)) ^ seed) & 1;
  block.random = mix(seed * 0x10001 + uint64_t(linear)) | 1;
  block.live = launch.threads;
  block.at_barrier = 0;
  block.fault.clear();
  memset(block.shared, 0xFF, size_t(launch.shared_bytes));
  block.threads.resize(size_t(launch.threads));
  block.warps.resize(size_t(launch.threads / kLanes));
  for (Warp& warp : block.warps) {
    warp.live = 0xFFFFFFFFu;
    warp.arrived = 0;
  }
  block.runnable.clear();
  for (uint32_t i = 0; i < uint32_t(launch.threads); ++i) {
    Thread& thread = block.threads[i];
    thread.index = i;
    thread.lane = i % kLanes;
    thread.warp = i / kLanes;
    thread.barriers = thread.groups = 0;
    thread.finished = false;
    thread.copies.clear();
    thread.stack_pointer = new_fiber(block.stacks + i * kStack);
    make_runnable(block, thread);
  }
}

/// The threads that are left wait for each other in vain; or all ended, some past more barriers than others.
void require_ended_alike(Block& block) {
  const Thread* first = nullptr;
  for (const Thread& thread : block.threads) {
    if (thread.finished) continue;
    if (!first) first = &thread;
    if (strcmp(thread.waits_in, first->waits_in) != 0) {
      block.fault = "thread " + std::to_string(first->index) + " waits in " + first->waits_in + ", thread " + std::to_string(thread.index) + " in " + thread.waits_in + ": neither goes on";
      return;
    }
  }
  if (first) {
    block.fault = "thread " + std::to_string(first->index) + " waits in " + first->waits_in + " for threads that do not come";
    return;
  }
  for (const Thread& thread : block.threads) {
    if (thread.barriers != block.threads[0].barriers) {
      block.fault = "thread " + std::to_string(thread.index) + " passed " + std::to_string(thread.barriers) + " sync_threads, thread 0 passed " + std::to_string(block.threads[0].barriers);
      return;
    }
  }
}

/// After four billion barriers: nothing remembered may look as if it came later.
void restart_epochs(Block& block) {
  block.epoch = 0;
  for (SharedCell& cell : block.cells) cell = {};
  forget_global_accesses();
}

void run_block(Block& block) {
  running = &block;
  switch_from(block, &block.host_stack_pointer);
  running = nullptr;
  if (block.fault.empty()) require_ended_alike(block);
  if (!block.fault.empty()) throw Error(ErrorCode::internal, "emulator: " + describe(*block.launch) + ", block " + text(block.index) + ": " + block.fault);
}

}  // namespace

void make_runnable(Block& block, Thread& thread) {
  thread.waits_in = nullptr;
  block.runnable.push_back(thread.index);
}

void park(Block& block, const char* where) {
  Thread& thread = *block.current;
  thread.waits_in = where;
  switch_from(block, &thread.stack_pointer);
}

void report(Block& block, const Thread& thread, const std::string& what, const void* code) {
  block.fault = "thread " + std::to_string(thread.index) + " " + what + (code ? " (addr2line " + place_for_addr2line(code) + ")" : "");
  void* abandoned;
  block.current = nullptr;
  switch_fiber(&abandoned, block.host_stack_pointer);
  __builtin_unreachable();
}

void run(const Launch& launch) {
  require_valid(launch);
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  m.prepare();
  record(m, launch);
  Block& block = m.block;
  block.launch = &launch;
  if (block.epoch > 0xF0000000u) restart_epochs(block);
  block.launch_epoch = block.epoch + 1;
  memcpy(block.arguments, launch.packed, size_t(launch.packed_bytes));
  const int64_t blocks = launch.grid.x * launch.grid.y * launch.grid.z;
  // Blocks in an order drawn by the seed: start + i * step visits each once where step shares no factor with their number.
  const int64_t start = int64_t(mix(m.seed) % uint64_t(blocks));
  int64_t step = int64_t(mix(m.seed + 1) % uint64_t(blocks)) | 1;
  while (std::gcd(step, blocks) != 1) ++step;
  for (int64_t i = 0; i < blocks; ++i) {
    start_block(block, launch, (start + i * step) % blocks, m.seed);
    run_block(block);
  }
}

}  // namespace polypaca::emulator
