#include "cuda/cublaslt_products.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "cuda/fingerprint.h"
#include "cuda/plain_product.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

using namespace cublaslt;

constexpr int64_t kMostTrialBytes = int64_t(1) << 30;    // of an output that tuning may not write to, hence copies
constexpr int kProposals = 12, kTimedRuns = 4;
constexpr size_t kMostPlans = 4096;

/// What the address is a multiple of, as the library counts it: up to 256 bytes.
uint32_t alignment_of(const void* p) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p) | 256;
  return uint32_t(address & (~address + 1));
}

/// Sizes within an eighth of an octave share an algorithm: micro batches differ in length, and a choice costs a hundred products.
int64_t size_class(int64_t size) {
  int64_t step = 1;
  while (step * 16 < size) step *= 2;
  return (size + step - 1) / step * step;
}

}  // namespace

struct CublasLtProducts::StreamState {
  explicit StreamState(std::shared_ptr<const Library> used) : library(std::move(used)) {
    const Status status = library->call.Create(&handle);
    if (status == kNotInitialized) throw Error(ErrorCode::unsupported, "cublasLtCreate found no usable GPU (" + library->path + ")");
    library->check(status, "Create");
    try {
      workspace = allocate_device(kProductWorkspaceBytes);
    } catch (...) {
      library->call.Destroy(handle);
      throw;
    }
  }
  ~StreamState() {
    library->call.Destroy(handle);
    release_device(workspace);
  }
  std::shared_ptr<const Library> library;
  Handle handle = nullptr;
  void* workspace = nullptr;
};

