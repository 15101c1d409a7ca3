#include "cuda/tuned_algorithms.h"

#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace polypaca::POLYPACA_CUDA {
namespace {

namespace fs = std::filesystem;

std::string hexadecimal(const cublaslt::Algorithm& algorithm) {
  std::string text;
  char word[17];
  for (uint64_t value : algorithm.data) {
    std::snprintf(word, sizeof word, "%016llx", static_cast<unsigned long long>(value));
    text += word;
  }
  return text;
}

/// One line as write() makes it. Names and keys hold no quotes or backslashes: clean() and the products' keys see to that.
bool parse(const std::string& line, std::string& product, TunedAlgorithm& tuned) {
  char name[512], words[129];
  long long workspace = 0;
  double microseconds = 0;
  int end = 0;
  const int read = std::sscanf(line.c_str(), "{\"product\":\"%511[^\"\\]\",\"algorithm\":\"%128[0-9a-f]\",\"workspace\":%lld,\"microseconds\":%lf}%n", name, words, &workspace, &microseconds, &end);
  if (read != 4 || size_t(end) != line.size() || std::string(words).size() != 128 || workspace < 0) return false;
  for (int i = 0; i < 8; ++i) tuned.algorithm.data[i] = std::strtoull(std::string(words + 16 * i, 16).c_str(), nullptr, 16);
  tuned.workspace_bytes = workspace;
  tuned.microseconds = microseconds;
  product = name;
  return true;
}

std::string line_of(const std::string& product, const TunedAlgorithm& tuned) {
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, "\"workspace\":%lld,\"microseconds\":%.3f}", static_cast<long long>(tuned.workspace_bytes), tuned.microseconds);
  return "{\"product\":\"" + product + "\",\"algorithm\":\"" + hexadecimal(tuned.algorithm) + "\"," + numbers;
}

std::string clean(const std::string& name, bool for_a_path) {
  std::string result;
  for (char c : name) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.';
    if (plain) result += c;
    else if (for_a_path) result += '-';
    else if (c >= ' ' && c != '"' && c != '\\') result += c;
  }
  return result;
}

}  // namespace

std::string user_cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache && cache[0] == '/') return std::string(cache) + "/polypaca";  // a relative one is to be ignored, says its specification
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.cache/polypaca" : "";
}

TunedAlgorithms::TunedAlgorithms(const std::string& folder, int64_t library_version, const std::string& gpu) {
  header_ = "{\"cublaslt\":" + std::to_string(library_version) + ",\"gpu\":\"" + clean(gpu, false) + "\"}";
  if (folder.empty()) {
    trouble_ = "no folder for caches: neither XDG_CACHE_HOME nor HOME is set";
    return;
  }
  path_ = folder + "/cublaslt-" + std::to_string(library_version) + "-" + clean(gpu, true) + ".jsonl";
  read(false);
}

void TunedAlgorithms::read(bool only_unknown) {
  std::ifstream file(path_);
  std::string line, product;
  if (!std::getline(file, line) || line != header_) return;
  while (std::getline(file, line)) {
    TunedAlgorithm tuned;
    if (!parse(line, product, tuned)) continue;
    if (!only_unknown || !algorithms_.count(product)) algorithms_[product] = tuned;
  }
}

const TunedAlgorithm* TunedAlgorithms::find(const std::string& product) const {
  auto at = algorithms_.find(product);
  return at == algorithms_.end() ? nullptr : &at->second;
}

void TunedAlgorithms::keep(const std::string& product, const TunedAlgorithm& algorithm) {
  algorithms_[product] = algorithm;
  if (path_.empty()) return;
  read(true);
  write();
}

void TunedAlgorithms::write() {
  std::error_code error;
  fs::create_directories(fs::path(path_).parent_path(), error);
  const std::string temporary = path_ + "." + std::to_string(getpid());
  std::ofstream file(temporary, std::ios::trunc);
  file << header_ << '\n';
  for (const auto& [product, tuned] : algorithms_) file << line_of(product, tuned) << '\n';
  file.close();
  if (file.fail()) {
    trouble_ = "could not write " + temporary;
    fs::remove(temporary, error);
    return;
  }
  fs::rename(temporary, path_, error);
  trouble_ = error ? "could not write " + path_ + ": " + error.message() : "";
}

}  // namespace polypaca::POLYPACA_CUDA
