#include "binding/continuous_batch_wrap.h"

#include "binding/addon_data.h"
#include "binding/from_js.h"
#include "binding/to_js.h"

namespace polypaca {

void ContinuousBatchWrap::define(Napi::Env env, Napi::Object) {
  Napi::Function constructor = DefineClass(env, "NativeContinuousBatch",
                                           {InstanceMethod<&ContinuousBatchWrap::step>("step"), InstanceMethod<&ContinuousBatchWrap::request_stop>("requestStop"),
                                            InstanceMethod<&ContinuousBatchWrap::dispose>("dispose")});
  env.GetInstanceData<AddonData>()->continuous_batch = Napi::Persistent(constructor);
}

ContinuousBatchWrap::ContinuousBatchWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ContinuousBatchWrap>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "use model.openBatch");
  batch_ = *info[0].As<Napi::External<std::shared_ptr<ContinuousBatch>>>().Data();
}

ContinuousBatchWrap::~ContinuousBatchWrap() {
  if (batch_) JobRunner::instance().post([batch = std::move(batch_)] {});  // large memory is given back off the JS thread
}

Napi::Value ContinuousBatchWrap::wrap(Napi::Env env, std::shared_ptr<ContinuousBatch> batch) {
  return env.GetInstanceData<AddonData>()->continuous_batch.New({Napi::External<std::shared_ptr<ContinuousBatch>>::New(env, &batch)});
}

std::shared_ptr<ContinuousBatch> ContinuousBatchWrap::live() const {
  if (!batch_) throw Error(ErrorCode::disposed, "this batch was closed");
  return batch_;
}

Napi::Value ContinuousBatchWrap::step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto removals = integers_from_js(info[0]);
    auto admissions = admissions_from_js(info[1]);
    return JobRunner::instance().submit(info.Env(), stops_.add(), [batch = live(), removals = std::move(removals), admissions = std::move(admissions)](Job& job) mutable -> JobRunner::Resolve {
      auto decoded = std::make_shared<std::vector<DecodedToken>>(batch->step(removals, std::move(admissions), job.stop()));
      return [decoded](Napi::Env env) { return decoded_to_js(env, *decoded); };
    });
  });
}

Napi::Value ContinuousBatchWrap::request_stop(const Napi::CallbackInfo& info) {
  stops_.request();
  return info.Env().Undefined();
}

Napi::Value ContinuousBatchWrap::dispose(const Napi::CallbackInfo& info) {
  return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [batch = std::exchange(batch_, nullptr)](Job&) -> JobRunner::Resolve {
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

}  // namespace polypaca
