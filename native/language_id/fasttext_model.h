// fastText's classifiers of text behind a plain interface, for models that its WebAssembly build cannot hold.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace polypaca {

/// Labels of several lines, each line's by falling probability, laid end to end: `counts` says how many a line has.
struct LabelPredictions {
  std::vector<int32_t> counts;         // [lines]
  std::vector<int32_t> labels;         // indices into FastTextModel::labels()
  std::vector<float> probabilities;    // as fastText gives them: exp(log(p + 1e-5))
};

class FastTextModel {
 public:
  virtual ~FastTextModel() = default;
  /// As in the file, "__label__eng_Latn".
  virtual const std::vector<std::string>& labels() const = 0;
  /// The size of the file, which is about what the model holds in memory.
  virtual int64_t bytes() const = 0;
  /// The `count` likeliest labels of each line, 0: all. Lines are spread over the OpenMP team. Throws cancelled where `stop` is set.
  virtual LabelPredictions predict(const std::vector<std::string>& lines, int32_t count, const std::atomic<bool>& stop) const = 0;
};

/// Whether this build has fastText.
bool fasttext_is_built();

/// Loads a classifier. fastText trusts the counts in a file: src/language-id/fasttext-file.ts checks them first. A file that ends early
/// is refused here too. Throws io, checkpoint_mismatch, out_of_memory, each with the path, and unsupported where fastText is not built.
std::shared_ptr<const FastTextModel> load_fasttext(const std::string& path);

}  // namespace polypaca
