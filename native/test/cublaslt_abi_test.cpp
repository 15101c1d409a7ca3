// Holds cublaslt.h against the library itself: its descriptors, layouts and preferences are made and set without a GPU, and it
// refuses an attribute whose number or size is wrong. Exit status 77: no cuBLASLt here.
#include <cstdint>
#include <cstdio>
#include <string>

#include "core/error.h"
#include "cuda/cublaslt.h"

using namespace polypaca;
using namespace polypaca::POLYPACA_CUDA::cublaslt;

namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

template <typename Object, typename Attribute, typename T>
void expect_set(Status (*set)(Object, Attribute, const void*, size_t), Object object, Attribute attribute, T value, const char* name) {
  expect(set(object, attribute, &value, sizeof value) == kSuccess, std::string(name) + " takes " + std::to_string(sizeof value) + " bytes");
  expect(set(object, attribute, &value, sizeof value - 1) != kSuccess, std::string(name) + " refuses " + std::to_string(sizeof value - 1) + " bytes");
}

void test_descriptor(const Library& library) {
  const Functions& call = library.call;
  Descriptor descriptor = nullptr;
  library.check(call.MatmulDescCreate(&descriptor, kCompute32F, kFloat32), "MatmulDescCreate");
  expect_set(call.MatmulDescSetAttribute, descriptor, kTransposeA, kTranspose, "TRANSA");
  expect_set(call.MatmulDescSetAttribute, descriptor, kTransposeB, kNone, "TRANSB");
  expect_set(call.MatmulDescSetAttribute, descriptor, kEpilogue, kBias, "EPILOGUE");
  expect_set(call.MatmulDescSetAttribute, descriptor, kBiasPointer, static_cast<const void*>(&library), "BIAS_POINTER");
  expect_set(call.MatmulDescSetAttribute, descriptor, kBiasType, kBfloat16, "BIAS_DATA_TYPE");
  library.check(call.MatmulDescDestroy(descriptor), "MatmulDescDestroy");
}

void test_preference(const Library& library) {
  const Functions& call = library.call;
  Preference preference = nullptr;
  library.check(call.MatmulPreferenceCreate(&preference), "MatmulPreferenceCreate");
  expect_set(call.MatmulPreferenceSetAttribute, preference, kMaxWorkspace, uint64_t(32) << 20, "MAX_WORKSPACE_BYTES");
  expect_set(call.MatmulPreferenceSetAttribute, preference, kReductionMask, uint32_t(kInComputeType), "REDUCTION_SCHEME_MASK");
  const PreferenceAttribute alignments[] = {kAlignmentA, kAlignmentB, kAlignmentC, kAlignmentD};
  for (PreferenceAttribute attribute : alignments) expect_set(call.MatmulPreferenceSetAttribute, preference, attribute, uint32_t(16), "MIN_ALIGNMENT");
  library.check(call.MatmulPreferenceDestroy(preference), "MatmulPreferenceDestroy");
}

void test_layout(const Library& library) {
  for (DataType type : {kBfloat16, kFloat32}) {
    Layout layout = nullptr;
    expect(library.call.MatrixLayoutCreate(&layout, type, 37, 5, 40) == kSuccess, "MatrixLayoutCreate takes type " + std::to_string(type));
    library.check(library.call.MatrixLayoutDestroy(layout), "MatrixLayoutDestroy");
  }
}

}  // namespace

int main() {
  std::shared_ptr<const Library> library;
  try {
    library = open_library();
  } catch (const Error& error) {
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  test_descriptor(*library);
  test_preference(*library);
  test_layout(*library);
  Handle handle = nullptr;
  const Status status = library->call.Create(&handle);
  expect(status == kSuccess || status == kNotInitialized, "Create succeeds, or says that there is no GPU: " + std::to_string(status));
  if (status == kSuccess) library->call.Destroy(handle);
  std::printf("%s, version %lld, %s a GPU: %d failed\n", library->path.c_str(), static_cast<long long>(library->version), status == kSuccess ? "with" : "without", failures);
  return failures == 0 ? 0 : 1;
}
