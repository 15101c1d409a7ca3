// Operations whose kernels are not merged yet; each definition goes when its file comes.
#include "core/error.h"
#include "cuda/cuda_backend.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

[[noreturn]] void missing(const char* op) { throw Error(ErrorCode::unsupported, std::string(op) + " has no CUDA kernel yet"); }

}  // namespace

void CudaBackend::convert(Matrix, Matrix, int64_t, int64_t) { missing("convert"); }
void CudaBackend::scaled_copy(Matrix, Matrix, int64_t, int64_t, float) { missing("scaled_copy"); }
void CudaBackend::join_halves(float*, const bf16*, const int16_t*, int64_t) { missing("join_halves"); }
void CudaBackend::gather_rows(Matrix, Matrix, const int32_t*, int64_t, int64_t) { missing("gather_rows"); }
void CudaBackend::scatter_rows(Matrix, int64_t, Matrix, const int32_t*, int64_t, int64_t) { missing("scatter_rows"); }
void CudaBackend::linear_backward_bias(float*, Matrix, int64_t, int64_t) { missing("linear_backward_bias"); }
void CudaBackend::embedding_forward(Matrix, Matrix, const int32_t*, int64_t, int64_t) { missing("embedding_forward"); }
void CudaBackend::embedding_backward(float*, Matrix, const int32_t*, int64_t, int64_t) { missing("embedding_backward"); }
void CudaBackend::norm_forward(NormKind, Matrix, float*, float*, Matrix, const float*, const float*, int64_t, int64_t, float) { missing("norm_forward"); }
void CudaBackend::norm_recompute(NormKind, Matrix, const float*, const float*, Matrix, const float*, const float*, int64_t, int64_t) { missing("norm_recompute"); }
void CudaBackend::norm_backward(NormKind, Matrix, float, float*, float*, Matrix, Matrix, const float*, const float*, const float*, int64_t, int64_t) { missing("norm_backward"); }
void CudaBackend::prepare_weight(Weight&, bool) {}
void CudaBackend::release_weight(Weight&) {}
int64_t CudaBackend::prepared_bytes(int64_t, int64_t, DType, bool) const { return 0; }
void CudaBackend::linear_forward(Matrix, Matrix, const Weight&, const float*, const LoraTerm&, int64_t, float) { missing("linear_forward"); }
void CudaBackend::linear_backward_input(Matrix, Matrix, const Weight&, int64_t, float) { missing("linear_backward_input"); }
void CudaBackend::linear_backward_weight(float*, int64_t, Matrix, Matrix, int64_t, int64_t, int64_t, float, float) { missing("linear_backward_weight"); }
int64_t CudaBackend::product_scratch_bytes(const ProductShape*, int64_t) const { return 0; }
void CudaBackend::lora_down_forward(Matrix, Matrix, Matrix, const Dropout&, int64_t, int64_t, int64_t) { missing("lora_down_forward"); }
void CudaBackend::lora_up_backward(Matrix, Matrix, Matrix, int64_t, int64_t, int64_t) { missing("lora_up_backward"); }
void CudaBackend::lora_down_backward(Matrix, float*, Matrix, Matrix, Matrix, const Dropout&, int64_t, int64_t, int64_t) { missing("lora_down_backward"); }
void CudaBackend::activation_forward(Activation, Matrix, Matrix, int64_t, int64_t) { missing("activation_forward"); }
void CudaBackend::activation_backward(Activation, Matrix, Matrix, Matrix, int64_t, int64_t) { missing("activation_backward"); }
void CudaBackend::normalize_rows(Matrix, float*, Matrix, int64_t, int64_t) { missing("normalize_rows"); }
void CudaBackend::normalize_rows_backward(float*, const float*, Matrix, const float*, int64_t, int64_t) { missing("normalize_rows_backward"); }
void CudaBackend::cross_entropy(Matrix, float*, const int32_t*, int64_t, int64_t, const float*) { missing("cross_entropy"); }
void CudaBackend::add_losses(double*, const float*, int64_t) { missing("add_losses"); }
void CudaBackend::add_squares(double*, const float*, int64_t) { missing("add_squares"); }
void CudaBackend::finish_norm(StepState*) { missing("finish_norm"); }
void CudaBackend::adamw(const AdamWRange&, const AdamWOptions&) { missing("adamw"); }
void CudaBackend::adamw8bit(const AdamW8bitRange&, const AdamWOptions&) { missing("adamw8bit"); }

#if !defined(POLYPACA_EMULATED)
std::unique_ptr<Products> open_products(const DeviceProperties&) { missing("open_products"); }
#endif

}  // namespace polypaca::POLYPACA_CUDA
