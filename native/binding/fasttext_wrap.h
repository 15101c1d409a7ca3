#pragma once
#include <napi.h>

#include <memory>

#include "language_id/fasttext_model.h"

namespace polypaca {

class FastTextWrap : public Napi::ObjectWrap<FastTextWrap> {
 public:
  static void define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);
  explicit FastTextWrap(const Napi::CallbackInfo& info);
  ~FastTextWrap() override;

 private:
  Napi::Value labels(const Napi::CallbackInfo& info);
  Napi::Value predict(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<const FastTextModel> live() const;
  void account(Napi::Env env, int64_t bytes);

  std::shared_ptr<const FastTextModel> model_;
  int64_t accounted_ = 0;  // bytes the engine was told about
};

}  // namespace polypaca
