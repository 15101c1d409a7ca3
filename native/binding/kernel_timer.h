// Times one back-end operation on buffers of its own: what `bench` measures the GEMM peak, the memory bandwidth and single
// kernels with. Nothing crosses to JavaScript while the clock runs.
#pragma once
#include <napi.h>

namespace polypaca {

/// timeKernel(op, shape, milliseconds): a promise of { seconds, fastest, calls }: the median and the least time of a call, over
/// as many calls as fit (three at least, and one before the clock starts). `op` is a member of Backend, or "triad":
/// a[i] = b[i] + s c[i] over `count` fp32 values, memory bandwidth by STREAM's rule. `shape` has backend.h's letters; see
/// KernelShape in kernel_timer.cpp.
Napi::Value time_kernel(const Napi::CallbackInfo& info);

}  // namespace polypaca
