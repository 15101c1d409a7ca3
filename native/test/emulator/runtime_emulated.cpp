// runtime.h for the emulator: device memory is host memory that kernels are allowed to touch, and everything runs
// when it is queued, or is kept for a graph.
#include <stdlib.h>
#include <string.h>

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/memory.h"
#include "cuda/held_memory.h"
#include "cuda/runtime.h"
#include "test/emulator/block.h"
#include "test/emulator/emulator.h"
#include "test/emulator/queue.h"

namespace polypaca::cuda_emulated {

std::vector<DeviceProperties> list_devices(std::string&) {
  DeviceProperties p;
  p.name = "emulator";
  p.total_memory = memory_limits().total;
  p.major = 8;
  p.shared_per_block = emulator::kMaxShared;
  p.processors = 8;  // few, yet enough for work to be split
  return {p};
}

void use_device(int) {}
int64_t free_memory() { return memory_limits().available; }

// ---- streams: a list to record into, while there is one ----

namespace {

using Operations = std::vector<std::function<void()>>;
struct StreamState {
  std::unique_ptr<Operations> recorded;
};
StreamState& state_of(const Stream& stream) { return *static_cast<StreamState*>(stream.handle()); }

}  // namespace

Stream::Stream() : handle_(new StreamState) {}
Stream::~Stream() { delete static_cast<StreamState*>(handle_); }
void Stream::synchronize() const {
  if (recording()) fail(ErrorCode::internal, "a stream is waited for while a graph is recorded");
}
bool Stream::recording() const { return state_of(*this).recorded != nullptr; }

void queue(const Stream& stream, std::function<void()> operation) {
  if (stream.recording()) {
    state_of(stream).recorded->push_back(std::move(operation));
  } else {
    operation();
  }
}

namespace {
using Time = std::chrono::steady_clock::time_point;
}

Event::Event() : handle_(new Time) {}
Event::~Event() { delete static_cast<Time*>(handle_); }
void Event::record(const Stream&) { *static_cast<Time*>(handle_) = std::chrono::steady_clock::now(); }
void Event::hold(const Stream&) const {}
void Event::synchronize() const {}
bool Event::done() const { return true; }
double Event::seconds_since(const Event& start) const { return std::chrono::duration<double>(*static_cast<Time*>(handle_) - *static_cast<Time*>(start.handle_)).count(); }

void* allocate_device(int64_t bytes) {
  void* data = nullptr;
  const int64_t size = bytes > 0 ? bytes : 1;
  if (bytes < 0 || posix_memalign(&data, 256, size_t(size)) != 0) throw Error(ErrorCode::out_of_memory, "could not allocate " + std::to_string(bytes) + " bytes for the emulated device");
  memset(data, 0xFF, size_t(size));  // NaN: what was not written shows
  emulator::register_memory(data, bytes);
  note_taken(0, data, bytes);
  return data;
}

void release_device(void* data) {
  if (!data) return;
  note_returned(data);
  emulator::unregister_memory(data);
  free(data);
}

void* allocate_pinned(int64_t bytes) {
  void* data = nullptr;
  if (bytes < 0 || posix_memalign(&data, 256, size_t(bytes > 0 ? bytes : 1)) != 0) throw Error(ErrorCode::out_of_memory, "could not allocate " + std::to_string(bytes) + " bytes on the host");
  return data;
}
void release_pinned(void* data) { free(data); }

void copy_to_device(void* device, const void* host, int64_t bytes, const Stream& stream) {
  queue(stream, [=] { memcpy(device, host, size_t(bytes)); });
}
void copy_to_host(void* host, const void* device, int64_t bytes, const Stream& stream) {
  queue(stream, [=] { memcpy(host, device, size_t(bytes)); });
}
void copy_on_device(void* to, const void* from, int64_t bytes, const Stream& stream) {
  queue(stream, [=] { memmove(to, from, size_t(bytes)); });
}
void copy_rows_on_device(void* to, int64_t to_pitch, const void* from, int64_t from_pitch, int64_t row_bytes, int64_t rows, const Stream& stream) {
  queue(stream, [=] {
    for (int64_t row = 0; row < rows; ++row) memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, size_t(row_bytes));
  });
}
void copy_rows_to_device(void* to, int64_t to_pitch, const void* host, int64_t from_pitch, int64_t row_bytes, int64_t rows, const Stream& stream) {
  copy_rows_on_device(to, to_pitch, host, from_pitch, row_bytes, rows, stream);
}
void fill_bytes(void* device, uint8_t value, int64_t bytes, const Stream& stream) {
  queue(stream, [=] { memset(device, value, size_t(bytes)); });
}

// ---- graphs: the operations again, with the arguments they were recorded with ----

Graph::~Graph() { delete static_cast<Operations*>(executable_); }
void Graph::begin(const Stream& stream) {
  if (stream.recording()) fail(ErrorCode::internal, "a stream records one graph at a time");
  state_of(stream).recorded = std::make_unique<Operations>();
}
void Graph::end(const Stream& stream) {
  delete static_cast<Operations*>(executable_);
  executable_ = state_of(stream).recorded.release();
}
void Graph::abandon(const Stream& stream) noexcept { state_of(stream).recorded.reset(); }
void Graph::launch(const Stream&) const {
  for (const std::function<void()>& operation : *static_cast<const Operations*>(executable_)) operation();
}

ProfilerRange::ProfilerRange(const char*) {}
ProfilerRange::~ProfilerRange() = default;

}  // namespace polypaca::cuda_emulated
