// Adam's moments of each trained parameter in 8 bits, a quarter of fp32's memory: codes with a scale for every kMomentBlock values.
// Tensors of fewer than kSmallest elements keep fp32 moments, as bitsandbytes does: they are few bytes, and norms and biases are the
// ones that suffer.
#pragma once
#include <memory>
#include <vector>

#include "core/arena.h"
#include "model/parameters.h"

namespace polypaca {

class QuantizedMoments {
 public:
  static constexpr int64_t kSmallest = 4096;
  static bool is_quantized(const Parameter& p) { return p.count >= kSmallest; }
  static int64_t blocks(const Parameter& p) { return (p.count + kMomentBlock - 1) / kMomentBlock; }
  /// What the constructor takes for these parameters.
  static int64_t bytes(const std::vector<Parameter>& parameters);

  /// All zero. `parameters` must stay where they are.
  QuantizedMoments(std::shared_ptr<Backend> backend, const std::vector<Parameter>& parameters);

  struct Moments {
    uint8_t *m_codes = nullptr, *v_codes = nullptr;  // [count]; null: fp32
    float *m = nullptr, *v = nullptr;                // scales [blocks] beside codes, else the moments [count]
  };
  /// Of the parameter at this index.
  const Moments& at(size_t index) const { return moments_[index]; }

  /// The optimiser's step for that parameter, whose values lie in `values`.
  void update(size_t index, const FlatValues& values, float weight_decay, const AdamWOptions& options);

 private:
  static std::vector<Moments> lay_out(const std::vector<Parameter>& parameters, Arena& arena);

  std::shared_ptr<Backend> backend_;
  const std::vector<Parameter>& parameters_;
  Arena arena_;
  std::vector<Moments> moments_;
};

}  // namespace polypaca
