// C++ values and errors to JavaScript.
#pragma once
#include <napi.h>

#include <exception>
#include <string>
#include <vector>

#include "model/continuous_batch.h"
#include "train/trainer.h"

namespace polypaca {

/// The one place where exceptions become JavaScript errors: `message`, and `code` as src/errors.ts lists it.
Napi::Value error_to_js(Napi::Env env, std::exception_ptr failure);

/// Runs `f`, turning what it throws into a JavaScript exception. For code on the JS thread.
template <typename F>
Napi::Value guarded(Napi::Env env, F&& f) {
  try {
    return f();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw Napi::Error(env, error_to_js(env, std::current_exception()));
  }
}

/// A Float32Array over memory that the addon owns until the array is collected.
Napi::Value floats_to_js(Napi::Env env, std::vector<float> values);
Napi::Value int32_to_js(Napi::Env env, const std::vector<int32_t>& values);
Napi::Value strings_to_js(Napi::Env env, const std::vector<std::string>& values);
Napi::Value shape_to_js(Napi::Env env, const std::vector<int64_t>& shape);
Napi::Value tensor_info_to_js(Napi::Env env, const std::string& name, const std::vector<int64_t>& shape, const char* dtype);
Napi::Value named_tensor_to_js(Napi::Env env, const std::string& name, const std::vector<int64_t>& shape, std::vector<float> values);
Napi::Value step_result_to_js(Napi::Env env, const StepResult& result);
Napi::Value memory_plan_to_js(Napi::Env env, const MemoryPlan& plan);
Napi::Value generated_to_js(Napi::Env env, const std::vector<Generated>& results);
Napi::Value decoded_to_js(Napi::Env env, const std::vector<DecodedToken>& tokens);

}  // namespace polypaca
