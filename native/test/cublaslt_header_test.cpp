// Holds cublaslt.h against NVIDIA's own header: everything here is checked by the compiler. Exit status 77: no header was found
// when the tests were built (CMake looked in POLYPACA_CUBLASLT_INCLUDE, CUDA's and Python's folders).
#include <cstdio>

#if defined(POLYPACA_CUBLASLT_HEADER)
#include <cublasLt.h>

#include <type_traits>

#include "cuda/cublaslt.h"

namespace ours = polypaca::cuda::cublaslt;

#define SAME_VALUE(a, b) static_assert(static_cast<long long>(a) == static_cast<long long>(b))
SAME_VALUE(ours::kSuccess, CUBLAS_STATUS_SUCCESS);
SAME_VALUE(ours::kNotInitialized, CUBLAS_STATUS_NOT_INITIALIZED);
SAME_VALUE(ours::kNotSupported, CUBLAS_STATUS_NOT_SUPPORTED);
SAME_VALUE(ours::kFloat32, CUDA_R_32F);
SAME_VALUE(ours::kBfloat16, CUDA_R_16BF);
SAME_VALUE(ours::kCompute32F, CUBLAS_COMPUTE_32F);
SAME_VALUE(ours::kNone, CUBLAS_OP_N);
SAME_VALUE(ours::kTranspose, CUBLAS_OP_T);
SAME_VALUE(ours::kDefault, CUBLASLT_EPILOGUE_DEFAULT);
SAME_VALUE(ours::kBias, CUBLASLT_EPILOGUE_BIAS);
SAME_VALUE(ours::kOneSequence, CUBLASLT_REDUCTION_SCHEME_NONE);
SAME_VALUE(ours::kInComputeType, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
SAME_VALUE(ours::kTransposeA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME_VALUE(ours::kTransposeB, CUBLASLT_MATMUL_DESC_TRANSB);
SAME_VALUE(ours::kEpilogue, CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME_VALUE(ours::kBiasPointer, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME_VALUE(ours::kBiasType, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE);
SAME_VALUE(ours::kMaxWorkspace, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME_VALUE(ours::kReductionMask, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
SAME_VALUE(ours::kAlignmentA, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME_VALUE(ours::kAlignmentB, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
SAME_VALUE(ours::kAlignmentC, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
SAME_VALUE(ours::kAlignmentD, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME_VALUE(ours::kAlgorithmId, CUBLASLT_ALGO_CONFIG_ID);
SAME_VALUE(ours::kTile, CUBLASLT_ALGO_CONFIG_TILE_ID);
SAME_VALUE(ours::kSplitK, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
SAME_VALUE(ours::kReduction, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
SAME_VALUE(ours::kStages, CUBLASLT_ALGO_CONFIG_STAGES_ID);

SAME_VALUE(sizeof(ours::Algorithm), sizeof(cublasLtMatmulAlgo_t));
SAME_VALUE(sizeof(ours::HeuristicResult), sizeof(cublasLtMatmulHeuristicResult_t));
SAME_VALUE(offsetof(ours::HeuristicResult, algorithm), offsetof(cublasLtMatmulHeuristicResult_t, algo));
SAME_VALUE(offsetof(ours::HeuristicResult, workspace_bytes), offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
SAME_VALUE(offsetof(ours::HeuristicResult, status), offsetof(cublasLtMatmulHeuristicResult_t, state));
SAME_VALUE(offsetof(ours::HeuristicResult, waves), offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));

/// What a parameter is to the calling convention: how many bytes, and whether a number, a pointer or a floating point value.
template <typename T>
constexpr int kind() {
  return std::is_pointer_v<T> ? 1 : std::is_floating_point_v<T> ? 2 : std::is_void_v<T> ? 3 : 4;
}
template <typename Ours, typename Theirs>
constexpr bool same_parameter() {
  if constexpr (std::is_void_v<Ours> || std::is_void_v<Theirs>) return std::is_void_v<Ours> && std::is_void_v<Theirs>;
  else return kind<Ours>() == kind<Theirs>() && sizeof(Ours) == sizeof(Theirs);
}
template <typename Ours, typename Theirs>
struct SameCall : std::false_type {};
template <typename R1, typename... P1, typename R2, typename... P2>
  requires(sizeof...(P1) == sizeof...(P2))
struct SameCall<R1 (*)(P1...), R2 (*)(P2...)> : std::bool_constant<same_parameter<R1, R2>() && (same_parameter<P1, P2>() && ...)> {};

#define SAME_CALL(name) static_assert(SameCall<decltype(ours::Functions::name), decltype(&cublasLt##name)>::value)
SAME_CALL(Create);
SAME_CALL(Destroy);
SAME_CALL(GetVersion);
SAME_CALL(GetStatusString);
SAME_CALL(MatmulDescCreate);
SAME_CALL(MatmulDescDestroy);
SAME_CALL(MatmulDescSetAttribute);
SAME_CALL(MatrixLayoutCreate);
SAME_CALL(MatrixLayoutDestroy);
SAME_CALL(MatmulPreferenceCreate);
SAME_CALL(MatmulPreferenceDestroy);
SAME_CALL(MatmulPreferenceSetAttribute);
SAME_CALL(MatmulAlgoGetHeuristic);
SAME_CALL(MatmulAlgoCheck);
SAME_CALL(MatmulAlgoConfigGetAttribute);
SAME_CALL(Matmul);

int main() {
  std::printf("cublaslt.h agrees with NVIDIA's cublasLt.h %d.%d.%d\n", CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR, CUBLAS_VER_PATCH);
  return 0;
}
#else
int main() {
  std::printf("skipped: no cublasLt.h was found when the tests were built; name its folder with POLYPACA_CUBLASLT_INCLUDE\n");
  return 77;
}
#endif
