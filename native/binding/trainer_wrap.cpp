#include "binding/trainer_wrap.h"

#include "binding/addon_data.h"
#include "binding/from_js.h"
#include "binding/to_js.h"

namespace polypaca {

void TrainerWrap::define(Napi::Env env, Napi::Object) {
  Napi::Function constructor = DefineClass(env, "NativeTrainer",
                                           {InstanceAccessor<&TrainerWrap::steps_taken>("stepsTaken"), InstanceAccessor<&TrainerWrap::memory>("memory"),
                                            InstanceMethod<&TrainerWrap::step>("step"), InstanceMethod<&TrainerWrap::tensors>("tensors"),
                                            InstanceMethod<&TrainerWrap::write>("write"), InstanceMethod<&TrainerWrap::restore>("restore"),
                                            InstanceMethod<&TrainerWrap::request_stop>("requestStop"), InstanceMethod<&TrainerWrap::dispose>("dispose")});
  env.GetInstanceData<AddonData>()->trainer = Napi::Persistent(constructor);
}

TrainerWrap::TrainerWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TrainerWrap>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "use model.createTrainer");
  trainer_ = *info[0].As<Napi::External<std::shared_ptr<Trainer>>>().Data();
}

TrainerWrap::~TrainerWrap() {
  if (trainer_) JobRunner::instance().post([trainer = std::move(trainer_)] {});  // it lays weights out again: not on the JS thread
}

Napi::Value TrainerWrap::wrap(Napi::Env env, std::shared_ptr<Trainer> trainer) {
  return env.GetInstanceData<AddonData>()->trainer.New({Napi::External<std::shared_ptr<Trainer>>::New(env, &trainer)});
}

std::shared_ptr<Trainer> TrainerWrap::live() const {
  if (!trainer_) throw Error(ErrorCode::disposed, "this trainer was disposed of");
  return trainer_;
}

Napi::Value TrainerWrap::steps_taken(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return Napi::Number::New(info.Env(), double(live()->steps_taken())); });
}

Napi::Value TrainerWrap::memory(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return memory_plan_to_js(info.Env(), live()->memory()); });
}

Napi::Value TrainerWrap::step(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto batches = batches_from_js(info[0]);
    Napi::Object options = info[1].ToObject();
    const float learning_rate = float(number_field(options, "learningRate"));
    const int64_t targets = int64_t(number_field(options, "targetTokens"));
    return JobRunner::instance().submit(info.Env(), stops_.add(), [trainer = live(), batches = std::move(batches), learning_rate, targets](Job& job) -> JobRunner::Resolve {
      const StepResult result = trainer->step(batches, learning_rate, targets, job.stop());
      return [result](Napi::Env env) { return step_result_to_js(env, result); };
    });
  });
}

Napi::Value TrainerWrap::tensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Napi::Array list = Napi::Array::New(info.Env());
    for (const Trainer::StateTensor& t : live()->state()) list.Set(list.Length(), tensor_info_to_js(info.Env(), t.name, t.shape, stored_name(t.dtype)));
    return list;
  });
}

Napi::Value TrainerWrap::write(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto layout = layout_from_js(info[0]);
    return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [trainer = live(), layout](Job&) -> JobRunner::Resolve {
      const std::vector<Trainer::StateTensor> state = trainer->state();
      std::vector<TensorToWrite> tensors;
      for (const auto& [name, dtype] : layout.tensors) {
        auto at = std::find_if(state.begin(), state.end(), [&, wanted = name](const auto& t) { return t.name == wanted; });
        if (at == state.end()) throw Error(ErrorCode::invalid_argument, "the trainer has no tensor \"" + name + "\"");
        tensors.push_back({name, dtype, at->count(), [trainer = trainer.get(), t = *at](float* dst, int64_t first, int64_t n) { trainer->read_state(t, dst, first, n); }});
      }
      write_tensor_file(layout.path, layout.header, tensors);
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

Napi::Value TrainerWrap::restore(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto sources = sources_from_js(info[0]);
    const int64_t steps = info[1].ToNumber().Int64Value();
    return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [trainer = live(), sources, steps](Job&) -> JobRunner::Resolve {
      trainer->restore(sources, steps);
      return [](Napi::Env env) { return env.Undefined(); };
    });
  });
}

Napi::Value TrainerWrap::request_stop(const Napi::CallbackInfo& info) {
  stops_.request();
  return info.Env().Undefined();
}

Napi::Value TrainerWrap::dispose(const Napi::CallbackInfo& info) {
  return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [trainer = std::exchange(trainer_, nullptr)](Job&) -> JobRunner::Resolve {
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

}  // namespace polypaca
