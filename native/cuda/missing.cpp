// Operations whose kernels are not merged yet; each definition goes when its file comes.
#include "core/error.h"
#include "cuda/cuda_backend.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

[[noreturn]] void missing(const char* op) { throw Error(ErrorCode::unsupported, std::string(op) + " has no CUDA kernel yet"); }

}  // namespace

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
void CudaBackend::attention_forward(HeadView, float*, HeadView, HeadView, HeadView, const Sequences&, const AttentionShape&) { missing("attention_forward"); }
void CudaBackend::attention_backward(HeadView, HeadView, HeadView, HeadView, HeadView, const float*, HeadView, HeadView, HeadView, void*, const Sequences&, const AttentionShape&) { missing("attention_backward"); }
int64_t CudaBackend::attention_scratch_bytes(int64_t, const AttentionShape&) const { return 0; }
void CudaBackend::attention_decode(HeadView, HeadView, HeadView, HeadView, void*, void*, DType, const int32_t*, const int32_t*, const int32_t*, int64_t, int64_t, const AttentionShape&) { missing("attention_decode"); }
void CudaBackend::cache_prompt(void*, void*, DType, HeadView, HeadView, int64_t, int64_t, int64_t, int64_t, const AttentionShape&) { missing("cache_prompt"); }

#if !defined(POLYPACA_EMULATED)
std::unique_ptr<Products> open_products(const DeviceProperties&) { missing("open_products"); }
#endif

}  // namespace polypaca::POLYPACA_CUDA
