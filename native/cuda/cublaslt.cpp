#include "cuda/cublaslt.h"

#include <dlfcn.h>
#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "core/error.h"

namespace polypaca::POLYPACA_CUDA::cublaslt {
namespace {

// The library registers things that run when the process ends: once loaded it stays.
constexpr int kOpenFlags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;

constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// Appends the folders that match, the last in the alphabet first: that is the newest of cuda-12.8, cuda-13.0.
void append_matches(std::vector<std::string>& folders, const std::string& pattern) {
  glob_t found = {};
  if (glob(pattern.c_str(), GLOB_ONLYDIR, nullptr, &found) == 0) {
    for (size_t i = found.gl_pathc; i-- > 0;) {
      const std::string folder = found.gl_pathv[i];
      if (std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
    }
  }
  globfree(&found);
}

void append_toolkit(std::vector<std::string>& folders, const std::string& root) {
  for (const char* inside : {"/lib64", "/targets/*/lib", "/lib"}) append_matches(folders, root + inside);
}

void append_python(std::vector<std::string>& folders, const std::string& prefix) {
  for (const char* packages : {"site-packages", "dist-packages"}) append_matches(folders, prefix + "/lib/python3*/" + packages + "/nvidia/*/lib");
}

/// The part of PATH's entries that hold a python3, without /bin.
std::vector<std::string> python_prefixes() {
  std::vector<std::string> prefixes;
  const std::string path = environment("PATH");
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string folder = path.substr(begin, end - begin);
    begin = end + 1;
    const bool is_bin = folder.size() > 4 && folder.compare(folder.size() - 4, 4, "/bin") == 0;
    if (is_bin && access((folder + "/python3").c_str(), X_OK) == 0) prefixes.push_back(folder.substr(0, folder.size() - 4));
  }
  return prefixes;
}

template <typename Function>
void resolve(Function& function, void* handle, const char* name, const std::string& path) {
  function = reinterpret_cast<Function>(dlsym(handle, name));
  if (!function) throw Error(ErrorCode::unsupported, path + " has no function " + name + ": it is not a cuBLASLt that polypaca knows (versions 12 and 13)");
}

/// dlopen that keeps what it said where the file is there.
void* try_open(const std::string& path, std::string& complaints) {
  void* handle = dlopen(path.c_str(), kOpenFlags);
  if (!handle && access(path.c_str(), F_OK) == 0) complaints += "\n  " + std::string(dlerror());
  return handle;
}

[[noreturn]] void not_found(const std::vector<std::string>& folders, const std::string& complaints) {
  std::string text = "cuBLASLt was not found. Looked for libcublasLt.so.13, .so.12 and .so in the loader's path";
  for (const std::string& folder : folders) text += ", " + folder;
  if (!complaints.empty()) text += ". These were there but could not be opened:" + complaints;
  throw Error(ErrorCode::unsupported, text + ". Install CUDA's cuBLAS (pip install nvidia-cublas has it as well) or name the file: POLYPACA_CUBLASLT=/path/to/libcublasLt.so.13");
}

}  // namespace

Library::Library(void* handle, std::string file) : path(std::move(file)), handle_(handle) {
#define POLYPACA_RESOLVE(name) resolve(call.name, handle, "cublasLt" #name, path)
  POLYPACA_RESOLVE(Create);
  POLYPACA_RESOLVE(Destroy);
  POLYPACA_RESOLVE(GetVersion);
  POLYPACA_RESOLVE(GetStatusString);
  POLYPACA_RESOLVE(MatmulDescCreate);
  POLYPACA_RESOLVE(MatmulDescDestroy);
  POLYPACA_RESOLVE(MatmulDescSetAttribute);
  POLYPACA_RESOLVE(MatrixLayoutCreate);
  POLYPACA_RESOLVE(MatrixLayoutDestroy);
  POLYPACA_RESOLVE(MatmulPreferenceCreate);
  POLYPACA_RESOLVE(MatmulPreferenceDestroy);
  POLYPACA_RESOLVE(MatmulPreferenceSetAttribute);
  POLYPACA_RESOLVE(MatmulAlgoGetHeuristic);
  POLYPACA_RESOLVE(MatmulAlgoCheck);
  POLYPACA_RESOLVE(MatmulAlgoConfigGetAttribute);
  POLYPACA_RESOLVE(Matmul);
#undef POLYPACA_RESOLVE
  version = int64_t(call.GetVersion());
  if (version < 120000 || version >= 140000) {
    throw Error(ErrorCode::unsupported, path + " is cuBLASLt " + std::to_string(version) + "; polypaca knows the interface of versions 12 and 13 (120000 to 139999). Name another with POLYPACA_CUBLASLT");
  }
}

Library::~Library() { dlclose(handle_); }

void Library::check(Status status, const char* what) const {
  if (status == kSuccess) return;
  throw Error(ErrorCode::internal, std::string("cublasLt") + what + ": " + call.GetStatusString(status) + " (" + std::to_string(status) + ", " + path + ")");
}

std::vector<std::string> library_folders() {
  std::vector<std::string> folders;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const std::string root = environment(name); !root.empty()) append_toolkit(folders, root);
  }
  append_toolkit(folders, "/usr/local/cuda");
  append_toolkit(folders, "/usr/local/cuda-*");
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (const std::string prefix = environment(name); !prefix.empty()) append_python(folders, prefix);
  }
  for (const std::string& prefix : python_prefixes()) append_python(folders, prefix);
  if (const std::string home = environment("HOME"); !home.empty()) append_python(folders, home + "/.local");
  for (const char* prefix : {"/usr/local", "/usr"}) append_python(folders, prefix);
  append_matches(folders, "/usr/lib/python3/dist-packages/nvidia/*/lib");
  return folders;
}

std::shared_ptr<const Library> open_library() {
  auto opened = [](void* handle, const std::string& path) {
    try {
      return std::shared_ptr<const Library>(new Library(handle, path));
    } catch (...) {
      dlclose(handle);  // the constructor did not get as far as owning it
      throw;
    }
  };
  std::string complaints;
  if (const std::string named = environment("POLYPACA_CUBLASLT"); !named.empty()) {
    if (void* handle = dlopen(named.c_str(), kOpenFlags)) return opened(handle, named);
    throw Error(ErrorCode::unsupported, "POLYPACA_CUBLASLT names \"" + named + "\", which could not be opened: " + dlerror() + ". Unset it to have the usual places searched");
  }
  for (const char* name : kNames) {
    if (void* handle = try_open(name, complaints)) return opened(handle, name);
  }
  const std::vector<std::string> folders = library_folders();
  for (const std::string& folder : folders) {
    for (const char* name : kNames) {
      const std::string path = folder + "/" + name;
      if (void* handle = try_open(path, complaints)) return opened(handle, path);
    }
  }
  not_found(folders, complaints);
}

}  // namespace polypaca::POLYPACA_CUDA::cublaslt