/// The library's descriptions of one product, and the algorithm chosen for it.
struct CublasLtProducts::Plan {
  Plan(std::shared_ptr<const Library> used, const Request& r) : library(std::move(used)), request(r), name(class_of(r)) {
    try {
      const Functions& call = library->call;
      library->check(call.MatmulDescCreate(&descriptor, kCompute32F, kFloat32), "MatmulDescCreate");
      set(kTransposeA, r.op_a);
      set(kTransposeB, r.op_b);
      set(kEpilogue, r.epilogue);
      if (r.epilogue == kBias) set(kBiasType, r.d_type);
      const bool turned_a = r.op_a == kTranspose, turned_b = r.op_b == kTranspose;
      library->check(call.MatrixLayoutCreate(&a, kBfloat16, uint64_t(turned_a ? r.k : r.m), uint64_t(turned_a ? r.m : r.k), r.lda), "MatrixLayoutCreate");
      library->check(call.MatrixLayoutCreate(&b, kBfloat16, uint64_t(turned_b ? r.n : r.k), uint64_t(turned_b ? r.k : r.n), r.ldb), "MatrixLayoutCreate");
      library->check(call.MatrixLayoutCreate(&d, r.d_type, uint64_t(r.m), uint64_t(r.n), r.ldd), "MatrixLayoutCreate");
    } catch (...) {
      destroy();
      throw;
    }
  }
  ~Plan() { destroy(); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  template <typename T>
  void set(DescriptorAttribute attribute, T value) const {
    library->check(library->call.MatmulDescSetAttribute(descriptor, attribute, &value, sizeof value), "MatmulDescSetAttribute");
  }
  void destroy() {
    const Functions& call = library->call;
    if (descriptor) call.MatmulDescDestroy(descriptor);
    for (Layout layout : {a, b, d}) {
      if (layout) call.MatrixLayoutDestroy(layout);
    }
  }

  std::shared_ptr<const Library> library;
  Request request;
  std::string name;  // of its class
  Descriptor descriptor = nullptr;
  Layout a = nullptr, b = nullptr, d = nullptr;
  Algorithm algorithm = {};
  int64_t workspace_bytes = 0;
  bool plain = false;  // no algorithm of the library's
  bool chosen = false, final = false;  // chosen and not final: while a graph was recorded; to be tuned when there is time
};

CublasLtProducts::CublasLtProducts(std::shared_ptr<const Library> library, const std::string& gpu, Options options)
    : library_(std::move(library)), options_(std::move(options)), tuned_(options_.tune ? options_.cache_folder : "", library_->version, gpu) {}

CublasLtProducts::~CublasLtProducts() = default;

CublasLtProducts::Request CublasLtProducts::request_of(const Product& p) {
  if (p.a.dtype != DType::bf16 || p.b.dtype != DType::bf16 || p.d.dtype == DType::f16) fail(ErrorCode::internal, "a cuBLASLt product takes bf16 factors and gives bf16 or fp32");
  Request r;
  r.m = p.N, r.n = p.M, r.k = p.K;
  r.lda = p.b.ld, r.ldb = p.a.ld, r.ldd = p.d.ld;
  r.op_a = p.transpose_b ? kTranspose : kNone;  // b [N, K] by rows is [K, N] by columns: turned
  r.op_b = p.transpose_a ? kTranspose : kNone;
  r.d_type = p.d.dtype == DType::f32 ? kFloat32 : kBfloat16;
  r.epilogue = p.bias ? kBias : kDefault;
  r.align_a = alignment_of(p.b.data), r.align_b = alignment_of(p.a.data), r.align_d = alignment_of(p.d.data);
  r.align_bias = p.bias ? alignment_of(p.bias) : 0;
  return r;
}

std::string CublasLtProducts::class_of(const Request& r) {
  auto number = [](int64_t value) { return std::to_string(value); };
  std::string name = "m=" + number(size_class(r.m)) + " n=" + number(size_class(r.n)) + " k=" + number(size_class(r.k));
  name += " ld=" + number(r.lda) + "," + number(r.ldb) + "," + number(r.ldd);
  name += std::string(" ops=") + (r.op_a == kTranspose ? "T" : "N") + (r.op_b == kTranspose ? "T" : "N");
  name += r.d_type == kFloat32 ? " bf16->fp32" : " bf16->bf16";
  name += r.epilogue == kBias ? " bias" : "";
  return name + " align=" + number(r.align_a) + "," + number(r.align_b) + "," + number(r.align_d) + "," + number(r.align_bias);
}

CublasLtProducts::StreamState& CublasLtProducts::state_of(const Stream& stream) {
  std::unique_ptr<StreamState>& state = streams_[stream.handle()];
  if (!state) {
    if (stream.recording()) fail(ErrorCode::internal, "a stream's first product may not be recorded: call prepare() before");
    state = std::make_unique<StreamState>(library_);
  }
  return *state;
}

void CublasLtProducts::prepare(const Stream& stream) { state_of(stream); }

/// The library's proposals, best first by its own estimate. `reductions`: ways of splitting the sums that are allowed.
std::vector<HeuristicResult> CublasLtProducts::propose(const Plan& plan, StreamState& state, int wanted, uint32_t reductions) const {
  const Functions& call = library_->call;
  const Request& r = plan.request;
  Preference preference = nullptr;
  library_->check(call.MatmulPreferenceCreate(&preference), "MatmulPreferenceCreate");
  auto set = [&](PreferenceAttribute attribute, auto value) { library_->check(call.MatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value), "MatmulPreferenceSetAttribute"); };
  std::vector<HeuristicResult> results(static_cast<size_t>(wanted));
  int found = 0;
  try {
    set(kMaxWorkspace, uint64_t(kProductWorkspaceBytes));
    set(kReductionMask, reductions);
    set(kAlignmentA, r.align_a);
    set(kAlignmentB, r.align_b);
    set(kAlignmentC, r.align_d);
    set(kAlignmentD, r.align_d);
    const Status status = call.MatmulAlgoGetHeuristic(state.handle, plan.descriptor, plan.a, plan.b, plan.d, plan.d, preference, wanted, results.data(), &found);
    if (status != kNotSupported) library_->check(status, "MatmulAlgoGetHeuristic");
  } catch (...) {
    call.MatmulPreferenceDestroy(preference);
    throw;
  }
  call.MatmulPreferenceDestroy(preference);
  results.resize(size_t(std::max(found, 0)));
  std::erase_if(results, [](const HeuristicResult& x) { return x.status != kSuccess || int64_t(x.workspace_bytes) > kProductWorkspaceBytes; });
  return results;
}

