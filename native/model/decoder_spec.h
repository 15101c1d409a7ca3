// What a decoder-only transformer is, as data: the mirror of src/families/decoder-spec.ts, where each field is explained.
// A model family is a description, never a branch in this code.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace polypaca {

enum class Positions { rope, alibi };
enum class Residual { sequential, parallel, post_norm };
enum class QkvLayout { interleaved, concatenated };
enum class HeadKind { untied, tied, normalized };

/// Checkpoint names of modules, "{layer}" standing for the layer's number; without ".weight" / ".bias".
struct TensorNames {
  std::string embedding, embedding_norm, attention_norm, attention_output, mlp_norm, mlp_down, final_norm, head;
  std::vector<std::string> qkv, mlp_up;  // several modules, one fused matrix
};

struct DecoderSpec {
  std::string model_type;
  int64_t vocab_size = 0, hidden_size = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate_size = 0;
  NormKind norm = NormKind::layer;
  float norm_epsilon = 1e-5f;
  Positions positions = Positions::rope;
  int64_t rotary_dim = 0;
  double rope_theta = 10000.0;
  int64_t max_positions = 0;  // 0: the configuration names none
  Activation activation = Activation::gelu_erf;
  Residual residual = Residual::sequential;
  QkvLayout qkv_layout = QkvLayout::concatenated;
  bool embedding_norm = false;
  HeadKind head = HeadKind::untied;
  bool qkv_bias = false, attention_output_bias = false, mlp_bias = false;
  TensorNames names;

  int64_t q_size() const { return heads * head_dim; }
  int64_t kv_size() const { return kv_heads * head_dim; }
  int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
  int64_t up_size() const { return activation == Activation::swiglu ? 2 * intermediate_size : intermediate_size; }
};

/// The four linear layers of a block, in the order in which the forward pass of a sequential block meets them.
enum LinearSite : int { kQkv = 0, kAttentionOutput = 1, kMlpUp = 2, kMlpDown = 3, kLinearSites = 4 };

/// One module of the checkpoint inside a fused matrix: rows [first_row, first_row + rows).
struct ModulePart {
  std::string name;  // with the layer's number in it, no ".weight"
  int64_t first_row = 0, rows = 0;
};

/// What the spec says of one linear layer.
struct LinearShape {
  int64_t rows = 0, cols = 0;  // out, in features
  bool bias = false;
  std::vector<ModulePart> parts;
};

std::string with_layer(const std::string& name, int64_t layer);
LinearShape linear_shape(const DecoderSpec& spec, LinearSite site, int64_t layer);

/// ALiBi slopes as BLOOM and Baichuan-13B build them (Press et al. 2022): with c the largest power of two <= heads,
/// 2^(-8 i / c) for i = 1..c, then 2^(-8 (2j - 1) / (2c)) for j = 1..heads - c.
std::vector<float> alibi_slopes(int64_t heads);

/// Throws unsupported or shape_mismatch where the parts of a spec contradict each other.
void check_spec(const DecoderSpec& spec);

}  // namespace polypaca
