// A number that two matrices share only where they are the same bit for bit (up to one chance in 2^64): how the choice of
// algorithms tells on the device whether a product repeats.
#pragma once
#include "backend/backend.h"
#include "cuda/namespace.h"
#include "cuda/runtime.h"

namespace polypaca::POLYPACA_CUDA {

/// Device memory that fingerprint() needs.
constexpr int64_t kFingerprintBytes = 256 * 8;

/// Of [rows, cols]. Waits for the stream.
uint64_t fingerprint(Matrix m, int64_t rows, int64_t cols, void* scratch, const Stream& stream);

}  // namespace polypaca::POLYPACA_CUDA
