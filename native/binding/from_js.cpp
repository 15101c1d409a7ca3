#include "binding/from_js.h"

#include <cmath>

#include "core/error.h"

namespace polypaca {
namespace {

[[noreturn]] void wrong(const std::string& field, const char* expected) {
  throw Error(ErrorCode::invalid_argument, "\"" + field + "\" must be " + expected);
}

Napi::Object object_of(const Napi::Value& value, const char* what) {
  if (!value.IsObject()) wrong(what, "an object");
  return value.As<Napi::Object>();
}

Napi::Object object_field(const Napi::Object& o, const char* field) { return object_of(o.Get(field), field); }

int64_t integer_field(const Napi::Object& o, const char* field) {
  const double x = number_field(o, field);
  if (x != std::floor(x) || std::abs(x) > 9007199254740991.0) wrong(field, "an integer");
  return int64_t(x);
}

bool bool_field(const Napi::Object& o, const char* field) {
  Napi::Value v = o.Get(field);
  if (!v.IsBoolean()) wrong(field, "a boolean");
  return v.As<Napi::Boolean>();
}

bool is_absent(const Napi::Value& v) { return v.IsNull() || v.IsUndefined(); }

std::string optional_string(const Napi::Object& o, const char* field) { return is_absent(o.Get(field)) ? "" : string_field(o, field); }

std::vector<std::string> strings_field(const Napi::Object& o, const char* field) { return strings_from_js(o.Get(field), field); }

std::vector<int64_t> integers_field(const Napi::Object& o, const char* field) {
  Napi::Value v = o.Get(field);
  if (is_absent(v)) return {};
  if (!v.IsArray()) wrong(field, "an array of integers");
  Napi::Array array = v.As<Napi::Array>();
  std::vector<int64_t> out;
  for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(array.Get(i).ToNumber().Int64Value());
  return out;
}

std::vector<int32_t> int32_array(const Napi::Value& v, const char* field) {
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) wrong(field, "an Int32Array");
  Napi::Int32Array array = v.As<Napi::Int32Array>();
  return std::vector<int32_t>(array.Data(), array.Data() + array.ElementLength());
}

template <typename T>
T choice(const std::string& value, const char* field, std::initializer_list<std::pair<const char*, T>> options) {
  for (const auto& [name, result] : options) {
    if (value == name) return result;
  }
  throw Error(ErrorCode::invalid_argument, "\"" + std::string(field) + "\" is \"" + value + "\"");
}

StoredDType stored_dtype(const std::string& name) {
  return choice<StoredDType>(name, "dtype", {{"F32", StoredDType::f32}, {"BF16", StoredDType::bf16}, {"F16", StoredDType::f16}, {"U8", StoredDType::u8}});
}

}  // namespace

double number_field(const Napi::Object& o, const char* field) {
  Napi::Value v = o.Get(field);
  if (!v.IsNumber()) wrong(field, "a number");
  return v.As<Napi::Number>().DoubleValue();
}

std::string string_field(const Napi::Object& o, const char* field) {
  Napi::Value v = o.Get(field);
  if (!v.IsString()) wrong(field, "a string");
  return v.As<Napi::String>();
}

