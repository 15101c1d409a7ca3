#include "binding/model_wrap.h"

#include <algorithm>

#include "binding/addon_data.h"
#include "binding/continuous_batch_wrap.h"
#include "binding/from_js.h"
#include "binding/to_js.h"
#include "binding/trainer_wrap.h"

namespace polypaca {

std::shared_ptr<StopFlag> StopFlags::add() {
  flags_.erase(std::remove_if(flags_.begin(), flags_.end(), [](const auto& f) { return f.expired(); }), flags_.end());
  auto flag = std::make_shared<StopFlag>(false);
  flags_.push_back(flag);
  return flag;
}

void StopFlags::request() {
  for (const auto& weak : flags_) {
    if (auto flag = weak.lock()) flag->store(true);
  }
}

void ModelWrap::define(Napi::Env env, Napi::Object) {
  Napi::Function constructor = DefineClass(env, "NativeModel",
                                           {InstanceAccessor<&ModelWrap::parameters>("parameters"), InstanceMethod<&ModelWrap::tensors>("tensors"),
                                            InstanceMethod<&ModelWrap::read>("read"), InstanceMethod<&ModelWrap::write>("write"),
                                            InstanceMethod<&ModelWrap::add_lora>("addLora"), InstanceMethod<&ModelWrap::load_adapter>("loadAdapter"),
                                            InstanceMethod<&ModelWrap::merge>("merge"), InstanceMethod<&ModelWrap::logits>("logits"),
                                            InstanceMethod<&ModelWrap::loss>("loss"), InstanceMethod<&ModelWrap::gradients>("gradients"),
                                            InstanceMethod<&ModelWrap::generate>("generate"), InstanceMethod<&ModelWrap::create_trainer>("createTrainer"),
                                            InstanceMethod<&ModelWrap::open_batch>("openBatch"), InstanceMethod<&ModelWrap::activate_adapter>("activateAdapter"),
                                            InstanceMethod<&ModelWrap::request_stop>("requestStop"), InstanceMethod<&ModelWrap::dispose>("dispose")});
  env.GetInstanceData<AddonData>()->model = Napi::Persistent(constructor);
}

ModelWrap::ModelWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ModelWrap>(info) {
  if (info.Length() != 1 || !info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "use loadModel or initModel");
  shared_ = *info[0].As<Napi::External<SharedModel>>().Data();
}

ModelWrap::~ModelWrap() {
  account(Env(), 0);
  if (shared_.model) JobRunner::instance().post([shared = std::move(shared_)] {});  // large memory is given back off the JS thread
}

Napi::Value ModelWrap::wrap(Napi::Env env, SharedModel shared) {
  const Model& m = *shared.model;
  const int64_t bytes = m.matrices.count() * (m.options.dtype == DType::bf16 ? 2 : 4) + m.vectors.count() * 4;
  Napi::Object object = env.GetInstanceData<AddonData>()->model.New({Napi::External<SharedModel>::New(env, &shared)});
  Unwrap(object)->account(env, bytes);
  return object;
}

void ModelWrap::account(Napi::Env env, int64_t bytes) {
  // Not Napi::MemoryManagement: it throws, and a finalizer of an environment that goes away may be told no more.
  int64_t total = 0;
  napi_adjust_external_memory(env, bytes - accounted_, &total);
  accounted_ = bytes;
}

SharedModel ModelWrap::live() const {
  if (!shared_.model) throw Error(ErrorCode::disposed, "this model was disposed of");
  return shared_;
}

template <typename Work>
Napi::Value ModelWrap::submit(Napi::Env env, Work work) {
  SharedModel shared = live();
  return JobRunner::instance().submit(env, stops_.add(), [shared, work = std::move(work)](Job& job) mutable { return work(shared, job); });
}

namespace {

JobRunner::Resolve undefined_result() {
  return [](Napi::Env env) { return env.Undefined(); };
}

template <typename Fill>
Napi::Value create(const Napi::CallbackInfo& info, const Napi::Value& spec, const Napi::Value& options, Napi::Value (*wrap)(Napi::Env, SharedModel), Fill fill) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto parsed_spec = spec_from_js(spec);
    auto parsed_options = model_options_from_js(options);
    return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [=](Job&) -> JobRunner::Resolve {
      SharedModel shared;
      shared.model = std::make_shared<Model>(parsed_spec, parsed_options);
      fill(*shared.model);
      shared.decoder = std::make_shared<Decoder>(*shared.model);
      return [shared, wrap](Napi::Env env) { return wrap(env, shared); };
    });
  });
}

}  // namespace

