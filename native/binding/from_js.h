// JavaScript arguments to plain structs. A wrong kind throws invalid_argument naming the field; what a value may be is
// checked in TypeScript, and again in the core where it would corrupt memory.
#pragma once
#include <napi.h>

#include <vector>

#include "io/tensor_file.h"
#include "model/continuous_batch.h"
#include "train/trainer.h"

namespace polypaca {

DecoderSpec spec_from_js(const Napi::Value& value);
ModelOptions model_options_from_js(const Napi::Value& value);
LoraSettings lora_from_js(const Napi::Value& value);
TrainerOptions trainer_options_from_js(const Napi::Value& value);
GenerateOptions generate_options_from_js(const Napi::Value& value);
std::vector<TensorSource> sources_from_js(const Napi::Value& value);
Batch batch_from_js(const Napi::Value& value);
std::vector<Batch> batches_from_js(const Napi::Value& value);
std::vector<std::vector<int32_t>> prompts_from_js(const Napi::Value& value);
std::vector<Admission> admissions_from_js(const Napi::Value& value);
std::vector<int64_t> integers_from_js(const Napi::Value& value);
std::vector<std::string> strings_from_js(const Napi::Value& value, const char* what);

/// What a file is to hold, by tensor name.
struct FileLayout {
  std::string path;
  std::vector<uint8_t> header;
  std::vector<std::pair<std::string, StoredDType>> tensors;
};
FileLayout layout_from_js(const Napi::Value& value);

double number_field(const Napi::Object& object, const char* field);
std::string string_field(const Napi::Object& object, const char* field);

}  // namespace polypaca
