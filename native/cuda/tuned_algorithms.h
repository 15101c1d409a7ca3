// The algorithms that were fastest, by product, kept from run to run in a file of one JSON object a line:
//   {"cublaslt":130101,"gpu":"NVIDIA H200"}
//   {"product":"m=4096 n=16384 ...","algorithm":"0000...","workspace":0,"microseconds":812.4}
// An algorithm means nothing to another version of the library or another GPU, so each pair has a file of its own.
// Standard C++ only. Not for two threads at once; for several processes: a file is replaced as a whole, and what another
// process has added meanwhile is kept.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "cuda/cublaslt.h"

namespace polypaca::POLYPACA_CUDA {

struct TunedAlgorithm {
  cublaslt::Algorithm algorithm;
  int64_t workspace_bytes = 0;
  double microseconds = 0;  // one product, as measured when it was chosen
};

class TunedAlgorithms {
 public:
  /// Reads the file of this library and GPU in `folder`, created when something is first kept. An empty folder: nothing is kept.
  /// Lines that cannot be read are left out: they are only lost time.
  TunedAlgorithms(const std::string& folder, int64_t library_version, const std::string& gpu);

  const TunedAlgorithm* find(const std::string& product) const;
  /// Keeps it in memory and in the file. A file that cannot be written is not an error: see trouble().
  void keep(const std::string& product, const TunedAlgorithm& algorithm);
  /// Another call will not find it: the library refused it.
  void forget(const std::string& product) { algorithms_.erase(product); }

  const std::map<std::string, TunedAlgorithm>& all() const { return algorithms_; }
  const std::string& path() const { return path_; }
  /// Why the file was not written; empty where it was.
  const std::string& trouble() const { return trouble_; }

 private:
  void read(bool only_unknown);
  void write();
  std::string path_, header_, trouble_;
  std::map<std::string, TunedAlgorithm> algorithms_;
};

/// polypaca/ in XDG_CACHE_HOME, or in ~/.cache; empty where neither is known.
std::string user_cache_folder();

}  // namespace polypaca::POLYPACA_CUDA
