// What the addon exports; src/native/addon-types.ts is its mirror.
#include <napi.h>

#include "binding/addon_data.h"
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
    o.Set("memoryAvailable", double(memory.available));
    o.Set("memoryTotal", double(memory.total));
    o.Set("memoryLimitedBy", memory.limited_by);
    o.Set("cuda", "not built");
    return o;
  });
}

/// What a GPU holds and reaches is its own back end's to tell.
void require_cpu(const Napi::Value& device, const char* what) {
  if (device.IsUndefined()) return;
  const std::string name = device.ToString();
  if (name != "cpu") throw Error(ErrorCode::unsupported, std::string(what) + ": device \"" + name + "\": this build has the CPU back end only");
}

Napi::Value memory_usage(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    require_cpu(info[0], "memoryUsage");
    Napi::Object o = Napi::Object::New(info.Env());
    o.Set("resident", double(resident_bytes()));
    o.Set("peakResident", double(peak_resident_bytes()));
    o.Set("available", double(memory_limits().available));
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
    require_cpu(info[2], "measurePeak");
    return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [dtype, milliseconds](Job&) -> JobRunner::Resolve {
      const double rate = measure_gemm_peak(dtype == "bf16" ? DType::bf16 : DType::f32, milliseconds);
      return [rate](Napi::Env env) { return Napi::Number::New(env, rate); };
    });
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new AddonData());
  JobRunner::attach(env);
  ModelWrap::define(env, exports);
  TrainerWrap::define(env, exports);
  exports.Set("version", POLYPACA_VERSION);
  exports.Set("machine", Napi::Function::New(env, machine, "machine"));
  exports.Set("memoryUsage", Napi::Function::New(env, memory_usage, "memoryUsage"));
  exports.Set("loadModel", Napi::Function::New(env, ModelWrap::load, "loadModel"));
  exports.Set("initModel", Napi::Function::New(env, ModelWrap::init, "initModel"));
  exports.Set("planMemory", Napi::Function::New(env, plan, "planMemory"));
  exports.Set("probe", Napi::Function::New(env, Probe, "probe"));
  exports.Set("measurePeak", Napi::Function::New(env, measure_peak, "measurePeak"));
  exports.Set("timeKernel", Napi::Function::New(env, time_kernel, "timeKernel"));
  return exports;
}

}  // namespace

NODE_API_MODULE(polypaca, init)

}  // namespace polypaca
