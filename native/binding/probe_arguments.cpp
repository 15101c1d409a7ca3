#include "binding/probe_arguments.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "binding/to_js.h"
#include "core/error.h"

namespace polypaca {
namespace {

constexpr float kPattern = -77.0f;  // exact in bf16

[[noreturn]] void wrong(const std::string& name, const std::string& expected) {
  throw Error(ErrorCode::invalid_argument, "probe: \"" + name + "\" must be " + expected);
}

std::vector<char> narrowed(const std::vector<float>& values, DType dtype) {
  std::vector<char> bytes(values.size() * size_t(size_of(dtype)));
  if (dtype == DType::f32) {
    if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  } else {
    bf16* out = reinterpret_cast<bf16*>(bytes.data());
    for (size_t i = 0; i < values.size(); ++i) out[i] = to_bf16(values[i]);
  }
  return bytes;
}

std::vector<float> widened(const std::vector<char>& bytes, DType dtype) {
  std::vector<float> values(bytes.size() / size_t(size_of(dtype)));
  if (dtype == DType::f32) {
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  } else {
    const bf16* in = reinterpret_cast<const bf16*>(bytes.data());
    for (size_t i = 0; i < values.size(); ++i) values[i] = to_float(in[i]);
  }
  return values;
}

}  // namespace

ProbeArguments::ProbeArguments(Napi::Object args, std::shared_ptr<Backend> backend) : args_(args), backend_(std::move(backend)) {
  padding_ = integer("padding", 0);
}

ProbeArguments::~ProbeArguments() {
  for (void* block : blocks_) backend_->release(block);
}

Napi::Value ProbeArguments::get(const char* name) const { return args_.Get(name); }

bool ProbeArguments::has(const char* name) const {
  Napi::Value value = get(name);
  return !value.IsUndefined() && !value.IsNull();
}

double ProbeArguments::number(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsNumber()) wrong(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

double ProbeArguments::number(const char* name, double otherwise) const { return has(name) ? number(name) : otherwise; }

int64_t ProbeArguments::integer(const char* name) const {
  const double value = number(name);
  if (value != std::floor(value) || value < 0 || value > 4294967295.0) wrong(name, "an integer of at least 0");
  return int64_t(value);
}

int64_t ProbeArguments::integer(const char* name, int64_t otherwise) const { return has(name) ? integer(name) : otherwise; }

bool ProbeArguments::flag(const char* name, bool otherwise) const {
  if (!has(name)) return otherwise;
  Napi::Value value = get(name);
  if (!value.IsBoolean()) wrong(name, "a boolean");
  return value.As<Napi::Boolean>();
}

std::string ProbeArguments::text(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsString()) wrong(name, "a string");
  return value.As<Napi::String>();
}

DType ProbeArguments::dtype(const char* name, DType otherwise) const {
  if (!has(name)) return otherwise;
  const std::string value = text(name);
  if (value != "fp32" && value != "bf16") wrong(name, "\"fp32\" or \"bf16\"");
  return value == "bf16" ? DType::bf16 : DType::f32;
}

int64_t ProbeArguments::length(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsTypedArray()) wrong(name, "a typed array");
  return int64_t(value.As<Napi::TypedArray>().ElementLength());
}

std::vector<float> ProbeArguments::host_floats(const char* name, int64_t count) const {
  Napi::Value value = get(name);
  const bool is_floats = value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_float32_array;
  if (!is_floats || length(name) != count) wrong(name, "a Float32Array of " + std::to_string(count));
  const float* data = value.As<Napi::Float32Array>().Data();
  return std::vector<float>(data, data + count);
}

void* ProbeArguments::allocate(int64_t bytes) {
  blocks_.push_back(backend_->allocate(std::max<int64_t>(bytes, 64)));
  return blocks_.back();
}

