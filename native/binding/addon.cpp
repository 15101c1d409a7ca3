// What the addon exports; src/native/addon-types.ts is its mirror.
#include <napi.h>

#include <string>

#include "binding/addon_data.h"
#include "binding/continuous_batch_wrap.h"
#include "binding/fasttext_wrap.h"
#include "binding/from_js.h"
#include "binding/job_runner.h"
#include "binding/kernel_timer.h"
#include "binding/model_wrap.h"
#include "binding/probe.h"
#include "binding/to_js.h"
#include "binding/trainer_wrap.h"
#include "core/memory.h"

namespace polypaca {
namespace {

/// "not built", the driver's problem, or what was found.
std::string describe_cuda(const CudaFeatures& f) {
  if (!f.built) return "not built";
  if (f.devices.empty()) return f.problem;
  return std::to_string(f.devices.size()) + (f.devices.size() == 1 ? " device" : " devices");
}

Napi::Array cuda_devices(Napi::Env env, const CudaFeatures& f) {
  Napi::Array devices = Napi::Array::New(env, f.devices.size());
  for (size_t i = 0; i < f.devices.size(); ++i) {
    const CudaDevice& d = f.devices[i];
    Napi::Object o = Napi::Object::New(env);
    o.Set("index", d.index);
    o.Set("name", d.name);
    o.Set("computeCapability", std::to_string(d.major) + "." + std::to_string(d.minor));
    o.Set("memoryTotal", double(d.total_memory));
    devices.Set(uint32_t(i), o);
  }
  return devices;
}

Napi::Value machine(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const CpuFeatures f = cpu_features();
    const MemoryLimits memory = memory_limits();
    Napi::Object o = Napi::Object::New(info.Env());
    o.Set("isa", f.isa);
    o.Set("bf16Dot", f.bf16_dot);
    o.Set("amxBf16", f.amx_bf16);
    o.Set("gemm", f.gemm);
    o.Set("onednn", f.onednn);
    o.Set("threads", f.threads);
    o.Set("fastText", fasttext_is_built());
    o.Set("memoryAvailable", double(memory.available));
    o.Set("memoryTotal", double(memory.total));
    o.Set("memoryLimitedBy", memory.limited_by);
    const CudaFeatures cuda = cuda_features();
    o.Set("cuda", describe_cuda(cuda));
    o.Set("cudaDevices", cuda_devices(info.Env(), cuda));
    o.Set("cudaEmulator", cuda.emulator);
    return o;
  });
}

std::string device_or_cpu(const Napi::Value& device) { return device.IsUndefined() ? "cpu" : std::string(device.ToString()); }

Napi::Value memory_usage(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const DeviceMemory memory = device_memory(device_or_cpu(info[0]));
    Napi::Object o = Napi::Object::New(info.Env());
    o.Set("resident", double(memory.held));
    o.Set("peakResident", double(memory.most_held));
    o.Set("available", double(memory.available));
    return o;
  });
}

Napi::Value plan(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Model model(spec_from_js(info[0]), model_options_from_js(info[2]));
    if (!info[1].IsNull()) model.plan_lora(lora_from_js(info[1]));
    return memory_plan_to_js(info.Env(), plan_memory(model, trainer_options_from_js(info[3])));
  });
}

Napi::Value measure_peak(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string dtype = info[0].ToString();
    const double milliseconds = info[1].ToNumber();
    const std::string device = device_or_cpu(info[2]);
    return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [device, dtype, milliseconds](Job&) -> JobRunner::Resolve {
      const double rate = measure_peak(device, dtype == "bf16" ? DType::bf16 : DType::f32, milliseconds);
      return [rate](Napi::Env env) { return Napi::Number::New(env, rate); };
    });
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new AddonData());
  JobRunner::attach(env);
  ModelWrap::define(env, exports);
  TrainerWrap::define(env, exports);
  ContinuousBatchWrap::define(env, exports);
  FastTextWrap::define(env);
  exports.Set("version", POLYPACA_VERSION);
  exports.Set("machine", Napi::Function::New(env, machine, "machine"));
  exports.Set("memoryUsage", Napi::Function::New(env, memory_usage, "memoryUsage"));
  exports.Set("loadModel", Napi::Function::New(env, ModelWrap::load, "loadModel"));
  exports.Set("initModel", Napi::Function::New(env, ModelWrap::init, "initModel"));
  exports.Set("loadFastText", Napi::Function::New(env, FastTextWrap::load, "loadFastText"));
  exports.Set("planMemory", Napi::Function::New(env, plan, "planMemory"));
  exports.Set("probe", Napi::Function::New(env, Probe, "probe"));
  exports.Set("measurePeak", Napi::Function::New(env, measure_peak, "measurePeak"));
  exports.Set("timeKernel", Napi::Function::New(env, time_kernel, "timeKernel"));
  return exports;
}

}  // namespace

NODE_API_MODULE(polypaca, init)

}  // namespace polypaca
