#include "binding/fasttext_wrap.h"

#include <utility>

#include "binding/addon_data.h"
#include "binding/from_js.h"
#include "binding/job_runner.h"
#include "binding/to_js.h"

namespace polypaca {

void FastTextWrap::define(Napi::Env env) {
  Napi::Function constructor = DefineClass(env, "NativeFastText",
                                           {InstanceAccessor<&FastTextWrap::labels>("labels"), InstanceMethod<&FastTextWrap::predict>("predict"),
                                            InstanceMethod<&FastTextWrap::dispose>("dispose")});
  env.GetInstanceData<AddonData>()->fasttext = Napi::Persistent(constructor);
}

FastTextWrap::FastTextWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FastTextWrap>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "use loadFastText");
  model_ = *info[0].As<Napi::External<std::shared_ptr<const FastTextModel>>>().Data();
  account(info.Env(), model_->bytes());
}

FastTextWrap::~FastTextWrap() {
  account(Env(), 0);
  if (model_) JobRunner::instance().post([model = std::move(model_)] {});  // large memory is given back off the JS thread
}

void FastTextWrap::account(Napi::Env env, int64_t bytes) {
  // Not Napi::MemoryManagement: it throws, and a finalizer of an environment that goes away may be told no more.
  int64_t total = 0;
  napi_adjust_external_memory(env, bytes - accounted_, &total);
  accounted_ = bytes;
}

Napi::Value FastTextWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::string path = info[0].ToString();
    return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [path](Job&) -> JobRunner::Resolve {
      std::shared_ptr<const FastTextModel> model = load_fasttext(path);
      return [model](Napi::Env env) mutable -> Napi::Value {
        return env.GetInstanceData<AddonData>()->fasttext.New({Napi::External<std::shared_ptr<const FastTextModel>>::New(env, &model)});
      };
    });
  });
}

std::shared_ptr<const FastTextModel> FastTextWrap::live() const {
  if (!model_) throw Error(ErrorCode::disposed, "this fastText model was disposed of");
  return model_;
}

Napi::Value FastTextWrap::labels(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return strings_to_js(info.Env(), live()->labels()); });
}

Napi::Value FastTextWrap::predict(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto lines = strings_from_js(info[0], "lines");
    const int32_t count = info[1].ToNumber();
    return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [model = live(), lines = std::move(lines), count](Job& job) -> JobRunner::Resolve {
      auto found = std::make_shared<LabelPredictions>(model->predict(lines, count, job.stop()));
      return [found](Napi::Env env) {
        Napi::Object o = Napi::Object::New(env);
        o.Set("counts", int32_to_js(env, found->counts));
        o.Set("labels", int32_to_js(env, found->labels));
        o.Set("probabilities", floats_to_js(env, std::move(found->probabilities)));
        return o;
      };
    });
  });
}

Napi::Value FastTextWrap::dispose(const Napi::CallbackInfo& info) {
  account(info.Env(), 0);
  // Behind the jobs that are queued already; without a model (disposed before) there is only the waiting.
  return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [model = std::exchange(model_, {})](Job&) -> JobRunner::Resolve {
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

}  // namespace polypaca