Napi::Value ModelWrap::load(const Napi::CallbackInfo& info) {
  std::vector<TensorSource> sources;
  guarded(info.Env(), [&] {
    sources = sources_from_js(info[1]);
    return info.Env().Undefined();
  });
  return create(info, info[0], info[2], &ModelWrap::wrap, [sources = std::move(sources)](Model& m) { m.load(sources); });
}

Napi::Value ModelWrap::init(const Napi::CallbackInfo& info) {
  double seed = 0, range = 0;
  guarded(info.Env(), [&] {
    seed = number_field(info[1].ToObject(), "seed");
    range = number_field(info[1].ToObject(), "initializerRange");
    return info.Env().Undefined();
  });
  return create(info, info[0], info[1], &ModelWrap::wrap, [seed, range](Model& m) { m.initialize(uint64_t(seed), float(range)); });
}

Napi::Value ModelWrap::parameters(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return Napi::Number::New(info.Env(), double(live().model->parameter_count())); });
}

Napi::Value ModelWrap::tensors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    SharedModel shared = live();
    const std::string kind = info[0].ToString();
    if (kind != "weights" && kind != "adapter") throw Error(ErrorCode::invalid_argument, "tensors(\"weights\" | \"adapter\"), not \"" + kind + "\"");
    const bool low = shared.model->options.dtype == DType::bf16;
    Napi::Array list = Napi::Array::New(info.Env());
    for (const Parameter& p : kind == "weights" ? shared.model->parameters : shared.model->adapter_parameters) {
      list.Set(list.Length(), tensor_info_to_js(info.Env(), p.name, p.shape, low && p.space == Space::matrices ? "BF16" : "F32"));
    }
    return list;
  });
}

Napi::Value ModelWrap::read(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const std::string name = info[0].ToString();
    return submit(info.Env(), [name](const SharedModel& shared, Job&) -> JobRunner::Resolve {
      const Parameter* p = shared.model->find(name);
      if (!p) throw Error(ErrorCode::invalid_argument, "the model has no tensor \"" + name + "\"");
      auto values = std::make_shared<std::vector<float>>(size_t(p->count));
      shared.model->read(*p, values->data(), 0, p->count);
      return [values, parameter = *p](Napi::Env env) { return named_tensor_to_js(env, parameter.name, parameter.shape, std::move(*values)); };
    });
  });
}

Napi::Value ModelWrap::write(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto layout = layout_from_js(info[0]);
    return submit(info.Env(), [layout](const SharedModel& shared, Job&) -> JobRunner::Resolve {
      std::vector<TensorToWrite> tensors;
      for (const auto& [name, dtype] : layout.tensors) {
        const Parameter* p = shared.model->find(name);
        if (!p) throw Error(ErrorCode::invalid_argument, "the model has no tensor \"" + name + "\"");
        tensors.push_back({name, dtype, p->count, [model = shared.model.get(), p](float* dst, int64_t first, int64_t n) { model->read(*p, dst, first, n); }});
      }
      write_tensor_file(layout.path, layout.header, tensors);
      return undefined_result();
    });
  });
}

Napi::Value ModelWrap::add_lora(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto settings = lora_from_js(info[0]);
    return submit(info.Env(), [settings](const SharedModel& shared, Job&) -> JobRunner::Resolve {
      shared.model->add_lora(settings);
      return undefined_result();
    });
  });
}

Napi::Value ModelWrap::load_adapter(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto settings = lora_from_js(info[0]);
    auto sources = sources_from_js(info[1]);
    const std::string name = info[2].ToString();
    return submit(info.Env(), [name, settings, sources](const SharedModel& shared, Job&) -> JobRunner::Resolve {
      shared.model->load_adapter(name, settings, sources);
      return undefined_result();
    });
  });
}

