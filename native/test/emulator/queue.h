// Work on an emulated stream: runs at once, or goes into the graph that the stream is recording.
#pragma once
#include <functional>

#include "cuda/runtime.h"

namespace polypaca::cuda_emulated {

void queue(const Stream& stream, std::function<void()> operation);

}  // namespace polypaca::cuda_emulated