Matrix ProbeArguments::place(const char* name, const std::vector<float>& values, int64_t rows, int64_t cols, int64_t ld, DType dtype, bool is_output) {
  std::vector<float> strided(size_t(rows * ld), kPattern);
  for (int64_t row = 0; row < rows; ++row) std::copy_n(values.begin() + row * cols, cols, strided.begin() + row * ld);
  const std::vector<char> bytes = narrowed(strided, dtype);
  void* data = allocate(int64_t(bytes.size()));
  backend_->copy_in(data, bytes.data(), int64_t(bytes.size()));
  if (is_output) outputs_.push_back({name, data, dtype, rows, cols, ld});
  return {data, dtype, ld};
}

Matrix ProbeArguments::matrix(const char* name, int64_t rows, int64_t cols, DType dtype) {
  return place(name, host_floats(name, rows * cols), rows, cols, cols + padding_, dtype, false);
}

const float* ProbeArguments::floats(const char* name, int64_t count) {
  return static_cast<const float*>(place(name, host_floats(name, count), 1, count, count, DType::f32, false).data);
}

const float* ProbeArguments::optional_floats(const char* name, int64_t count) { return has(name) ? floats(name, count) : nullptr; }

std::vector<int32_t> ProbeArguments::host_ints(const char* name) const {
  Napi::Value value = get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) wrong(name, "an Int32Array");
  Napi::Int32Array array = value.As<Napi::Int32Array>();
  return std::vector<int32_t>(array.Data(), array.Data() + array.ElementLength());
}

const int32_t* ProbeArguments::upload(const std::vector<int32_t>& values) {
  void* data = allocate(int64_t(values.size()) * 4);
  backend_->copy_in(data, values.data(), int64_t(values.size()) * 4);
  return static_cast<const int32_t*>(data);
}

const int32_t* ProbeArguments::ints(const char* name, int64_t count, int64_t below, bool negative_allowed) {
  const std::vector<int32_t> values = host_ints(name);
  if (int64_t(values.size()) != count) wrong(name, "an Int32Array of " + std::to_string(count));
  for (int32_t value : values) {
    if ((value < 0 && !negative_allowed) || value >= below) wrong(name, "in [0, " + std::to_string(below) + "), not " + std::to_string(value));
  }
  return upload(values);
}

Matrix ProbeArguments::output(const char* name, int64_t rows, int64_t cols, DType dtype, Absent absent) {
  const float start = absent == Absent::nan ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
  const std::vector<float> values = has(name) ? host_floats(name, rows * cols) : std::vector<float>(size_t(rows * cols), start);
  return place(name, values, rows, cols, cols + padding_, dtype, true);
}

float* ProbeArguments::output_floats(const char* name, int64_t count, Absent absent) {
  const float start = absent == Absent::nan ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
  const std::vector<float> values = has(name) ? host_floats(name, count) : std::vector<float>(size_t(count), start);
  return static_cast<float*>(place(name, values, 1, count, count, DType::f32, true).data);
}

float* ProbeArguments::optional_output_floats(const char* name, int64_t count) { return has(name) ? output_floats(name, count) : nullptr; }

void* ProbeArguments::scratch(int64_t bytes) { return allocate(bytes); }

Napi::Object ProbeArguments::results(Napi::Env env) {
  Napi::Object results = Napi::Object::New(env);
  for (const Output& output : outputs_) {
    std::vector<char> bytes(size_t(output.rows * output.ld * size_of(output.dtype)));
    backend_->copy_out(bytes.data(), output.data, int64_t(bytes.size()));
    const std::vector<float> strided = widened(bytes, output.dtype);
    std::vector<float> values(size_t(output.rows * output.cols));
    for (int64_t row = 0; row < output.rows; ++row) {
      const auto begin = strided.begin() + row * output.ld;
      std::copy_n(begin, output.cols, values.begin() + row * output.cols);
      if (std::any_of(begin + output.cols, begin + output.ld, [](float x) { return x != kPattern; })) {
        throw Error(ErrorCode::internal, "the op wrote beyond the columns of \"" + output.name + "\", row " + std::to_string(row));
      }
    }
    results.Set(output.name, floats_to_js(env, std::move(values)));
  }
  for (const auto& [name, value] : numbers_) results.Set(name, value);
  return results;
}

}  // namespace polypaca