DecoderSpec spec_from_js(const Napi::Value& value) {
  Napi::Object o = object_of(value, "spec");
  DecoderSpec s;
  s.model_type = string_field(o, "modelType");
  s.vocab_size = integer_field(o, "vocabSize");
  s.hidden_size = integer_field(o, "hiddenSize");
  s.layers = integer_field(o, "layers");
  s.heads = integer_field(o, "heads");
  s.kv_heads = integer_field(o, "kvHeads");
  s.head_dim = integer_field(o, "headDim");
  s.intermediate_size = integer_field(o, "intermediateSize");
  s.norm = choice<NormKind>(string_field(o, "norm"), "norm", {{"layer", NormKind::layer}, {"rms", NormKind::rms}});
  s.norm_epsilon = float(number_field(o, "normEpsilon"));
  Napi::Object positions = object_field(o, "positions");
  s.positions = choice<Positions>(string_field(positions, "kind"), "positions.kind", {{"rope", Positions::rope}, {"alibi", Positions::alibi}});
  if (s.positions == Positions::rope) {
    s.rotary_dim = integer_field(positions, "rotaryDim");
    s.rope_theta = number_field(positions, "theta");
    s.max_positions = is_absent(o.Get("maxPositions")) ? 0 : integer_field(o, "maxPositions");
  }
  s.activation = choice<Activation>(string_field(o, "activation"), "activation", {{"gelu", Activation::gelu_erf}, {"gelu_tanh", Activation::gelu_tanh}, {"swiglu", Activation::swiglu}});
  s.residual = choice<Residual>(string_field(o, "residual"), "residual", {{"sequential", Residual::sequential}, {"parallel", Residual::parallel}, {"post-norm", Residual::post_norm}});
  s.qkv_layout = choice<QkvLayout>(string_field(o, "qkvLayout"), "qkvLayout", {{"interleaved", QkvLayout::interleaved}, {"concatenated", QkvLayout::concatenated}});
  s.embedding_norm = bool_field(o, "embeddingNorm");
  s.head = choice<HeadKind>(string_field(o, "head"), "head", {{"untied", HeadKind::untied}, {"tied", HeadKind::tied}, {"normalized", HeadKind::normalized}});
  Napi::Object biases = object_field(o, "biases");
  s.qkv_bias = bool_field(biases, "qkv");
  s.attention_output_bias = bool_field(biases, "attentionOutput");
  s.mlp_bias = bool_field(biases, "mlp");
  Napi::Object names = object_field(o, "names");
  s.names = {string_field(names, "embedding"), optional_string(names, "embeddingNorm"), string_field(names, "attentionNorm"), string_field(names, "attentionOutput"),
             string_field(names, "mlpNorm"), string_field(names, "mlpDown"), string_field(names, "finalNorm"), optional_string(names, "head"),
             strings_field(names, "qkv"), strings_field(names, "mlpUp")};
  return s;
}

ModelOptions model_options_from_js(const Napi::Value& value) {
  Napi::Object o = object_of(value, "options");
  ModelOptions m;
  m.device = string_field(o, "device");
  m.dtype = choice<DType>(string_field(o, "dtype"), "dtype", {{"fp32", DType::f32}, {"bf16", DType::bf16}});
  m.allow_overcommit = bool_field(o, "allowOvercommit");
  return m;
}

LoraSettings lora_from_js(const Napi::Value& value) {
  Napi::Object o = object_of(value, "lora options");
  LoraSettings s;
  s.rank = integer_field(o, "rank");
  s.alpha = number_field(o, "alpha");
  s.scaling = number_field(o, "scaling");
  s.dropout = number_field(o, "dropout");
  s.targets = strings_field(o, "targets");
  s.seed = uint64_t(integer_field(o, "seed"));
  return s;
}

TrainerOptions trainer_options_from_js(const Napi::Value& value) {
  Napi::Object o = object_of(value, "trainer options");
  TrainerOptions t;
  t.full = choice<bool>(string_field(o, "method"), "method", {{"fft", true}, {"lora", false}});
  t.beta1 = number_field(o, "beta1");
  t.beta2 = number_field(o, "beta2");
  t.epsilon = number_field(o, "epsilon");
  t.weight_decay = float(number_field(o, "weightDecay"));
  if (const std::string optimizer = optional_string(o, "optimizer"); !optimizer.empty()) {
    t.quantized_moments = choice<bool>(optimizer, "optimizer", {{"adamw", false}, {"adamw8bit", true}});
  }
  t.max_grad_norm = float(number_field(o, "maxGradNorm"));
  t.recompute = choice<bool>(string_field(o, "recompute"), "recompute", {{"none", false}, {"block", true}});
  t.micro_batch_tokens = integer_field(o, "microBatchTokens");
  t.seed = uint64_t(integer_field(o, "seed"));
  return t;
}

GenerateOptions generate_options_from_js(const Napi::Value& value) {
  Napi::Object o = object_of(value, "generate options");
  GenerateOptions g;
  g.max_new_tokens = integer_field(o, "maxNewTokens");
  g.num_beams = integer_field(o, "numBeams");
  g.no_repeat_ngram_size = integer_field(o, "noRepeatNgramSize");
  g.repetition_penalty = float(number_field(o, "repetitionPenalty"));
  g.length_penalty = float(number_field(o, "lengthPenalty"));
  g.temperature = float(number_field(o, "temperature"));
  g.top_k = integer_field(o, "topK");
  g.top_p = float(number_field(o, "topP"));
  g.seed = uint64_t(integer_field(o, "seed"));
  g.eos_token_id = int32_t(integer_field(o, "eosTokenId"));
  g.min_new_tokens = integer_field(o, "minNewTokens");
  return g;
}

