// The little of the CUDA runtime that the back end uses, in the host's terms. runtime_nvcc.cpp calls CUDA; the emulator has its own
// (native/test/emulator/runtime_emulated.cpp), where a stream runs what it is given at once. Failures throw Error; a freed or
// destroyed thing never does.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/namespace.h"

namespace polypaca::POLYPACA_CUDA {

struct DeviceProperties {
  int index = 0;
  std::string name;
  int major = 0, minor = 0;      // compute capability
  int64_t total_memory = 0;      // bytes
  int processors = 0;            // streaming multiprocessors
  int64_t shared_per_block = 0;  // bytes, opted in
  int64_t l2_bytes = 0;
};

/// All devices; empty with the reason in `why` where there is no driver or no device.
std::vector<DeviceProperties> list_devices(std::string& why);

/// Makes device `index` the calling thread's: everything below is about that one. Cheap where it is already.
void use_device(int index);

/// Free bytes of the calling thread's device.
int64_t free_memory();

/// In the order of launches; does not wait for other streams.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  /// cudaStream_t.
  void* handle() const { return handle_; }
  void synchronize() const;
  /// Whether what is queued goes into a graph instead of running: nothing may be allocated or waited for.
  bool recording() const;

 private:
  void* handle_ = nullptr;
};

class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(const Stream& stream);
  /// What is queued on `stream` from here on starts after what was recorded.
  void hold(const Stream& stream) const;
  /// The calling thread waits.
  void synchronize() const;
  /// Whether what was recorded is done.
  bool done() const;
  /// From `start` to this one, both recorded and done.
  double seconds_since(const Event& start) const;

 private:
  void* handle_ = nullptr;
};

/// Device memory on 256 bytes, content undefined; throws out_of_memory with what was asked for and what was free.
void* allocate_device(int64_t bytes);
void release_device(void* data);
/// Page-locked host memory: copies from and to it are asynchronous.
void* allocate_pinned(int64_t bytes);
void release_pinned(void* data);

/// Queued; `host` must stay as it is until the copy ran where it is pinned, and is read before return where it is not.
void copy_to_device(void* device, const void* host, int64_t bytes, const Stream& stream);
void copy_to_host(void* host, const void* device, int64_t bytes, const Stream& stream);
void copy_on_device(void* to, const void* from, int64_t bytes, const Stream& stream);
/// `rows` rows of `row_bytes`, `to_pitch` and `from_pitch` bytes apart.
void copy_rows_on_device(void* to, int64_t to_pitch, const void* from, int64_t from_pitch, int64_t row_bytes, int64_t rows, const Stream& stream);
void copy_rows_to_device(void* to, int64_t to_pitch, const void* host, int64_t from_pitch, int64_t row_bytes, int64_t rows, const Stream& stream);
void fill_bytes(void* device, uint8_t value, int64_t bytes, const Stream& stream);

/// Work recorded once and launched many times. begin(), launches on the stream, end(); then launch() as often as wanted.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void begin(const Stream& stream);
  void end(const Stream& stream);
  /// Ends a recording that failed, and drops it.
  void abandon(const Stream& stream) noexcept;
  bool ready() const { return executable_ != nullptr; }
  void launch(const Stream& stream) const;

 private:
  void* executable_ = nullptr;
};

/// A named range in a profiler's timeline (NVTX), from construction to destruction.
class ProfilerRange {
 public:
  explicit ProfilerRange(const char* name);
  ~ProfilerRange();
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace polypaca::POLYPACA_CUDA
