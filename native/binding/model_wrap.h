#pragma once
#include <napi.h>

#include <memory>
#include <vector>

#include "binding/job_runner.h"
#include "model/decoder.h"
#include "model/model.h"

namespace polypaca {

/// A model and the decoder that computes with it, shared by the wrap, by trainers and by queued jobs.
struct SharedModel {
  std::shared_ptr<Model> model;
  std::shared_ptr<Decoder> decoder;
};

/// Stop flags of an object's queued and running jobs.
class StopFlags {
 public:
  std::shared_ptr<StopFlag> add();
  void request();

 private:
  std::vector<std::weak_ptr<StopFlag>> flags_;
};

class ModelWrap : public Napi::ObjectWrap<ModelWrap> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Value load(const Napi::CallbackInfo& info);
  static Napi::Value init(const Napi::CallbackInfo& info);
  explicit ModelWrap(const Napi::CallbackInfo& info);
  ~ModelWrap() override;

 private:
  static Napi::Value wrap(Napi::Env env, SharedModel shared);
  Napi::Value parameters(const Napi::CallbackInfo& info);
  Napi::Value tensors(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value add_lora(const Napi::CallbackInfo& info);
  Napi::Value load_adapter(const Napi::CallbackInfo& info);
  Napi::Value merge(const Napi::CallbackInfo& info);
  Napi::Value logits(const Napi::CallbackInfo& info);
  Napi::Value loss(const Napi::CallbackInfo& info);
  Napi::Value gradients(const Napi::CallbackInfo& info);
  Napi::Value generate(const Napi::CallbackInfo& info);
  Napi::Value create_trainer(const Napi::CallbackInfo& info);
  Napi::Value open_batch(const Napi::CallbackInfo& info);
  Napi::Value activate_adapter(const Napi::CallbackInfo& info);
  Napi::Value request_stop(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  /// Queues `work` on a live model; throws DISPOSED otherwise.
  template <typename Work>
  Napi::Value submit(Napi::Env env, Work work);
  SharedModel live() const;
  void account(Napi::Env env, int64_t bytes);

  SharedModel shared_;
  StopFlags stops_;
  int64_t accounted_ = 0;  // bytes the engine was told about
};

}  // namespace polypaca
