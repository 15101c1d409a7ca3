// A product by one thread an element: for those that cuBLASLt has no algorithm for (single rows, odd strides). Right, not fast.
#pragma once
#include "cuda/products.h"

namespace polypaca::POLYPACA_CUDA {

void plain_product(const Product& product, const Stream& stream);

}  // namespace polypaca::POLYPACA_CUDA
