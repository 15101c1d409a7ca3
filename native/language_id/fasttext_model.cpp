// See fasttext_model.h.
#include "language_id/fasttext_model.h"

#include "core/error.h"

#ifdef POLYPACA_FASTTEXT
#include <fasttext/fasttext.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#endif

namespace polypaca {

#ifdef POLYPACA_FASTTEXT

namespace {

constexpr int32_t kMagic = 793712314;  // FASTTEXT_FILEFORMAT_MAGIC_INT32
constexpr int32_t kOldestVersion = 11, kNewestVersion = 12;

/// fastText drops labels whose logarithm is below the threshold's; no number is below NaN, which it makes of this.
constexpr float kNoThreshold = -1.0f;

class LoadedModel final : public FastTextModel {
 public:
  LoadedModel(const std::string& path, std::istream& file, int64_t bytes) : path_(path), bytes_(bytes) {
    model_.loadModel(file);
    dictionary_ = model_.getDictionary();
    for (int32_t i = 0; i < dictionary_->nlabels(); ++i) labels_.push_back(dictionary_->getLabel(i));
  }

  const std::vector<std::string>& labels() const override { return labels_; }
  int64_t bytes() const override { return bytes_; }

  LabelPredictions predict(const std::vector<std::string>& lines, int32_t count, const std::atomic<bool>& stop) const override {
    const int32_t all = int32_t(labels_.size());
    const int32_t wanted = count <= 0 ? all : std::min(count, all);
    std::vector<fasttext::Predictions> found(lines.size());
    std::exception_ptr failure;
    std::atomic<bool> failed = false;
    // Lines differ in length, so they are dealt out a few at a time. No exception may leave the parallel region.
#pragma omp parallel for schedule(dynamic, 4)
    for (size_t i = 0; i < lines.size(); ++i) {
      if (stop.load() || failed.load()) continue;
      try {
        predict_line(lines[i], wanted, found[i]);
      } catch (...) {
#pragma omp critical(fasttext_failure)
        failure = std::current_exception();
        failed.store(true);
      }
    }
    if (failure) rethrow_named(failure);
    if (stop.load()) throw Error(ErrorCode::cancelled, "stopped while languages were identified");
    return laid_end_to_end(found);
  }

 private:
  void predict_line(const std::string& line, int32_t wanted, fasttext::Predictions& found) const {
    std::istringstream text(line + "\n");  // the end of a line is a word to fastText, as in `fasttext predict`
    std::vector<int32_t> words, labels;
    dictionary_->getLine(text, words, labels);
    model_.predict(wanted, words, found, kNoThreshold);
  }

  [[noreturn]] void rethrow_named(std::exception_ptr failure) const {
    try {
      std::rethrow_exception(failure);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& cause) {  // NaN among the weights
      throw Error(ErrorCode::checkpoint_mismatch, path_ + ": fastText says: " + cause.what());
    }
  }

  static LabelPredictions laid_end_to_end(const std::vector<fasttext::Predictions>& found) {
    LabelPredictions all;
    for (const fasttext::Predictions& line : found) {
      all.counts.push_back(int32_t(line.size()));
      for (const auto& [log_probability, label] : line) {
        all.labels.push_back(label);
        all.probabilities.push_back(std::exp(log_probability));
      }
    }
    return all;
  }

  std::string path_;
  int64_t bytes_;
  fasttext::FastText model_;
  std::shared_ptr<const fasttext::Dictionary> dictionary_;
  std::vector<std::string> labels_;
};

int32_t read_int32(std::istream& file) {
  int32_t value = 0;
  file.read(reinterpret_cast<char*>(&value), sizeof value);
  return value;
}

}  // namespace

bool fasttext_is_built() { return true; }

std::shared_ptr<const FastTextModel> load_fasttext(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorCode::io, path + ": cannot be opened: " + std::strerror(errno));
  try {
    file.exceptions(std::ios::failbit | std::ios::badbit);  // fastText itself does not notice that a file ends early
    file.seekg(0, std::ios::end);
    const int64_t bytes = int64_t(file.tellg());
    file.seekg(0);
    const int32_t magic = read_int32(file), version = read_int32(file);
    if (magic != kMagic || version < kOldestVersion || version > kNewestVersion) {
      throw Error(ErrorCode::checkpoint_mismatch, path + ": not a fastText model of version 11 or 12");
    }
    return std::make_shared<LoadedModel>(path, file, bytes);
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::out_of_memory, path + ": there is not enough memory for this model");
  } catch (const std::ios_base::failure&) {
    throw Error(ErrorCode::checkpoint_mismatch, path + ": ends before its model does. Copy it again.");
  } catch (const std::exception& cause) {
    throw Error(ErrorCode::checkpoint_mismatch, path + ": fastText says: " + cause.what());
  }
}

#else

bool fasttext_is_built() { return false; }

std::shared_ptr<const FastTextModel> load_fasttext(const std::string& path) {
  throw Error(ErrorCode::unsupported, path + ": this build has no fastText. Install it (Debian, Ubuntu: apt-get install libfasttext-dev) and build again.");
}

#endif

}  // namespace polypaca
