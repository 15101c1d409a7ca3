// A decoder's weights and adapters: what is loaded, trained, saved and merged. decoder.h computes with it.
#pragma once
#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "io/mapped_file.h"
#include "io/tensor_file.h"
#include "model/decoder_spec.h"
#include "model/parameters.h"

namespace polypaca {

struct ModelOptions {
  std::string device = "cpu";
  DType dtype = DType::f32;  // compute type
  bool allow_overcommit = false;
};

struct LoraSettings {
  int64_t rank = 8;
  double alpha = 16, scaling = 2, dropout = 0;
  std::vector<std::string> targets;
  uint64_t seed = 0;
};

struct Norm {
  int64_t weight = -1, bias = -1;  // offsets in `vectors`; bias -1: rms
};

/// One module's share of a site's adapter. In the stacked matrices its rows of A are [first_rank, first_rank + rank).
struct AdapterPart {
  std::string module;
  int64_t first_row = 0, rows = 0, first_rank = 0;
  int64_t up = 0;  // offset of B [rows, rank] in `adapters`
};

/// The adapters of the modules that read one input: A of all of them stacked, B block by block.
struct Adapter {
  int64_t R = 0;        // stacked rank; 0: none
  int64_t down = 0;     // offset of A [R, cols] in `adapters`
  Matrix up;            // [rows, R] in the compute type, scaling in it, zero outside the blocks; rewritten after each update
  std::vector<AdapterPart> parts;
};

struct Linear {
  Weight weight;
  int64_t offset = 0;     // of the weight in `matrices`
  int64_t bias = -1;      // offset in `vectors`
  Adapter adapter;
  bool gradient_started = false;  // within a step: the first product assigns, later ones add
};

struct Layer {
  Norm attention_norm, mlp_norm;
  std::array<Linear, kLinearSites> linear;
};

/// An adapter that is loaded and not in use: what Model holds of the active one.
struct InactiveAdapter {
  InactiveAdapter(std::shared_ptr<Backend> backend) : values(std::move(backend)) {}
  FlatValues values;
  std::vector<Parameter> parameters;
  std::unordered_map<std::string, size_t> index;
  LoraSettings lora;
  std::vector<std::array<Adapter, kLinearSites>> sites;  // of each layer
  int64_t number = 0;
};

class Model {
 public:
  Model(DecoderSpec spec, ModelOptions options);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  /// Reads every parameter. Throws checkpoint_mismatch naming a missing tensor or a shape that differs.
  void load(const std::vector<TensorSource>& sources);
  /// As transformers initialises: matrices normal(0, range), norm weights 1, biases 0.
  void initialize(uint64_t seed, float range);

  /// A uniform in +-1/sqrt(in_features) (PEFT's kaiming_uniform with a = sqrt(5)), B zero. Throws where a target names no module or adapters exist.
  void add_lora(const LoraSettings& settings);
  /// May be called again with other names; the adapter that was loaded last is the active one.
  void load_adapter(const std::string& name, const LoraSettings& settings, const std::vector<TensorSource>& sources);
  /// Makes the adapter of this name the one that passes use; empty: none. Throws invalid_argument where there is none of that name.
  void activate_adapter(const std::string& name);
  /// Whether activate_adapter takes this name.
  bool knows_adapter(const std::string& name) const { return name.empty() || name == adapter_name_ || inactive_adapters_.count(name) > 0; }
  const std::string& adapter_name() const { return adapter_name_; }
  /// A number of its own for every adapter that was ever active, 0 for none: recorded work reads one adapter's memory.
  int64_t active_adapter() const { return has_adapter() ? adapter_number_ : 0; }
  /// The largest stacked rank at this site, of all adapters that are loaded.
  int64_t largest_rank(LinearSite site) const;
  /// Lays adapters out without memory: for plan_memory of a model that holds no weights.
  void plan_lora(const LoraSettings& settings);
  bool has_adapter() const { return !adapter_parameters.empty(); }
  bool has_inactive_adapters() const { return !inactive_adapters_.empty(); }
  /// W += scaling * B A in fp32, rounded once to the type the weights are kept in; the adapter is gone afterwards.
  void merge_adapter();

  /// Calls after values changed: weights are laid out again, `up` is rebuilt, the normalised head recomputed.
  void weights_changed();
  void adapters_changed();

  /// fp32 masters of all weights, read again from where they came (bf16 checkpoints hold no more than the bf16 values).
  void allocate_masters();

  const Parameter* find(const std::string& name) const;
  /// Values as fp32, from the masters where there are any.
  void read(const Parameter& parameter, float* dst, int64_t first, int64_t n) const;
  void write(const Parameter& parameter, const float* src, int64_t first, int64_t n);
  FlatValues& space(Space id) { return id == Space::matrices ? matrices : id == Space::vectors ? vectors : adapters; }
  const FlatValues& space(Space id) const { return id == Space::matrices ? matrices : id == Space::vectors ? vectors : adapters; }
  void fill_from(const std::vector<Parameter>& parameters, const std::vector<TensorSource>& sources);
  /// Fills parameters from `filler`, in pieces of bounded size.
  void fill(const std::vector<Parameter>& parameters, const ParameterFiller& filler);

  int64_t parameter_count() const;
  /// RoPE tables for at least `positions` positions; ALiBi slopes.
  AttentionShape attention_shape(int64_t positions);
  /// Weight of the output head as the products read it: the embedding when tied, the normalised rows when normalised.
  const Weight& head_weight() const { return spec.head == HeadKind::tied ? embedding.weight : spec.head == HeadKind::normalized ? normalized_head : head.weight; }
  Linear& head_linear() { return spec.head == HeadKind::tied ? embedding : head; }

  const DecoderSpec spec;
  const ModelOptions options;
  const std::shared_ptr<Backend> backend;
  FlatValues matrices, vectors, adapters;
  std::vector<Parameter> parameters, adapter_parameters;
  std::vector<Layer> layers;
  Linear embedding, head;   // head unused when tied
  Weight normalized_head;   // normalised head: w_hat, and what it was divided by
  float* head_inverse_norm = nullptr;
  Norm embedding_norm, final_norm;
  LoraSettings lora;
  bool is_trained = false;  // full fine-tuning: weights change every step

 private:
  int64_t add_parameter(std::vector<Parameter>& list, const std::string& name, std::vector<int64_t> shape, Space space);
  Norm add_norm(const std::string& module);
  void lay_out();
  void allocate_values();
  void normalize_head();
  void prepare(Weight& weight, bool trained);
  void allocate_adapters();
  void release_adapters();
  void swap_adapter(InactiveAdapter& other);

  ParameterFiller origin_;  // where the weights came from; empty once they no longer equal it
  float* head_chunk_ = nullptr;  // rows of the normalised head's weight in fp32
  std::unordered_map<std::string, size_t> index_, adapter_index_;
  std::string adapter_name_;  // of the active one
  int64_t adapter_number_ = 0, adapters_loaded_ = 0;
  std::map<std::string, InactiveAdapter> inactive_adapters_;
  float *rope_cos_ = nullptr, *rope_sin_ = nullptr, *alibi_ = nullptr;
  int64_t rope_positions_ = 0;
};

}  // namespace polypaca
