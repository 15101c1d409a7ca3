#pragma once
#include <napi.h>

#include <memory>

#include "binding/model_wrap.h"
#include "model/continuous_batch.h"

namespace polypaca {

class ContinuousBatchWrap : public Napi::ObjectWrap<ContinuousBatchWrap> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Value wrap(Napi::Env env, std::shared_ptr<ContinuousBatch> batch);
  explicit ContinuousBatchWrap(const Napi::CallbackInfo& info);
  ~ContinuousBatchWrap() override;

 private:
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value request_stop(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  std::shared_ptr<ContinuousBatch> live() const;

  std::shared_ptr<ContinuousBatch> batch_;
  StopFlags stops_;
};

}  // namespace polypaca