std::vector<TensorSource> sources_from_js(const Napi::Value& value) {
  if (!value.IsArray()) wrong("sources", "an array");
  Napi::Array array = value.As<Napi::Array>();
  std::vector<TensorSource> sources;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    Napi::Object o = object_of(array.Get(i), "source");
    TensorSource s;
    s.name = string_field(o, "name");
    s.file = string_field(o, "file");
    s.offset = integer_field(o, "offset");
    s.dtype = stored_dtype(string_field(o, "dtype"));
    s.shape = integers_field(o, "shape");
    s.strides = integers_field(o, "strides");
    if (!s.strides.empty() && s.strides.size() != s.shape.size()) wrong("strides", "as long as shape");
    sources.push_back(std::move(s));
  }
  return sources;
}

Batch batch_from_js(const Napi::Value& value) {
  Napi::Object o = object_of(value, "batch");
  Batch b;
  b.input_ids = int32_array(o.Get("inputIds"), "inputIds");
  if (!is_absent(o.Get("labels"))) b.labels = int32_array(o.Get("labels"), "labels");
  b.sequence_lengths = int32_array(o.Get("sequenceLengths"), "sequenceLengths");
  if (!is_absent(o.Get("exampleIndices"))) b.example_indices = int32_array(o.Get("exampleIndices"), "exampleIndices");
  return b;
}

std::vector<Batch> batches_from_js(const Napi::Value& value) {
  if (!value.IsArray()) wrong("microBatches", "an array");
  Napi::Array array = value.As<Napi::Array>();
  std::vector<Batch> batches;
  for (uint32_t i = 0; i < array.Length(); ++i) batches.push_back(batch_from_js(array.Get(i)));
  return batches;
}

std::vector<std::vector<int32_t>> prompts_from_js(const Napi::Value& value) {
  if (!value.IsArray()) wrong("prompts", "an array");
  Napi::Array array = value.As<Napi::Array>();
  std::vector<std::vector<int32_t>> prompts;
  for (uint32_t i = 0; i < array.Length(); ++i) prompts.push_back(int32_array(array.Get(i), "prompts"));
  return prompts;
}

std::vector<Admission> admissions_from_js(const Napi::Value& value) {
  if (!value.IsArray()) wrong("admissions", "an array");
  Napi::Array array = value.As<Napi::Array>();
  std::vector<Admission> admissions;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    Napi::Object o = object_of(array.Get(i), "admission");
    Napi::Object options = object_field(o, "options");
    Admission a;
    a.sequence = integer_field(o, "sequence");
    a.prompt = int32_array(o.Get("prompt"), "prompt");
    a.options.decoding = generate_options_from_js(options);
    a.options.alternatives = integer_field(options, "topLogprobs");
    if (!options.Get("adapter").IsNull()) a.options.adapter = string_field(options, "adapter");
    admissions.push_back(std::move(a));
  }
  return admissions;
}

std::vector<int64_t> integers_from_js(const Napi::Value& value) {
  if (!value.IsArray()) wrong("sequences", "an array");
  Napi::Array array = value.As<Napi::Array>();
  std::vector<int64_t> integers;
  for (uint32_t i = 0; i < array.Length(); ++i) integers.push_back(array.Get(i).ToNumber().Int64Value());
  return integers;
}

std::vector<std::string> strings_from_js(const Napi::Value& value, const char* what) {
  if (!value.IsArray()) wrong(what, "an array of strings");
  Napi::Array array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); ++i) strings.push_back(array.Get(i).ToString());
  return strings;
}

FileLayout layout_from_js(const Napi::Value& value) {
  Napi::Object o = object_of(value, "layout");
  FileLayout layout;
  layout.path = string_field(o, "path");
  Napi::Value header = o.Get("header");
  if (!header.IsTypedArray() || header.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) wrong("header", "a Uint8Array");
  Napi::Uint8Array bytes = header.As<Napi::Uint8Array>();
  layout.header.assign(bytes.Data(), bytes.Data() + bytes.ElementLength());
  Napi::Value tensors = o.Get("tensors");
  if (!tensors.IsArray()) wrong("tensors", "an array");
  Napi::Array list = tensors.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); ++i) {
    Napi::Object t = object_of(list.Get(i), "tensor");
    layout.tensors.emplace_back(string_field(t, "name"), stored_dtype(string_field(t, "dtype")));
  }
  return layout;
}

}  // namespace polypaca
