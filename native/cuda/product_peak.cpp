// The best rate of large dense products on a device, in GFLOP/s: what utilisation is measured against. bf16 factors and results, weights
// as training has them (x w^T), algorithms chosen as for training, on values that are random enough to cost what real ones cost.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "core/random.h"
#include "cuda/open.h"
#include "cuda/products.h"
#include "cuda/runtime.h"

namespace polypaca::POLYPACA_CUDA {
namespace {

struct Shape {
  int64_t M, N, K;
};

#if defined(POLYPACA_EMULATED)
constexpr int64_t kUnit = 32;  // the host multiplies them
#else
constexpr int64_t kUnit = 4096;
#endif
constexpr Shape kShapes[] = {{2 * kUnit, 2 * kUnit, 2 * kUnit}, {4 * kUnit, 4 * kUnit, kUnit}, {4 * kUnit, kUnit, 4 * kUnit}};

/// Kept per device: choosing algorithms takes longer than measuring.
struct Instrument {
  explicit Instrument(const DeviceProperties& device) : products(open_products(device)) { products->prepare(stream); }
  Stream stream;
  Event start, end;
  std::unique_ptr<Products> products;
};

/// Device memory for as long as a sample takes.
class Buffer {
 public:
  explicit Buffer(int64_t bytes) : bytes_(bytes), data_(allocate_device(bytes)) {}
  ~Buffer() { release_device(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }

  /// Values in (-1, 1): a stretch of random ones from the host, doubled on the device until the buffer is full.
  void fill_randomly(uint64_t seed, const Stream& stream) const {
    std::vector<bf16> values(size_t(std::min<int64_t>(bytes_ / 2, 1 << 19)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = to_bf16(2.0f * float(mix(seed + i) >> 40) / float(1 << 24) - 1.0f);
    int64_t done = int64_t(values.size()) * 2;
    copy_to_device(data_, values.data(), done, stream);
    stream.synchronize();  // `values` ends here
    for (; done < bytes_; done += std::min(done, bytes_ - done)) copy_on_device(static_cast<char*>(data_) + done, data_, std::min(done, bytes_ - done), stream);
  }

 private:
  static uint64_t mix(uint64_t x) {  // splitmix64, Steele et al. 2014
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
  }

  int64_t bytes_;
  void* data_;
};

/// The median of as many runs as fit in `seconds`, at least three.
double rate_of(const Shape& s, double seconds, Instrument& with) {
  const Buffer x(s.M * s.K * 2), w(s.N * s.K * 2), y(s.M * s.N * 2);
  x.fill_randomly(1, with.stream);
  w.fill_randomly(2, with.stream);
  Product product;
  product.a = {x.data(), DType::bf16, s.K}, product.b = {w.data(), DType::bf16, s.K}, product.d = {y.data(), DType::bf16, s.N};
  product.M = s.M, product.N = s.N, product.K = s.K;
  product.transpose_b = true;
  with.products->run(product, with.stream);  // chooses the algorithm
  std::vector<double> times;
  for (double spent = 0.0; times.size() < 3 || spent < seconds; spent += times.back()) {
    with.start.record(with.stream);
    with.products->run(product, with.stream);
    with.end.record(with.stream);
    with.end.synchronize();
    times.push_back(std::max(with.end.seconds_since(with.start), 1e-9));
  }
  std::nth_element(times.begin(), times.begin() + int64_t(times.size() / 2), times.end());
  return 2.0 * double(s.M) * double(s.N) * double(s.K) / times[times.size() / 2] / 1e9;
}

}  // namespace

double product_peak(int index, double milliseconds) {
  static std::mutex mutex;
  static auto* instruments = new std::map<int, std::unique_ptr<Instrument>>;  // never destroyed: the driver may be gone by then
  const std::lock_guard lock(mutex);
  const DeviceProperties device = device_at(index);
  use_device(index);
  std::unique_ptr<Instrument>& instrument = (*instruments)[index];
  if (!instrument) instrument = std::make_unique<Instrument>(device);
  double best = 0.0;
  for (const Shape& shape : kShapes) best = std::max(best, rate_of(shape, milliseconds / 1000 / double(std::size(kShapes)), *instrument));
  return best;
}

}  // namespace polypaca::POLYPACA_CUDA
