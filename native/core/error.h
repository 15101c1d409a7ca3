// The one exception type of the native code. to_js.cpp turns it into a PolypacaError with the same code.
#pragma once
#include <stdexcept>
#include <string>

namespace polypaca {

/// Stable codes; src/errors.ts lists the same strings.
enum class ErrorCode { invalid_argument, shape_mismatch, checkpoint_mismatch, out_of_memory, cancelled, disposed, io, disk_full, unsupported, not_finite, internal };

const char* name_of(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code(code) {}
  ErrorCode code;
};

/// Throws Error. Out of line, so that kernel files (built once per instruction set) instantiate no std::string code.
[[noreturn]] void fail(ErrorCode code, const char* message);

}  // namespace polypaca
