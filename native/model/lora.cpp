// Adapters of a model (Hu et al. 2021, arXiv:2106.09685): y = W x + scaling * B (A x), A [rank, in], B [out, rank].
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/memory.h"
#include "model/model.h"

namespace polypaca {
namespace {

/// PEFT's rule: a target is the whole module path or its end after a dot.
bool is_target(const std::string& module, const std::vector<std::string>& targets) {
  return std::any_of(targets.begin(), targets.end(), [&](const std::string& t) {
    if (module == t) return true;
    return module.size() > t.size() + 1 && module.compare(module.size() - t.size(), t.size(), t) == 0 && module[module.size() - t.size() - 1] == '.';
  });
}

constexpr const char* kHasAdapter = "this model has an adapter already: merge it or load the base model again";
constexpr const char* kOnlyAdapter = "default";  // the name of the one that is made here

std::string peft_name(const std::string& module, const char* which) { return "base_model.model." + module + "." + which + ".weight"; }

}  // namespace

void Model::plan_lora(const LoraSettings& settings) {
  if (settings.rank < 1) throw Error(ErrorCode::invalid_argument, "lora rank must be at least 1, got " + std::to_string(settings.rank));
  if (!(settings.dropout >= 0 && settings.dropout < 1)) throw Error(ErrorCode::invalid_argument, "lora dropout must be in [0, 1), got " + std::to_string(settings.dropout));
  lora = settings;
  std::vector<std::string> unused = settings.targets;
  for (int64_t l = 0; l < spec.layers; ++l) {
    for (int site = 0; site < kLinearSites; ++site) {
      LinearShape shape = linear_shape(spec, LinearSite(site), l);
      Adapter& adapter = layers[size_t(l)].linear[size_t(site)].adapter;
      for (const ModulePart& part : shape.parts) {
        if (!is_target(part.name, settings.targets)) continue;
        unused.erase(std::remove_if(unused.begin(), unused.end(), [&](const std::string& t) { return is_target(part.name, {t}); }), unused.end());
        adapter.parts.push_back({part.name, part.first_row, part.rows, adapter.R, 0});
        adapter.R += settings.rank;
      }
      if (adapter.R == 0) continue;
      adapter.down = adapters.reserve(adapter.R * shape.cols);
      for (AdapterPart& part : adapter.parts) {
        const int64_t down = adapter.down + part.first_rank * shape.cols;
        const std::string a = peft_name(part.module, "lora_A"), b = peft_name(part.module, "lora_B");
        adapter_index_[a] = adapter_parameters.size();
        adapter_parameters.push_back({a, {settings.rank, shape.cols}, Space::adapters, down, settings.rank * shape.cols});
        part.up = add_parameter(adapter_parameters, b, {part.rows, settings.rank}, Space::adapters);
      }
    }
  }
  if (!unused.empty() || adapter_parameters.empty()) {
    std::string known;
    for (int site = 0; site < kLinearSites; ++site) {
      for (const ModulePart& part : linear_shape(spec, LinearSite(site), 0).parts) {
        known += (known.empty() ? "" : ", ") + part.name.substr(part.name.rfind('.') + 1);
      }
    }
    std::string target = unused.empty() ? "(none)" : unused.front();
    throw Error(ErrorCode::invalid_argument, "lora target \"" + target + "\" names no linear module of this " + spec.model_type + " model. Its modules: " + known);
  }
}

void Model::allocate_adapters() {
  adapters.allocate_fp32();
  if (options.dtype == DType::bf16) adapters.allocate_low();
  for (Layer& layer : layers) {
    for (Linear& linear : layer.linear) {
      if (linear.adapter.R == 0) continue;
      const int64_t bytes = linear.weight.rows * linear.adapter.R * size_of(options.dtype);
      linear.adapter.up = {backend->allocate(bytes), options.dtype, linear.adapter.R};
      backend->fill_zero(linear.adapter.up.data, bytes);
    }
  }
}

void Model::release_adapters() {
  for (Layer& layer : layers) {
    for (Linear& linear : layer.linear) {
      if (linear.adapter.up) backend->release(linear.adapter.up.data);
      linear.adapter = Adapter{};
    }
  }
  adapters.release_all();
  adapters.clear();
  adapter_parameters.clear();
  adapter_index_.clear();
  adapter_name_.clear();
}

void Model::swap_adapter(InactiveAdapter& other) {
  other.sites.resize(layers.size());
  for (size_t l = 0; l < layers.size(); ++l) {
    for (size_t site = 0; site < kLinearSites; ++site) std::swap(layers[l].linear[site].adapter, other.sites[l][site]);
  }
  adapters.swap(other.values);
  adapter_parameters.swap(other.parameters);
  adapter_index_.swap(other.index);
  std::swap(lora, other.lora);
  std::swap(adapter_number_, other.number);
}

void Model::activate_adapter(const std::string& name) {
  if (name == adapter_name_) return;
  const auto wanted = inactive_adapters_.find(name);
  if (!name.empty() && wanted == inactive_adapters_.end()) throw Error(ErrorCode::invalid_argument, "no adapter named \"" + name + "\" is loaded");
  if (has_adapter()) swap_adapter(inactive_adapters_.emplace(adapter_name_, backend).first->second);
  adapter_name_ = name;
  if (name.empty()) return;
  swap_adapter(wanted->second);
  inactive_adapters_.erase(wanted);
}

int64_t Model::largest_rank(LinearSite site) const {
  int64_t rank = 0;
  for (const Layer& layer : layers) rank = std::max(rank, layer.linear[size_t(site)].adapter.R);
  for (const auto& [name, adapter] : inactive_adapters_) {
    for (const auto& sites : adapter.sites) rank = std::max(rank, sites[size_t(site)].R);
  }
  return rank;
}

void Model::add_lora(const LoraSettings& settings) {
  if (has_adapter() || has_inactive_adapters()) throw Error(ErrorCode::invalid_argument, kHasAdapter);
  try {
    plan_lora(settings);
    allocate_adapters();
  } catch (...) {
    release_adapters();  // a refused target leaves the model as it was
    throw;
  }
  adapter_name_ = kOnlyAdapter;
  adapter_number_ = ++adapters_loaded_;
  fill(adapter_parameters, [this](const Parameter& p, float* dst, int64_t first, int64_t n) {
    if (p.name.find(".lora_B.") != std::string::npos) {
      std::fill(dst, dst + n, 0.0f);
      return;
    }
    const double bound = 1.0 / std::sqrt(double(p.shape[1]));
    const uint32_t stream = uint32_t(adapter_index_.at(p.name));
    for (int64_t i = 0; i < n; ++i) {
      uint64_t at = uint64_t(first + i);
      Philox4 r = philox4x32<10>(uint32_t(at), uint32_t(at >> 32), stream, 0x4C4F5241u, uint32_t(lora.seed), uint32_t(lora.seed >> 32));
      dst[i] = float(bound * (2.0 * (double(r.v[0]) + 0.5) / 4294967296.0 - 1.0));
    }
  });
  adapters_changed();
}

void Model::load_adapter(const std::string& name, const LoraSettings& settings, const std::vector<TensorSource>& sources) {
  if (name.empty()) throw Error(ErrorCode::invalid_argument, "an adapter needs a name");
  if (name == adapter_name_ || inactive_adapters_.count(name) > 0) throw Error(ErrorCode::invalid_argument, "this model has an adapter named \"" + name + "\" already: give this one another name, merge that one, or load the base model again");
  const std::string before = adapter_name_;
  activate_adapter("");
  try {
    plan_lora(settings);
    allocate_adapters();
    fill_from(adapter_parameters, sources);
  } catch (...) {
    release_adapters();
    activate_adapter(before);
    throw;
  }
  adapter_name_ = name;
  adapter_number_ = ++adapters_loaded_;
  adapters_changed();
}

void Model::adapters_changed() {
  for (Layer& layer : layers) {
    for (Linear& linear : layer.linear) {
      Adapter& adapter = linear.adapter;
      for (const AdapterPart& part : adapter.parts) {
        backend->scaled_copy(adapter.up.at(part.first_row, part.first_rank), {adapters.fp32 + part.up, DType::f32, lora.rank}, part.rows, lora.rank, float(lora.scaling));
      }
    }
  }
}

void Model::merge_adapter() {
  if (!has_adapter()) throw Error(ErrorCode::invalid_argument, "there is no adapter to merge");
  if (has_inactive_adapters()) throw Error(ErrorCode::invalid_argument, "other adapters of these weights are loaded: load the base model again with the one to merge");
  const int64_t rank = lora.rank;
  for (Layer& layer : layers) {
    for (Linear& linear : layer.linear) {
      for (const AdapterPart& part : linear.adapter.parts) {
        const Parameter& w = *find(part.module + ".weight");
        const int64_t C = linear.weight.cols;
        std::vector<float> A(size_t(rank * C)), B(size_t(part.rows * rank)), W(size_t(part.rows * C));
        backend->copy_out(A.data(), adapters.fp32 + linear.adapter.down + part.first_rank * C, rank * C * 4);
        backend->copy_out(B.data(), adapters.fp32 + part.up, part.rows * rank * 4);
        read(w, W.data(), 0, w.count);
#pragma omp parallel for
        for (int64_t o = 0; o < part.rows; ++o) {
          for (int64_t r = 0; r < rank; ++r) {
            const float b = float(lora.scaling) * B[size_t(o * rank + r)];
            for (int64_t c = 0; c < C; ++c) W[size_t(o * C + c)] += b * A[size_t(r * C + c)];
          }
        }
        write(w, W.data(), 0, w.count);
      }
    }
  }
  origin_ = nullptr;  // the weights are no longer those of the checkpoint
  release_adapters();
  weights_changed();
}

}  // namespace polypaca