Napi::Value ModelWrap::activate_adapter(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const std::string name = info[0].IsNull() ? std::string() : info[0].ToString().Utf8Value();
    return submit(info.Env(), [name](const SharedModel& shared, Job&) -> JobRunner::Resolve {
      if (shared.model->adapters.grad) throw Error(ErrorCode::invalid_argument, "the adapter is being trained: dispose of the trainer before another one is used");
      shared.model->activate_adapter(name);
      return undefined_result();
    });
  });
}

Napi::Value ModelWrap::merge(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return submit(info.Env(), [](const SharedModel& shared, Job&) -> JobRunner::Resolve {
      if (shared.model->adapters.grad) throw Error(ErrorCode::invalid_argument, "the adapter is being trained: dispose of the trainer before merging");
      shared.decoder->release_workspaces();
      shared.model->merge_adapter();
      return undefined_result();
    });
  });
}

Napi::Value ModelWrap::logits(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto batch = batch_from_js(info[0]);
    return submit(info.Env(), [batch](const SharedModel& shared, Job& job) -> JobRunner::Resolve {
      Model& m = *shared.model;
      const BatchTables tables = make_tables(batch, m.spec.vocab_size, m.spec.max_positions);
      Workspace& ws = shared.decoder->workspace(WorkspaceKind::forward, tables.N);
      shared.decoder->upload(ws, batch.input_ids, tables);
      shared.decoder->forward(ws, tables, {}, job.stop());
      auto values = std::make_shared<std::vector<float>>(size_t(tables.N * m.spec.vocab_size));
      shared.decoder->logits(ws, 0, tables.N, values->data());
      return [values](Napi::Env env) { return floats_to_js(env, std::move(*values)); };
    });
  });
}

Napi::Value ModelWrap::loss(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto batch = batch_from_js(info[0]);
    return submit(info.Env(), [batch](const SharedModel& shared, Job& job) -> JobRunner::Resolve {
      Model& m = *shared.model;
      const BatchTables tables = make_tables(batch, m.spec.vocab_size, m.spec.max_positions);
      Workspace& ws = shared.decoder->workspace(WorkspaceKind::forward, tables.N);
      shared.decoder->upload(ws, batch.input_ids, tables);
      shared.decoder->forward(ws, tables, {}, job.stop());
      shared.decoder->begin_step({});
      shared.decoder->head_loss(ws, tables, false, job.stop());
      const double sum = shared.decoder->read_step().loss_sum;
      const int64_t targets = int64_t(tables.targets.size());
      return [sum, targets](Napi::Env env) {
        Napi::Object o = Napi::Object::New(env);
        o.Set("lossSum", sum);
        o.Set("targetTokens", double(targets));
        return o;
      };
    });
  });
}

Napi::Value ModelWrap::gradients(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto batch = batch_from_js(info[0]);
    return submit(info.Env(), [batch](const SharedModel& shared, Job& job) -> JobRunner::Resolve {
      Model& m = *shared.model;
      Decoder& decoder = *shared.decoder;
      if (m.matrices.grad || m.adapters.grad) throw Error(ErrorCode::invalid_argument, "gradients() while a trainer holds this model: dispose of the trainer first");
      const BatchTables tables = make_tables(batch, m.spec.vocab_size, m.spec.max_positions);
      if (tables.targets.empty()) throw Error(ErrorCode::invalid_argument, "the batch has no target tokens: every label is -100");
      // Gradient buffers for the length of this call.
      struct Scope {
        Model& m;
        Decoder& decoder;
        ~Scope() {
          for (FlatValues* values : {&m.matrices, &m.vectors, &m.adapters}) values->release_gradient();
          decoder.release_workspaces();
        }
      } scope{m, decoder};
      decoder.release_workspaces();
      if (m.has_adapter()) {
        m.adapters.allocate_gradient();
      } else {
        m.matrices.allocate_gradient();
        m.vectors.allocate_gradient();
      }
      StepState state;
      state.grad_scale = 1.0f / float(tables.targets.size());
      decoder.begin_step(state);
      const PassOptions pass;
      Workspace& ws = decoder.workspace(WorkspaceKind::train, tables.N);
      decoder.begin_gradients();
      decoder.upload(ws, batch.input_ids, tables);
      decoder.forward(ws, tables, pass, job.stop());
      decoder.head_loss(ws, tables, true, job.stop());
      decoder.backward(ws, tables, pass, job.stop());
      decoder.finish_gradients();
      struct Result {
        std::string name;
        std::vector<int64_t> shape;
        std::vector<float> values;
      };
      auto results = std::make_shared<std::vector<Result>>();
      for (const Parameter& p : m.has_adapter() ? m.adapter_parameters : m.parameters) {
        Result r{p.name, p.shape, std::vector<float>(size_t(p.count))};
        m.backend->copy_out(r.values.data(), m.space(p.space).grad + p.offset, p.count * 4);
        results->push_back(std::move(r));
      }
      return [results](Napi::Env env) {
        Napi::Array list = Napi::Array::New(env, results->size());
        for (uint32_t i = 0; i < results->size(); ++i) list.Set(i, named_tensor_to_js(env, (*results)[i].name, (*results)[i].shape, std::move((*results)[i].values)));
        return list;
      };
    });
  });
}

