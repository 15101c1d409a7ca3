#include "model/model.h"

#include <algorithm>
#include <cmath>

#include "core/arena.h"
#include "core/error.h"
#include "core/memory.h"
#include "model/normal_draws.h"

namespace polypaca {
namespace {

constexpr int64_t kFillChunk = int64_t(1) << 22;  // elements converted at a time while loading

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

int64_t product(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

}  // namespace

Model::Model(DecoderSpec s, ModelOptions o)
    : spec(std::move(s)), options(std::move(o)), backend(open_backend(options.device)), matrices(backend), vectors(backend), adapters(backend) {
  check_spec(spec);
  lay_out();
}

Model::~Model() {
  release_adapters();
  for (auto& [name, adapter] : inactive_adapters_) {
    swap_adapter(adapter);
    release_adapters();
  }
  auto drop = [&](Weight& w) { backend->release_weight(w); };
  for (Layer& layer : layers) {
    for (Linear& linear : layer.linear) drop(linear.weight);
  }
  drop(embedding.weight);
  drop(head.weight);
  drop(normalized_head);
  for (void* p : {normalized_head.value.data, static_cast<void*>(head_inverse_norm), static_cast<void*>(head_chunk_), static_cast<void*>(rope_cos_),
                  static_cast<void*>(rope_sin_), static_cast<void*>(alibi_)}) {
    if (p) backend->release(p);
  }
}

int64_t Model::add_parameter(std::vector<Parameter>& list, const std::string& name, std::vector<int64_t> shape, Space id) {
  int64_t count = product(shape);
  Parameter p{name, std::move(shape), id, space(id).reserve(count), count};
  auto& index = &list == &parameters ? index_ : adapter_index_;
  index[name] = list.size();
  list.push_back(p);
  return p.offset;
}

Norm Model::add_norm(const std::string& module) {
  Norm norm;
  norm.weight = add_parameter(parameters, module + ".weight", {spec.hidden_size}, Space::vectors);
  if (spec.norm == NormKind::layer) norm.bias = add_parameter(parameters, module + ".bias", {spec.hidden_size}, Space::vectors);
  return norm;
}

void Model::lay_out() {
  const int64_t C = spec.hidden_size, V = spec.vocab_size;
  embedding.offset = add_parameter(parameters, spec.names.embedding + ".weight", {V, C}, Space::matrices);
  embedding.weight.rows = V;
  embedding.weight.cols = C;
  if (spec.embedding_norm) embedding_norm = add_norm(spec.names.embedding_norm);
  layers.resize(size_t(spec.layers));
  for (int64_t l = 0; l < spec.layers; ++l) {
    Layer& layer = layers[size_t(l)];
    layer.attention_norm = add_norm(with_layer(spec.names.attention_norm, l));
    for (int site = 0; site < kLinearSites; ++site) {
      if (site == kMlpUp) layer.mlp_norm = add_norm(with_layer(spec.names.mlp_norm, l));
      LinearShape shape = linear_shape(spec, LinearSite(site), l);
      Linear& linear = layer.linear[size_t(site)];
      linear.weight.rows = shape.rows;
      linear.weight.cols = shape.cols;
      // One reservation for the fused matrix: its modules lie one below the other, without gaps.
      linear.offset = matrices.reserve(shape.rows * shape.cols);
      linear.bias = shape.bias ? vectors.reserve(shape.rows) : -1;
      for (const ModulePart& part : shape.parts) {
        index_[part.name + ".weight"] = parameters.size();
        parameters.push_back({part.name + ".weight", {part.rows, shape.cols}, Space::matrices, linear.offset + part.first_row * shape.cols, part.rows * shape.cols});
        if (!shape.bias) continue;
        index_[part.name + ".bias"] = parameters.size();
        parameters.push_back({part.name + ".bias", {part.rows}, Space::vectors, linear.bias + part.first_row, part.rows});
      }
    }
  }
  final_norm = add_norm(spec.names.final_norm);
  if (spec.head != HeadKind::tied) {
    head.offset = add_parameter(parameters, spec.names.head + ".weight", {V, C}, Space::matrices);
    head.weight.rows = V;
    head.weight.cols = C;
  }
}

void Model::allocate_values() {
  const bool low = options.dtype == DType::bf16;
  require_memory(backend->memory(), matrices.count() * (low ? 2 : 4) + vectors.count() * 4, "loading the weights", options.allow_overcommit);
  low ? matrices.allocate_low() : matrices.allocate_fp32();
  vectors.allocate_fp32();
  auto point = [&](Linear& linear) { linear.weight.value = matrices.compute(linear.offset, linear.weight.cols); };
  for (Layer& layer : layers) {
    for (Linear& linear : layer.linear) point(linear);
  }
  point(embedding);
  if (spec.head != HeadKind::tied) point(head);
}

const Parameter* Model::find(const std::string& name) const {
  if (auto at = index_.find(name); at != index_.end()) return &parameters[at->second];
  if (auto at = adapter_index_.find(name); at != adapter_index_.end()) return &adapter_parameters[at->second];
  return nullptr;
}

void Model::read(const Parameter& p, float* dst, int64_t first, int64_t n) const {
  const FlatValues& values = space(p.space);
  if (values.fp32) {
    backend->copy_out(dst, values.fp32 + p.offset + first, n * 4);
    return;
  }
  std::vector<bf16> low(static_cast<size_t>(n));
  std::vector<int16_t> remainder(static_cast<size_t>(n), 0);
  backend->copy_out(low.data(), values.low + p.offset + first, n * 2);
  if (values.remainder) backend->copy_out(remainder.data(), values.remainder + p.offset + first, n * 2);
  for (int64_t i = 0; i < n; ++i) dst[i] = join(low[size_t(i)], remainder[size_t(i)]);
}

void Model::write(const Parameter& p, const float* src, int64_t first, int64_t n) {
  FlatValues& values = space(p.space);
  if (values.fp32) backend->copy_in(values.fp32 + p.offset + first, src, n * 4);
  if (!values.low) return;
  std::vector<bf16> low(static_cast<size_t>(n));
  if (values.remainder) {
    std::vector<int16_t> remainder(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      const SplitFloat halves = split(src[i]);
      low[size_t(i)] = halves.value;
      remainder[size_t(i)] = halves.remainder;
    }
    backend->copy_in(values.remainder + p.offset + first, remainder.data(), n * 2);
  } else {
    for (int64_t i = 0; i < n; ++i) low[size_t(i)] = to_bf16(src[i]);
  }
  backend->copy_in(values.low + p.offset + first, low.data(), n * 2);
}

void Model::fill(const std::vector<Parameter>& list, const ParameterFiller& filler) {
  std::vector<float> buffer(static_cast<size_t>(kFillChunk));
  for (const Parameter& p : list) {
    for (int64_t first = 0; first < p.count; first += kFillChunk) {
      int64_t n = std::min(kFillChunk, p.count - first);
      filler(p, buffer.data(), first, n);
      write(p, buffer.data(), first, n);
    }
  }
}

namespace {

/// Reads parameters by name from checkpoint sources, whose shapes must agree.
ParameterFiller from_sources(const std::vector<Parameter>& parameters, const std::vector<TensorSource>& sources) {
  auto by_name = std::make_shared<std::unordered_map<std::string, TensorSource>>();
  for (const TensorSource& s : sources) by_name->emplace(s.name, s);
  for (const Parameter& p : parameters) {
    auto at = by_name->find(p.name);
    if (at == by_name->end()) {
      throw Error(ErrorCode::checkpoint_mismatch, "\"" + p.name + "\" " + shape_text(p.shape) + " is missing from the checkpoint. Check that all its files were copied and that config.json belongs to them.");
    }
    if (at->second.shape != p.shape) {
      throw Error(ErrorCode::checkpoint_mismatch, at->second.file + ": \"" + p.name + "\" is " + shape_text(at->second.shape) +
                                                      ", config.json says " + shape_text(p.shape) + ". Use the config.json published with these weights.");
    }
  }
  auto reader = std::make_shared<TensorReader>();
  return [by_name, reader](const Parameter& p, float* dst, int64_t first, int64_t n) { reader->read(by_name->at(p.name), dst, first, n); };
}

}  // namespace

void Model::fill_from(const std::vector<Parameter>& list, const std::vector<TensorSource>& sources) { fill(list, from_sources(list, sources)); }

void Model::load(const std::vector<TensorSource>& sources) {
  origin_ = from_sources(parameters, sources);  // refuses before memory is taken
  allocate_values();
  fill(parameters, origin_);
  weights_changed();
}

void Model::initialize(uint64_t seed, float range) {
  allocate_values();
  origin_ = [this, seed, range](const Parameter& p, float* dst, int64_t first, int64_t n) {
    if (p.space == Space::matrices) return normal_draws(dst, first, n, seed, uint32_t(index_.at(p.name)), range);
    bool is_norm_weight = p.name.size() > 7 && p.name.compare(p.name.size() - 7, 7, ".weight") == 0;
    std::fill(dst, dst + n, is_norm_weight ? 1.0f : 0.0f);
  };
  fill(parameters, origin_);
  weights_changed();
}

void Model::allocate_masters() {
  if (matrices.has_masters()) return;
  matrices.allocate_remainder();  // zero: the bf16 values as they are
  if (origin_) fill(parameters, origin_);
}

void Model::prepare(Weight& weight, bool trained) {
  if (weight.value) backend->prepare_weight(weight, trained);
}

void Model::weights_changed() {
  for (Layer& layer : layers) {
    for (Linear& linear : layer.linear) prepare(linear.weight, is_trained);
  }
  if (spec.head == HeadKind::tied) {
    prepare(embedding.weight, is_trained);
  } else if (spec.head == HeadKind::untied) {
    prepare(head.weight, is_trained);
  } else {
    const int64_t V = spec.vocab_size, C = spec.hidden_size;
    if (!normalized_head.value) {
      normalized_head = {{backend->allocate(V * C * size_of(options.dtype)), options.dtype, C}, V, C, nullptr};
      head_inverse_norm = static_cast<float*>(backend->allocate(V * 4));
    }
    normalize_head();
    prepare(normalized_head, is_trained);
  }
}

/// From the fp32 values, so that the rows are rounded once, not twice: masters where there are any, else what the checkpoint holds
/// (often fp32).
void Model::normalize_head() {
  const int64_t V = spec.vocab_size, C = spec.hidden_size, rows = std::min(V, std::max<int64_t>(1, kFillChunk / C));
  if (matrices.fp32) return backend->normalize_rows(normalized_head.value, head_inverse_norm, {matrices.fp32 + head.offset, DType::f32, C}, V, C);
  const Parameter& parameter = *find(spec.names.head + ".weight");
  if (!head_chunk_) head_chunk_ = static_cast<float*>(backend->allocate(rows * C * 4));
  const Matrix w{head_chunk_, DType::f32, C};
  if (matrices.remainder) {
    for (int64_t first = 0; first < V; first += rows) {
      const int64_t n = std::min(rows, V - first), at = head.offset + first * C;
      backend->join_halves(head_chunk_, matrices.low + at, matrices.remainder + at, n * C);
      backend->normalize_rows(normalized_head.value.at(first, 0), head_inverse_norm + first, w, n, C);
    }
    return;
  }
  std::vector<float> values(size_t(rows * C));
  for (int64_t first = 0; first < V; first += rows) {
    const int64_t n = std::min(rows, V - first);
    origin_ ? origin_(parameter, values.data(), first * C, n * C) : read(parameter, values.data(), first * C, n * C);
    backend->copy_in(w.data, values.data(), n * C * 4);
    backend->normalize_rows(normalized_head.value.at(first, 0), head_inverse_norm + first, w, n, C);
  }
}

int64_t Model::parameter_count() const {
  int64_t n = 0;
  for (const Parameter& p : parameters) n += p.count;
  return n;
}

AttentionShape Model::attention_shape(int64_t positions) {
  AttentionShape shape;
  shape.H = spec.heads;
  shape.G = spec.kv_heads;
  shape.D = spec.head_dim;
  shape.scale = float(1.0 / std::sqrt(double(spec.head_dim)));
  if (spec.positions == Positions::alibi) {
    if (!alibi_) {
      std::vector<float> slopes = alibi_slopes(spec.heads);
      alibi_ = static_cast<float*>(backend->allocate(int64_t(slopes.size()) * 4));
      backend->copy_in(alibi_, slopes.data(), int64_t(slopes.size()) * 4);
    }
    shape.alibi_slopes = alibi_;
    return shape;
  }
  const int64_t half = spec.rotary_dim / 2;
  if (positions > rope_positions_) {
    rope_positions_ = std::max<int64_t>(positions, 2 * rope_positions_);
    std::vector<float> cos(size_t(rope_positions_ * half)), sin(cos.size());
    for (int64_t t = 0; t < rope_positions_; ++t) {
      for (int64_t i = 0; i < half; ++i) {
        double angle = double(t) * std::pow(spec.rope_theta, -2.0 * double(i) / double(spec.rotary_dim));
        cos[size_t(t * half + i)] = float(std::cos(angle));
        sin[size_t(t * half + i)] = float(std::sin(angle));
      }
    }
    for (auto [table, values] : {std::pair{&rope_cos_, &cos}, std::pair{&rope_sin_, &sin}}) {
      if (*table) backend->release(*table);
      *table = static_cast<float*>(backend->allocate(int64_t(values->size()) * 4));
      backend->copy_in(*table, values->data(), int64_t(values->size()) * 4);
    }
  }
  shape.rope = {spec.rotary_dim, rope_cos_, rope_sin_};
  return shape;
}

}  // namespace polypaca
