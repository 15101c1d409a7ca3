#include "binding/to_js.h"

#include <cstring>
#include <new>

#include "core/error.h"

namespace polypaca {

Napi::Value error_to_js(Napi::Env env, std::exception_ptr failure) {
  std::string message, code;
  try {
    std::rethrow_exception(failure);
  } catch (const Napi::Error& error) {
    return error.Value();
  } catch (const Error& error) {
    message = error.what();
    code = name_of(error.code);
  } catch (const std::bad_alloc&) {
    message = "out of memory";
    code = name_of(ErrorCode::out_of_memory);
  } catch (const std::exception& error) {
    message = error.what();
    code = name_of(ErrorCode::internal);
  } catch (...) {
    message = "an unknown native exception";
    code = name_of(ErrorCode::internal);
  }
  Napi::Object error = Napi::Error::New(env, message).Value();
  error.Set("code", code);
  return error;
}

Napi::Value floats_to_js(Napi::Env env, std::vector<float> values) {
  auto* owned = new std::vector<float>(std::move(values));
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, owned->data(), owned->size() * 4, [](Napi::Env, void*, std::vector<float>* hint) { delete hint; }, owned);
  return Napi::Float32Array::New(env, buffer.ByteLength() / 4, buffer, 0);
}

Napi::Value int32_to_js(Napi::Env env, const std::vector<int32_t>& values) {
  Napi::Int32Array array = Napi::Int32Array::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * 4);
  return array;
}

Napi::Value strings_to_js(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array.Set(i, values[i]);
  return array;
}

Napi::Value shape_to_js(Napi::Env env, const std::vector<int64_t>& shape) {
  Napi::Array array = Napi::Array::New(env, shape.size());
  for (uint32_t i = 0; i < shape.size(); ++i) array.Set(i, double(shape[i]));
  return array;
}

Napi::Value tensor_info_to_js(Napi::Env env, const std::string& name, const std::vector<int64_t>& shape, const char* dtype) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("name", name);
  o.Set("shape", shape_to_js(env, shape));
  o.Set("dtype", dtype);
  return o;
}

Napi::Value named_tensor_to_js(Napi::Env env, const std::string& name, const std::vector<int64_t>& shape, std::vector<float> values) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("name", name);
  o.Set("shape", shape_to_js(env, shape));
  o.Set("data", floats_to_js(env, std::move(values)));
  return o;
}

Napi::Value step_result_to_js(Napi::Env env, const StepResult& r) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("loss", r.loss);
  o.Set("gradNorm", r.grad_norm);
  o.Set("tokens", double(r.tokens));
  o.Set("targetTokens", double(r.target_tokens));
  o.Set("seconds", r.seconds);
  o.Set("forwardSeconds", r.forward_seconds);
  o.Set("backwardSeconds", r.backward_seconds);
  o.Set("optimizerSeconds", r.optimizer_seconds);
  return o;
}

Napi::Value memory_plan_to_js(Napi::Env env, const MemoryPlan& plan) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("weights", double(plan.weights));
  o.Set("gradients", double(plan.gradients));
  o.Set("optimizer", double(plan.optimizer));
  o.Set("activations", double(plan.activations));
  o.Set("head", double(plan.head));
  o.Set("scratch", double(plan.scratch));
  o.Set("total", double(plan.total()));
  return o;
}

Napi::Value generated_to_js(Napi::Env env, const std::vector<Generated>& results) {
  Napi::Array list = Napi::Array::New(env, results.size());
  for (uint32_t i = 0; i < results.size(); ++i) {
    const Generated& g = results[i];
    Napi::Object o = Napi::Object::New(env);
    o.Set("tokens", int32_to_js(env, g.best.tokens));
    o.Set("score", g.best.score);
    o.Set("finishReason", g.stopped ? "stop" : "length");
    if (!g.beams.empty()) {
      Napi::Array beams = Napi::Array::New(env, g.beams.size());
      for (uint32_t b = 0; b < g.beams.size(); ++b) {
        Napi::Object beam = Napi::Object::New(env);
        beam.Set("tokens", int32_to_js(env, g.beams[b].tokens));
        beam.Set("score", g.beams[b].score);
        beams.Set(b, beam);
      }
      o.Set("beams", beams);
    }
    list.Set(i, o);
  }
  return list;
}

Napi::Value decoded_to_js(Napi::Env env, const std::vector<DecodedToken>& tokens) {
  using Finish = DecodedToken::Finish;
  Napi::Array list = Napi::Array::New(env, tokens.size());
  for (uint32_t i = 0; i < tokens.size(); ++i) {
    const DecodedToken& t = tokens[i];
    Napi::Object o = Napi::Object::New(env);
    o.Set("sequence", double(t.sequence));
    o.Set("token", t.token);
    o.Set("logprob", t.log_probability);
    Napi::Array top = Napi::Array::New(env, t.alternatives.size());
    for (uint32_t a = 0; a < t.alternatives.size(); ++a) {
      Napi::Object alternative = Napi::Object::New(env);
      alternative.Set("token", t.alternatives[a].first);
      alternative.Set("logprob", t.alternatives[a].second);
      top.Set(a, alternative);
    }
    o.Set("top", top);
    const char* finish = t.finish == Finish::stop ? "stop" : t.finish == Finish::length ? "length" : t.finish == Finish::not_finite ? "not_finite" : nullptr;
    o.Set("finish", finish ? Napi::Value(Napi::String::New(env, finish)) : env.Null());
    list.Set(i, o);
  }
  return list;
}

}  // namespace polypaca
