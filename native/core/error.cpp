#include "core/error.h"

namespace polypaca {

const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument: return "INVALID_ARGUMENT";
    case ErrorCode::shape_mismatch: return "SHAPE_MISMATCH";
    case ErrorCode::checkpoint_mismatch: return "CHECKPOINT_MISMATCH";
    case ErrorCode::out_of_memory: return "OUT_OF_MEMORY";
    case ErrorCode::cancelled: return "CANCELLED";
    case ErrorCode::disposed: return "DISPOSED";
    case ErrorCode::io: return "IO";
    case ErrorCode::disk_full: return "DISK_FULL";
    case ErrorCode::unsupported: return "UNSUPPORTED";
    case ErrorCode::not_finite: return "NOT_FINITE";
    case ErrorCode::internal: return "INTERNAL";
  }
  return "INTERNAL";
}

void fail(ErrorCode code, const char* message) { throw Error(code, message); }

}  // namespace polypaca
