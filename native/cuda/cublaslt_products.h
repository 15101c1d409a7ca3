// Dense products through cuBLASLt (cublaslt.h): bf16 inputs, fp32 accumulation, bf16 or fp32 output.
//
// Everything of ours is row-major, cuBLASLt's is stored by columns. A row-major matrix is its transpose stored by columns, so
// d = op(a) op(b) is asked for as d^T = op(b)^T op(a)^T: cuBLASLt's A is our b, its B our a, m = N, n = M, and no element moves.
// The bias then runs along m, our columns: the out-features.
//
// Which algorithm: what was tuned for this class of products (ProductClass), in this process or an earlier one; otherwise, outside
// the recording of a graph, the library's proposals are timed on the spot; while recording, its first proposal that needs no split
// of the sums is taken. Only algorithms that gave the same bits twice are kept, so that a run repeats. A product that the library has
// no algorithm for goes through plain_product.h.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/cublaslt.h"
#include "cuda/products.h"
#include "cuda/runtime.h"
#include "cuda/tuned_algorithms.h"

namespace polypaca::POLYPACA_CUDA {

/// Of each stream: what Hopper's algorithms are said to want.
constexpr int64_t kProductWorkspaceBytes = int64_t(32) << 20;

class CublasLtProducts final : public Products {
 public:
  struct Options {
    bool tune = true;          // false: the library's first proposal, always
    std::string cache_folder;  // for what tuning found; empty: not kept
  };
  /// One object per device, used by one thread at a time.
  CublasLtProducts(std::shared_ptr<const cublaslt::Library> library, const std::string& gpu, Options options);
  ~CublasLtProducts() override;

  void run(const Product& product, const Stream& stream) override;
  void prepare(const Stream& stream) override;
  int64_t workspace_bytes() const override { return kProductWorkspaceBytes; }
  std::string describe() const override;
  std::vector<ProductChoice> choices() const override;

 private:
  /// What cuBLASLt is asked, in its own terms: one product exactly.
  struct Request {
    int64_t m, n, k, lda, ldb, ldd;
    cublaslt::Operation op_a, op_b;
    cublaslt::DataType d_type;
    cublaslt::Epilogue epilogue;
    uint32_t align_a, align_b, align_d, align_bias;
    auto operator<=>(const Request&) const = default;
  };
  struct Plan;
  struct StreamState;

  static Request request_of(const Product& product);
  static std::string class_of(const Request& request);
  StreamState& state_of(const Stream& stream);
  Plan& plan_of(const Product& product, StreamState& state, const Stream& stream);
  void choose(Plan& plan, const Product& product, StreamState& state, const Stream& stream);
  bool take_tuned(Plan& plan, StreamState& state) const;
  void take_proposal(Plan& plan, StreamState& state) const;
  bool tune(Plan& plan, const Product& product, StreamState& state, const Stream& stream);
  double time_of(const Plan& plan, const Product& product, const cublaslt::HeuristicResult& candidate, StreamState& state, const Stream& stream) const;
  std::vector<cublaslt::HeuristicResult> propose(const Plan& plan, StreamState& state, int wanted, uint32_t reductions) const;
  cublaslt::Status multiply(const Plan& plan, const Product& product, const cublaslt::Algorithm& algorithm, int64_t workspace_bytes, StreamState& state, const Stream& stream) const;
  std::string describe_algorithm(const cublaslt::Algorithm& algorithm) const;

  std::shared_ptr<const cublaslt::Library> library_;
  Options options_;
  TunedAlgorithms tuned_;
  std::map<Request, std::unique_ptr<Plan>> plans_;
  std::map<void*, std::unique_ptr<StreamState>> streams_;
  std::map<std::string, ProductChoice> choices_;
};

}  // namespace polypaca::POLYPACA_CUDA
