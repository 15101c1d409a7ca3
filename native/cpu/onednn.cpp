// See onednn.h. Creating a primitive costs more than running one, so each shape's is made once and kept: a training step
// repeats its shapes. The factors are read where they lie; oneDNN packs them on the way, as our own products do.
#include "cpu/onednn.h"

#include "core/error.h"

#ifdef POLYPACA_ONEDNN
#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>
#endif

namespace polypaca {

#ifdef POLYPACA_ONEDNN

namespace {

dnnl::memory::data_type type_of(DType dtype) { return dtype == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32; }

dnnl::memory::desc matrix(int64_t rows, int64_t cols, DType dtype, int64_t row_stride, int64_t column_stride) {
  return {{rows, cols}, type_of(dtype), {row_stride, column_stride}};
}

}  // namespace

class Onednn {
 public:
  bool multiply(const OnednnProduct& p) {
    Entry& entry = find(p);
    if (!entry.primitive) return false;
    auto at = [this](const dnnl::memory::desc& desc, const void* data) { return dnnl::memory(desc, engine_, const_cast<void*>(data)); };
    std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, at(entry.a, p.a.data)}, {DNNL_ARG_WEIGHTS, at(entry.b, p.b.data)}, {DNNL_ARG_DST, at(entry.c, p.c)}};
    if (p.bias) arguments.emplace(DNNL_ARG_BIAS, at(entry.bias, p.bias));
    if (p.sum) arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(p.beta != 0 ? 1 : 0) | DNNL_ARG_SRC_1, at(entry.sum, p.sum));
    entry.primitive.execute(stream_, arguments);
    stream_.wait();
    return true;
  }

 private:
  struct Entry {
    dnnl::memory::desc a, b, c, bias, sum;
    dnnl::matmul primitive;  // empty: oneDNN refused this product
  };
  using Key = std::array<int64_t, 13>;

  static Key key_of(const OnednnProduct& p) {
    return {p.M, p.N, p.K, int64_t(p.factor_dtype), int64_t(p.c_dtype), p.a.row_stride, p.a.column_stride, p.b.row_stride, p.b.column_stride, p.ldc, p.beta != 0, p.bias != nullptr, p.sum != nullptr};
  }

  Entry& find(const OnednnProduct& p) {
    auto [at, is_new] = entries_.try_emplace(key_of(p));
    Entry& entry = at->second;
    if (!is_new) return entry;
    entry.a = matrix(p.M, p.K, p.factor_dtype, p.a.row_stride, p.a.column_stride);
    entry.b = matrix(p.K, p.N, p.factor_dtype, p.b.row_stride, p.b.column_stride);
    entry.c = matrix(p.M, p.N, p.c_dtype, p.ldc, 1);
    if (p.bias) entry.bias = matrix(1, p.N, DType::f32, p.N, 1);
    if (p.sum) entry.sum = matrix(p.M, p.N, DType::f32, p.N, 1);
    dnnl::post_ops post;
    if (p.beta != 0) post.append_sum(1.0f);
    if (p.sum) post.append_binary(dnnl::algorithm::binary_add, entry.sum);
    dnnl::primitive_attr attr;
    attr.set_post_ops(post);
    try {
#if DNNL_VERSION_MAJOR >= 3
      entry.primitive = dnnl::matmul(dnnl::matmul::primitive_desc(engine_, entry.a, entry.b, entry.bias, entry.c, attr));
#else
      const dnnl::matmul::desc desc = p.bias ? dnnl::matmul::desc(entry.a, entry.b, entry.bias, entry.c) : dnnl::matmul::desc(entry.a, entry.b, entry.c);
      entry.primitive = dnnl::matmul(dnnl::matmul::primitive_desc(desc, attr, engine_));
#endif
    } catch (const dnnl::error& refused) {
      if (refused.status != dnnl_unimplemented) throw Error(ErrorCode::internal, std::string("oneDNN: ") + refused.what());
    }
    return entry;
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, Entry> entries_;
};

const char* onednn_version() {
  static const std::string version = [] {
    const dnnl_version_t* v = dnnl_version();
    return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
  }();
  return version.c_str();
}

Onednn* open_onednn() { return new Onednn; }
void close_onednn(Onednn* onednn) { delete onednn; }
bool onednn_multiply(Onednn& onednn, const OnednnProduct& product) { return onednn.multiply(product); }

#else

class Onednn {};

const char* onednn_version() { return nullptr; }
Onednn* open_onednn() { return nullptr; }
void close_onednn(Onednn*) {}
bool onednn_multiply(Onednn&, const OnednnProduct&) { return false; }

#endif

}  // namespace polypaca
