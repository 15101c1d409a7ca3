#pragma once
#include <napi.h>

namespace polypaca {

/// Constructors of this environment's classes; no static references, so that worker threads can load the addon.
struct AddonData {
  Napi::FunctionReference model, trainer, continuous_batch, fasttext;
};

}  // namespace polypaca
