// The values of a model as a few flat runs, so that gradients, moments and the optimiser's pass need no list of tensors.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace polypaca {

/// Where a parameter's values lie. `matrices` are multiplied in the compute type; `vectors` (norms, biases) are always fp32;
/// `adapters` are fp32 with a copy in the compute type.
enum class Space : uint8_t { matrices, vectors, adapters };

struct Parameter {
  std::string name;  // as in the checkpoint
  std::vector<int64_t> shape;
  Space space = Space::matrices;
  int64_t offset = 0, count = 0;  // elements, in the space
};

/// One flat run. Any of the buffers may be null: a frozen bf16 matrix has no fp32 values, an fp32 one no bf16 copy, and a trained bf16
/// one holds its fp32 values as halves, `low` and `remainder`.
/// Gaps from alignment hold zeros everywhere, and stay zero under AdamW.
class FlatValues {
 public:
  FlatValues(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}
  ~FlatValues();
  FlatValues(const FlatValues&) = delete;
  FlatValues& operator=(const FlatValues&) = delete;

  /// Reserves `elements`, the first of them aligned to 64 bytes in every buffer. Before any allocate_ call.
  int64_t reserve(int64_t elements);
  int64_t count() const { return count_; }

  void allocate_fp32();
  void allocate_low();
  void allocate_remainder();
  void allocate_gradient();
  void allocate_moments();
  void release_remainder();
  void release_gradient();
  void release_moments();
  void release_all();
  /// Forgets the layout as well; after release_all.
  void clear() { count_ = 0; }
  /// Of the same back end.
  void swap(FlatValues& other);

  /// The values products read: the bf16 copy where there is one.
  Matrix compute(int64_t offset, int64_t ld) const {
    return low ? Matrix{low + offset, DType::bf16, ld} : Matrix{fp32 + offset, DType::f32, ld};
  }

  /// The optimiser's view from `offset` on.
  MasterValues masters(int64_t offset = 0) const { return MasterValues{fp32, low, remainder}.at(offset); }
  /// Whether fp32 values can be had, in whatever form.
  bool has_masters() const { return fp32 || remainder; }

  float* fp32 = nullptr;
  bf16* low = nullptr;
  int16_t* remainder = nullptr;
  float *grad = nullptr, *m = nullptr, *v = nullptr;

 private:
  template <typename T>
  void allocate(T*& buffer);
  template <typename T>
  void release(T*& buffer);

  std::shared_ptr<Backend> backend_;
  int64_t count_ = 0;
};

/// Gives elements first .. first + n - 1 of a parameter in fp32.
using ParameterFiller = std::function<void(const Parameter&, float* dst, int64_t first, int64_t n)>;

}  // namespace polypaca
