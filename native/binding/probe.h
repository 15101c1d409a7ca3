// Runs one back-end operation on arrays from JavaScript: how the tests reach single kernels. Not for anything else.
#pragma once
#include <napi.h>

namespace polypaca {

/// probe(op, args): `op` is a member of Backend by name; `args` holds its inputs in the names of backend.h.
/// Returns the op's outputs. See probe.cpp.
Napi::Value Probe(const Napi::CallbackInfo& info);

}  // namespace polypaca
