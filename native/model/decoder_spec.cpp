#include "model/decoder_spec.h"

#include <cmath>

#include "core/error.h"

namespace polypaca {

std::string with_layer(const std::string& name, int64_t layer) {
  static const std::string kHole = "{layer}";
  size_t at = name.find(kHole);
  if (at == std::string::npos) return name;
  return name.substr(0, at) + std::to_string(layer) + name.substr(at + kHole.size());
}

namespace {

std::vector<ModulePart> stacked(const std::vector<std::string>& names, const std::vector<int64_t>& rows, int64_t layer) {
  std::vector<ModulePart> parts;
  int64_t first = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    parts.push_back({with_layer(names[i], layer), first, rows[i]});
    first += rows[i];
  }
  return parts;
}

}  // namespace

LinearShape linear_shape(const DecoderSpec& spec, LinearSite site, int64_t layer) {
  const int64_t C = spec.hidden_size, I = spec.intermediate_size;
  switch (site) {
    case kQkv: {
      std::vector<int64_t> rows = spec.names.qkv.size() == 1 ? std::vector<int64_t>{spec.qkv_size()}
                                                             : std::vector<int64_t>{spec.q_size(), spec.kv_size(), spec.kv_size()};
      return {spec.qkv_size(), C, spec.qkv_bias, stacked(spec.names.qkv, rows, layer)};
    }
    case kAttentionOutput:
      return {C, spec.q_size(), spec.attention_output_bias, stacked({spec.names.attention_output}, {C}, layer)};
    case kMlpUp:
      return {spec.up_size(), C, spec.mlp_bias, stacked(spec.names.mlp_up, std::vector<int64_t>(spec.names.mlp_up.size(), I), layer)};
    default:
      return {C, I, spec.mlp_bias, stacked({spec.names.mlp_down}, {C}, layer)};
  }
}

std::vector<float> alibi_slopes(int64_t heads) {
  int64_t c = 1;
  while (2 * c <= heads) c *= 2;
  std::vector<float> slopes;
  for (int64_t i = 1; i <= c; ++i) slopes.push_back(float(std::exp2(-8.0 * double(i) / double(c))));
  for (int64_t j = 1; j <= heads - c; ++j) slopes.push_back(float(std::exp2(-8.0 * double(2 * j - 1) / double(2 * c))));
  return slopes;
}

void check_spec(const DecoderSpec& s) {
  auto need = [&](bool ok, const std::string& what) {
    if (!ok) throw Error(ErrorCode::shape_mismatch, s.model_type + ": " + what);
  };
  need(s.vocab_size > 0 && s.hidden_size > 0 && s.layers > 0 && s.heads > 0 && s.head_dim > 0 && s.intermediate_size > 0,
       "sizes must be positive");
  need(s.kv_heads > 0 && s.heads % s.kv_heads == 0,
       "heads (" + std::to_string(s.heads) + ") must be a multiple of key/value heads (" + std::to_string(s.kv_heads) + ")");
  need(s.head_dim <= 256, "head dimension " + std::to_string(s.head_dim) + " is over 256");
  need(s.qkv_layout != QkvLayout::interleaved || (s.kv_heads == s.heads && s.names.qkv.size() == 1),
       "an interleaved query/key/value weight is one tensor with as many key/value as query heads");
  need(s.names.qkv.size() == 1 || s.names.qkv.size() == 3, "query, key and value stand in one tensor or in three");
  need(s.names.mlp_up.size() == (s.activation == Activation::swiglu ? 2u : 1u), "swiglu has a gate and an up projection, others one");
  need(s.positions != Positions::rope || (s.rotary_dim > 0 && s.rotary_dim % 2 == 0 && s.rotary_dim <= s.head_dim),
       "rotary dimension " + std::to_string(s.rotary_dim) + " must be even and at most the head dimension");
}

}  // namespace polypaca
