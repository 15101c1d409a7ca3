// The sources of native/cuda are compiled twice: by nvcc for a GPU, and by g++ as plain C++ for the emulator (native/test/emulator).
// Both may be in one addon, each in a namespace of its own: polypaca::cuda and polypaca::cuda_emulated.
#pragma once

#if defined(POLYPACA_EMULATED)
#define POLYPACA_CUDA cuda_emulated
#else
#define POLYPACA_CUDA cuda
#endif
