// The part of cuBLASLt's binary interface that polypaca calls, declared from NVIDIA's public documentation: neither its header nor
// its import library is needed to build. native/test/cublaslt_header_test.cpp holds these values against NVIDIA's own header where
// one is installed, native/test/cublaslt_abi_test.cpp against the library itself.
//
// Descriptors, layouts and preferences are opaque and made by the library (their sizes differ between versions). Matrices are
// stored by columns there.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/namespace.h"

namespace polypaca::POLYPACA_CUDA::cublaslt {

using Status = int32_t;  // cublasStatus_t; 0 is success
constexpr Status kSuccess = 0, kNotInitialized = 1, kNotSupported = 15;

enum DataType : int32_t { kFloat32 = 0, kBfloat16 = 14 };                   // cudaDataType
enum ComputeType : int32_t { kCompute32F = 68 };                            // cublasComputeType_t
enum Operation : int32_t { kNone = 0, kTranspose = 1 };                     // cublasOperation_t
enum Epilogue : uint32_t { kDefault = 1, kBias = 4 };                       // cublasLtEpilogue_t
enum ReductionScheme : uint32_t { kOneSequence = 0, kInComputeType = 2 };   // cublasLtReductionScheme_t; a mask in preferences
enum DescriptorAttribute : int32_t { kTransposeA = 3, kTransposeB = 4, kEpilogue = 7, kBiasPointer = 8, kBiasType = 26 };
enum PreferenceAttribute : int32_t { kMaxWorkspace = 1, kReductionMask = 3, kAlignmentA = 5, kAlignmentB = 6, kAlignmentC = 7, kAlignmentD = 8 };
enum AlgorithmAttribute : int32_t { kAlgorithmId = 0, kTile = 1, kSplitK = 2, kReduction = 3, kStages = 6 };

/// cublasLtMatmulAlgo_t: may be stored and restored for the same version of the library.
struct Algorithm {
  uint64_t data[8];
};

/// cublasLtMatmulHeuristicResult_t.
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status status;
  float waves;
  int32_t reserved[4];
};

using Handle = struct HandleTag*;
using Descriptor = struct DescriptorTag*;
using Layout = struct LayoutTag*;
using Preference = struct PreferenceTag*;

/// cuBLASLt's functions, by its names without the prefix cublasLt.
struct Functions {
  Status (*Create)(Handle*);
  Status (*Destroy)(Handle);
  size_t (*GetVersion)();
  const char* (*GetStatusString)(Status);
  Status (*MatmulDescCreate)(Descriptor*, ComputeType, DataType scale_type);
  Status (*MatmulDescDestroy)(Descriptor);
  Status (*MatmulDescSetAttribute)(Descriptor, DescriptorAttribute, const void*, size_t bytes);
  Status (*MatrixLayoutCreate)(Layout*, DataType, uint64_t rows, uint64_t cols, int64_t ld);
  Status (*MatrixLayoutDestroy)(Layout);
  Status (*MatmulPreferenceCreate)(Preference*);
  Status (*MatmulPreferenceDestroy)(Preference);
  Status (*MatmulPreferenceSetAttribute)(Preference, PreferenceAttribute, const void*, size_t bytes);
  Status (*MatmulAlgoGetHeuristic)(Handle, Descriptor, Layout a, Layout b, Layout c, Layout d, Preference, int wanted, HeuristicResult*, int* found);
  Status (*MatmulAlgoCheck)(Handle, Descriptor, Layout a, Layout b, Layout c, Layout d, const Algorithm*, HeuristicResult*);
  Status (*MatmulAlgoConfigGetAttribute)(const Algorithm*, AlgorithmAttribute, void*, size_t bytes, size_t* written);
  Status (*Matmul)(Handle, Descriptor, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta, const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace, size_t workspace_bytes, void* stream);
};

/// The opened library; closed with the last owner.
class Library {
 public:
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  Functions call;
  std::string path;     // as it was opened
  int64_t version = 0;  // 130101 is 13.1.1

  /// Throws internal with the call's name and the library's text for the status.
  void check(Status status, const char* what) const;

 private:
  friend std::shared_ptr<const Library> open_library();
  explicit Library(void* handle, std::string path);
  void* handle_;
};

/// Where open_library looks, in this order: the file named by POLYPACA_CUBLASLT and then nothing else; the loader's path; the library
/// folders of CUDA_HOME, CUDA_PATH and /usr/local/cuda*; the folders nvidia/*/lib beside Python's packages, of the Python on PATH, of an
/// active environment and of the user's and the system's own.
std::vector<std::string> library_folders();

/// Opens the first cuBLASLt found. Throws unsupported with where it looked and how to name one, and where its version is not one
/// whose interface is known (12 and 13).
std::shared_ptr<const Library> open_library();

}  // namespace polypaca::POLYPACA_CUDA::cublaslt