Status CublasLtProducts::multiply(const Plan& plan, const Product& p, const Algorithm& algorithm, int64_t workspace_bytes, StreamState& state, const Stream& stream) const {
  return library_->call.Matmul(state.handle, plan.descriptor, &p.alpha, p.b.data, plan.a, p.a.data, plan.b, &p.beta, p.d.data, plan.d, p.d.data, plan.d, &algorithm, state.workspace, size_t(workspace_bytes), stream.handle());
}

/// Seconds of one product with this algorithm; infinite where it does not run or does not repeat bit for bit.
double CublasLtProducts::time_of(const Plan& plan, const Product& p, const HeuristicResult& candidate, StreamState& state, const Stream& stream) const {
  auto once = [&] { return multiply(plan, p, candidate.algorithm, int64_t(candidate.workspace_bytes), state, stream); };
  const double never = std::numeric_limits<double>::infinity();
  uint64_t prints[2];
  for (uint64_t& print : prints) {
    if (once() != kSuccess) return never;
    print = fingerprint(p.d, p.M, p.N, state.workspace, stream);
  }
  if (prints[0] != prints[1]) return never;
  Event start, end;
  start.record(stream);
  for (int i = 0; i < kTimedRuns; ++i) {
    if (once() != kSuccess) return never;
  }
  end.record(stream);
  end.synchronize();
  return end.seconds_since(start) / kTimedRuns;
}

/// Times the proposals on the product itself with beta = 0: into d where d is only written, else into memory taken for it.
/// False where there is none, or no proposal passed.
bool CublasLtProducts::tune(Plan& plan, const Product& product, StreamState& state, const Stream& stream) {
  Product trial = product;
  std::unique_ptr<void, void (*)(void*)> memory(nullptr, release_device);
  if (product.beta != 0.0f) {
    const int64_t bytes = product.M * product.d.ld * size_of(product.d.dtype);
    if (bytes > kMostTrialBytes) return false;
    try {
      memory.reset(allocate_device(bytes));
    } catch (const Error&) {
      return false;
    }
    trial.d.data = memory.get();  // on 256 bytes: at least what was asked about
    trial.beta = 0.0f;
  }
  std::vector<HeuristicResult> candidates = propose(plan, state, kProposals, kOneSequence);
  // Sums split over blocks and added in a pass of their own repeat, too: the way to fill a GPU where d is small and K is long.
  for (const HeuristicResult& split : propose(plan, state, kProposals, kInComputeType)) candidates.push_back(split);
  double best = std::numeric_limits<double>::infinity();
  TunedAlgorithm fastest;
  for (const HeuristicResult& candidate : candidates) {
    const double seconds = time_of(plan, trial, candidate, state, stream);
    if (!(seconds < best)) continue;
    best = seconds;
    fastest = {candidate.algorithm, int64_t(candidate.workspace_bytes), seconds * 1e6};
  }
  if (memory) stream.synchronize();
  if (best == std::numeric_limits<double>::infinity()) return false;
  tuned_.keep(plan.name, fastest);
  plan.algorithm = fastest.algorithm;
  plan.workspace_bytes = fastest.workspace_bytes;
  return true;
}

/// What was tuned for this class, where the library accepts it for this product.
bool CublasLtProducts::take_tuned(Plan& plan, StreamState& state) const {
  const TunedAlgorithm* tuned = tuned_.find(plan.name);
  if (!tuned) return false;
  HeuristicResult result = {};
  const Status status = library_->call.MatmulAlgoCheck(state.handle, plan.descriptor, plan.a, plan.b, plan.d, plan.d, &tuned->algorithm, &result);
  if (status != kSuccess || int64_t(result.workspace_bytes) > kProductWorkspaceBytes) return false;
  plan.algorithm = tuned->algorithm;
  plan.workspace_bytes = int64_t(result.workspace_bytes);
  return true;
}