Napi::Value ModelWrap::generate(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto prompts = prompts_from_js(info[0]);
    auto options = generate_options_from_js(info[1]);
    // Shared with the calls that are queued on this thread; released on it as well.
    std::shared_ptr<Napi::FunctionReference> listener;
    if (info[2].IsFunction()) listener = std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[2].As<Napi::Function>()));
    return submit(info.Env(), [prompts, options, listener](const SharedModel& shared, Job& job) mutable -> JobRunner::Resolve {
      OnToken on_token;
      if (listener) {
        on_token = [&job, &listener](int64_t prompt, int32_t token) {
          job.notify([listener, prompt, token](Napi::Env env) {
            Napi::HandleScope scope(env);
            listener->Call({Napi::Number::New(env, double(prompt)), Napi::Number::New(env, token)});
          });
        };
      }
      // The reference must be let go on the JS thread, also where generation throws.
      auto hand_back = [&] {
        if (listener) job.notify([listener = std::move(listener)](Napi::Env) {});
      };
      try {
        auto results = std::make_shared<std::vector<Generated>>(polypaca::generate(*shared.model, *shared.decoder, prompts, options, on_token, job.stop()));
        hand_back();
        return [results](Napi::Env env) { return generated_to_js(env, *results); };
      } catch (...) {
        hand_back();
        throw;
      }
    });
  });
}

Napi::Value ModelWrap::create_trainer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    auto options = trainer_options_from_js(info[0]);
    return submit(info.Env(), [options](const SharedModel& shared, Job&) -> JobRunner::Resolve {
      auto trainer = std::make_shared<Trainer>(shared.model, shared.decoder, options);
      return [trainer](Napi::Env env) { return TrainerWrap::wrap(env, trainer); };
    });
  });
}

Napi::Value ModelWrap::open_batch(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Napi::Object options = info[0].ToObject();
    const int64_t slots = int64_t(number_field(options, "slots")), max_length = int64_t(number_field(options, "maxLength"));
    if (slots < 1 || max_length < 2) throw Error(ErrorCode::invalid_argument, "a batch needs at least 1 slot and a maxLength of at least 2");
    return submit(info.Env(), [slots, max_length](const SharedModel& shared, Job&) -> JobRunner::Resolve {
      auto batch = std::make_shared<ContinuousBatch>(shared.model, shared.decoder, slots, max_length);
      return [batch](Napi::Env env) { return ContinuousBatchWrap::wrap(env, batch); };
    });
  });
}

Napi::Value ModelWrap::request_stop(const Napi::CallbackInfo& info) {
  stops_.request();
  return info.Env().Undefined();
}

Napi::Value ModelWrap::dispose(const Napi::CallbackInfo& info) {
  account(info.Env(), 0);
  // Behind the jobs that are queued already; without a model (disposed before) there is only the waiting.
  return JobRunner::instance().submit(info.Env(), std::make_shared<StopFlag>(false), [shared = std::exchange(shared_, {})](Job&) { return undefined_result(); });
}

}  // namespace polypaca
