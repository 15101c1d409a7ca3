// Arguments and results of a probe: JavaScript arrays on one side, the back end's memory on the other.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"

namespace polypaca {

/// What to put in an output before the op runs, where the caller gave nothing: NaN shows that "assigns" does not read.
enum class Absent { nan, zero };

/// Reads `args`, owns every buffer that an op is given, and collects what it leaves in them.
/// A matrix lies in memory with `padding` spare columns per row, filled with a pattern; an op that writes there is an error.
class ProbeArguments {
 public:
  ProbeArguments(Napi::Object args, std::shared_ptr<Backend> backend);
  ~ProbeArguments();
  ProbeArguments(const ProbeArguments&) = delete;
  ProbeArguments& operator=(const ProbeArguments&) = delete;

  // ---- plain values; throw invalid_argument naming the argument where it is missing and has no default ----
  bool has(const char* name) const;
  double number(const char* name) const;
  double number(const char* name, double otherwise) const;
  int64_t integer(const char* name) const;
  int64_t integer(const char* name, int64_t otherwise) const;
  bool flag(const char* name, bool otherwise) const;
  std::string text(const char* name) const;
  /// "fp32" or "bf16"; fp32 where absent.
  DType dtype(const char* name, DType otherwise = DType::f32) const;

  // ---- inputs ----
  Matrix matrix(const char* name, int64_t rows, int64_t cols, DType dtype);
  const float* floats(const char* name, int64_t count);
  /// Null where the argument is absent.
  const float* optional_floats(const char* name, int64_t count);
  /// `below` > 0: every element must be in [0, below), or below 0 too where `negative_allowed`.
  const int32_t* ints(const char* name, int64_t count, int64_t below, bool negative_allowed = false);
  /// The same, left on the host.
  std::vector<int32_t> host_ints(const char* name) const;
  const int32_t* upload(const std::vector<int32_t>& values);
  int64_t length(const char* name) const;
  /// A value of the back end's memory.
  template <typename T>
  T* place_value(const T& value) {
    T* data = static_cast<T*>(scratch(sizeof(T)));
    backend_->copy_in(data, &value, sizeof(T));
    return data;
  }
  template <typename T>
  T value_at(const T* data) const {
    T value;
    backend_->copy_out(&value, data, sizeof(T));
    return value;
  }

  // ---- outputs; they start with the argument of the same name where there is one, and are in the result under it ----
  Matrix output(const char* name, int64_t rows, int64_t cols, DType dtype, Absent absent = Absent::nan);
  float* output_floats(const char* name, int64_t count, Absent absent = Absent::nan);
  /// For gradients that may be frozen: null, and not in the result, where the caller gave nothing to add to.
  float* optional_output_floats(const char* name, int64_t count);
  /// Memory of no interest to the caller.
  void* scratch(int64_t bytes);
  Backend& backend() const { return *backend_; }

  /// A number for the result.
  void report(const char* name, double value) { numbers_.emplace_back(name, value); }

  /// Everything declared as output, widened to fp32, and what was reported.
  Napi::Object results(Napi::Env env);

 private:
  struct Output {
    std::string name;
    void* data;
    DType dtype;
    int64_t rows, cols, ld;
  };

  Napi::Value get(const char* name) const;
  std::vector<float> host_floats(const char* name, int64_t count) const;
  Matrix place(const char* name, const std::vector<float>& values, int64_t rows, int64_t cols, int64_t ld, DType dtype, bool is_output);
  void* allocate(int64_t bytes);

  Napi::Object args_;
  std::shared_ptr<Backend> backend_;
  std::vector<void*> blocks_;
  std::vector<Output> outputs_;
  std::vector<std::pair<std::string, double>> numbers_;
  int64_t padding_ = 0;
};

}  // namespace polypaca
