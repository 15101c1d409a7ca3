// Launching a kernel without <<< >>>, so that the same line launches it on the GPU and in the emulator:
//   launch(norm_forward<bf16>, Grid(N), 256, sizeof(NormShared), stream, y, x, N, C);
// Arguments are converted to the kernel's parameter types, which must be trivially copyable.
#pragma once
#include <cstdint>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda/namespace.h"
#include "cuda/runtime.h"
#if defined(POLYPACA_EMULATED)
#include "test/emulator/emulator.h"
#include "test/emulator/queue.h"
#endif

namespace polypaca::POLYPACA_CUDA {

/// Blocks of a launch, and the line that launches, for error messages.
struct Grid {
  Grid(int64_t x, int64_t y = 1, int64_t z = 1, const std::source_location& at = std::source_location::current()) : x(x), y(y), z(z), at(at) {}
  int64_t x, y, z;
  std::source_location at;
};

constexpr int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

#if defined(POLYPACA_EMULATED)

template <typename... Parameters>
struct PackedLaunch {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;
  static void enter(const void* packed) {
    const auto& p = *static_cast<const PackedLaunch*>(packed);
    std::apply(p.kernel, p.arguments);
  }
};

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Grid& grid, int threads, int64_t shared_bytes, const Stream& stream, const Arguments&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...));
  const PackedLaunch<Parameters...> packed{kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)};
  queue(stream, [=] {
    emulator::run({reinterpret_cast<const void*>(kernel), &PackedLaunch<Parameters...>::enter, &packed, int64_t(sizeof packed), {grid.x, grid.y, grid.z}, threads, shared_bytes, grid.at});
  });
}

#else

/// Throws Error naming the launching line. Opts in to more than 48 KiB of shared memory at a kernel's first launch.
void launch_kernel(const void* kernel, const Grid& grid, int threads, int64_t shared_bytes, const Stream& stream, void** arguments);

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const Grid& grid, int threads, int64_t shared_bytes, const Stream& stream, const Arguments&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...));
  std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
  std::apply(
      [&](Parameters&... value) {
        void* pointers[] = {&value..., nullptr};
        launch_kernel(reinterpret_cast<const void*>(kernel), grid, threads, shared_bytes, stream, pointers);
      },
      values);
}

#endif

}  // namespace polypaca::POLYPACA_CUDA