void CublasLtProducts::take_proposal(Plan& plan, StreamState& state) const {
  const std::vector<HeuristicResult> proposals = propose(plan, state, 1, kOneSequence);
  plan.plain = proposals.empty();
  if (plan.plain) return;
  plan.algorithm = proposals[0].algorithm;
  plan.workspace_bytes = int64_t(proposals[0].workspace_bytes);
}

void CublasLtProducts::choose(Plan& plan, const Product& product, StreamState& state, const Stream& stream) {
  const bool may_tune = options_.tune && !stream.recording();
  const bool tuned = options_.tune && (take_tuned(plan, state) || (may_tune && tune(plan, product, state, stream)));
  if (!tuned && !plan.chosen) take_proposal(plan, state);
  plan.chosen = true;
  plan.final = tuned || may_tune || !options_.tune;  // what could not be tuned is not tried again at every call
  const TunedAlgorithm* known = tuned ? tuned_.find(plan.name) : nullptr;
  choices_[plan.name] = {plan.name, plan.plain ? "none of cuBLASLt's: the plain kernel" : describe_algorithm(plan.algorithm), plan.workspace_bytes, known ? known->microseconds : 0};
}

CublasLtProducts::Plan& CublasLtProducts::plan_of(const Product& product, StreamState& state, const Stream& stream) {
  const Request request = request_of(product);
  auto at = plans_.find(request);
  if (at == plans_.end()) {
    if (plans_.size() >= kMostPlans) plans_.clear();  // lengths that never came again
    at = plans_.emplace(request, std::make_unique<Plan>(library_, request)).first;
  }
  Plan& plan = *at->second;
  if (product.bias) plan.set(kBiasPointer, product.bias);  // its alignment counts for the choice
  if (!plan.final && !(plan.chosen && stream.recording())) choose(plan, product, state, stream);
  return plan;
}

void CublasLtProducts::run(const Product& product, const Stream& stream) {
  if (product.M <= 0 || product.N <= 0) return;
  if (product.K <= 0) fail(ErrorCode::internal, "a product over no terms");
  StreamState& state = state_of(stream);
  const Plan& plan = plan_of(product, state, stream);
  if (plan.plain) plain_product(product, stream);
  else library_->check(multiply(plan, product, plan.algorithm, plan.workspace_bytes, state, stream), "Matmul");
}

std::string CublasLtProducts::describe() const {
  const int64_t v = library_->version;
  return "cuBLASLt " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100) + " (" + library_->path + ")";
}

std::vector<ProductChoice> CublasLtProducts::choices() const {
  std::vector<ProductChoice> all;
  for (const auto& [name, choice] : choices_) all.push_back(choice);
  return all;
}

/// "id 66, tile 20, stages 24, split 1".
std::string CublasLtProducts::describe_algorithm(const Algorithm& algorithm) const {
  std::string text;
  const std::pair<const char*, AlgorithmAttribute> parts[] = {{"id ", kAlgorithmId}, {", tile ", kTile}, {", stages ", kStages}, {", split ", kSplitK}};
  for (const auto& [label, attribute] : parts) {
    int32_t value = 0;
    size_t written = 0;
    if (library_->call.MatmulAlgoConfigGetAttribute(&algorithm, attribute, &value, sizeof value, &written) == kSuccess) text += label + std::to_string(value);
  }
  return text;
}

#if !defined(POLYPACA_EMULATED)
std::unique_ptr<Products> open_products(const DeviceProperties& device) {
  return std::make_unique<CublasLtProducts>(cublaslt::open_library(), device.name, CublasLtProducts::Options{true, user_cache_folder()});
}
#endif

}  // namespace polypaca::POLYPACA_CUDA
