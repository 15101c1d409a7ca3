// CublasLtProducts against a cuBLASLt that computes on the host (fake_cublaslt.cpp): products of every
// transposition, type and epilogue, and how an algorithm is chosen, kept and read again. "Device" memory is the emulator's.
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/error.h"
#include "cuda/cublaslt_products.h"

using namespace polypaca;
using namespace polypaca::cuda_emulated;
namespace fs = std::filesystem;

namespace {

int failures = 0, checks = 0;

void expect(bool holds, const std::string& what) {
  ++checks;
  if (holds) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

uint32_t random_state = 1;
float random_value() {
  random_state = random_state * 1664525u + 1013904223u;
  return float(int32_t(random_state >> 8) - (1 << 23)) / float(1 << 23);
}

/// [rows, cols] of the device, rows `ld` apart, filled at random, and the same values in double.
struct TestMatrix {
  TestMatrix(int64_t rows, int64_t cols, DType dtype, int64_t ld) : matrix{allocate_device(rows * ld * size_of(dtype)), dtype, ld}, rows(rows), cols(cols) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        const float value = random_value();
        if (dtype == DType::f32) static_cast<float*>(matrix.data)[i * ld + j] = value;
        else static_cast<bf16*>(matrix.data)[i * ld + j] = to_bf16(value);
      }
    }
    before = values();
  }
  ~TestMatrix() { release_device(matrix.data); }
  TestMatrix(const TestMatrix&) = delete;
  TestMatrix& operator=(const TestMatrix&) = delete;

  std::vector<double> values() const {
    std::vector<double> all;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        const int64_t at = i * matrix.ld + j;
        all.push_back(matrix.dtype == DType::f32 ? static_cast<float*>(matrix.data)[at] : to_float(static_cast<bf16*>(matrix.data)[at]));
      }
    }
    return all;
  }

  Matrix matrix;
  int64_t rows, cols;
  std::vector<double> before;
};

struct ProductCase {
  int64_t M = 17, N = 29, K = 11;
  bool transpose_a = false, transpose_b = true;
  DType d_type = DType::bf16;
  float alpha = 1.0f, beta = 0.0f;
  bool bias = false;
};

/// Runs it and compares each element with its sum in double.
void check_product(Products& products, const ProductCase& c, const std::string& name) {
  Stream stream;
  TestMatrix a(c.transpose_a ? c.K : c.M, c.transpose_a ? c.M : c.K, DType::bf16, 40), b(c.transpose_b ? c.N : c.K, c.transpose_b ? c.K : c.N, DType::bf16, 48);
  TestMatrix d(c.M, c.N, c.d_type, 36), bias(1, c.N, c.d_type, c.N);
  Product p;
  p.a = a.matrix, p.b = b.matrix, p.d = d.matrix;
  p.M = c.M, p.N = c.N, p.K = c.K;
  p.transpose_a = c.transpose_a, p.transpose_b = c.transpose_b;
  p.alpha = c.alpha, p.beta = c.beta;
  if (c.bias) p.bias = bias.matrix.data;
  products.run(p, stream);
  const std::vector<double> got = d.values();
  double worst = 0;
  for (int64_t i = 0; i < c.M; ++i) {
    for (int64_t j = 0; j < c.N; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < c.K; ++k) sum += a.before[size_t(c.transpose_a ? k * c.M + i : i * c.K + k)] * b.before[size_t(c.transpose_b ? j * c.K + k : k * c.N + j)];
      const double want = c.alpha * sum + c.beta * d.before[size_t(i * c.N + j)] + (c.bias ? bias.before[size_t(j)] : 0.0);
      worst = std::max(worst, std::abs(got[size_t(i * c.N + j)] - want));
    }
  }
  const double allowed = c.d_type == DType::bf16 ? 0.04 : 1e-5;  // sums of 11 to 70 terms below 1, rounded once
  expect(worst <= allowed, name + ": differs by " + std::to_string(worst));
}

using Library = std::shared_ptr<const cublaslt::Library>;

void test_products(Products& products) {
  for (bool transpose_a : {false, true}) {
    for (bool transpose_b : {false, true}) {
      for (DType d_type : {DType::bf16, DType::f32}) {
        for (float beta : {0.0f, 1.0f}) {
          for (bool bias : {false, true}) {
            ProductCase c;
            c.transpose_a = transpose_a, c.transpose_b = transpose_b, c.d_type = d_type, c.beta = beta, c.bias = bias;
            c.alpha = bias ? 1.0f : 0.5f;
            const std::string name = std::string(transpose_a ? "a^T " : "a ") + (transpose_b ? "b^T" : "b") + (d_type == DType::f32 ? ", fp32" : ", bf16") + (beta != 0 ? ", beta 1" : "") + (bias ? ", bias" : "");
            check_product(products, c, name);
          }
        }
      }
    }
  }
}

void test_a_product_without_an_algorithm(const Library& library) {
  for (bool tuned : {false, true}) {
    CublasLtProducts products(library, "GPU", {tuned, ""});
    for (DType d_type : {DType::bf16, DType::f32}) {
      for (bool turned : {false, true}) {
        ProductCase column;
        column.N = 1, column.d_type = d_type, column.transpose_a = turned, column.transpose_b = !turned, column.beta = 1.0f, column.bias = true;
        check_product(products, column, "one column");
        check_product(products, column, "one column again");
      }
    }
    ProductCase one;
    one.M = one.N = one.K = 1;
    check_product(products, one, "one element");
    expect(products.choices().front().algorithm.find("plain") != std::string::npos, "the choice says that the plain kernel is taken");
  }
}

std::string contents(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

size_t count(const std::string& text, const std::string& word) {
  size_t found = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
  return found;
}

/// A folder of this run's own, and the log of the fake library.
struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "polypaca-cublaslt-XXXXXX").string();
    path = mkdtemp(pattern.data());
    setenv("FAKE_CUBLASLT_LOG", (path / "calls").c_str(), 1);
  }
  ~Folder() {
    unsetenv("FAKE_CUBLASLT_LOG");
    fs::remove_all(path);
  }
  /// What the library was asked since the last time.
  std::string calls() const {
    const std::string text = contents(path / "calls");
    fs::remove(path / "calls");
    return text;
  }
  fs::path file() const {
    for (const fs::directory_entry& entry : fs::directory_iterator(path / "cache")) return entry.path();
    return {};
  }
  std::string cache() const { return (path / "cache").string(); }
  fs::path path;
};

void test_tuning_finds_the_fast_one_that_repeats(const Library& library) {
  Folder folder;
  CublasLtProducts products(library, "GPU \"X\" 1", {true, folder.cache()});
  check_product(products, {}, "tuned product");
  const std::vector<ProductChoice> choices = products.choices();
  expect(choices.size() == 1 && choices[0].algorithm.find("id 1") == 0 && choices[0].microseconds > 0, "the choice is the fast algorithm that repeats, with its time");
  const std::string calls = folder.calls();
  expect(calls.find("reductions=0 ") != std::string::npos && calls.find("reductions=2 ") != std::string::npos, "proposals with and without split sums are asked for");
  expect(calls.find("align=256,256,256,256") != std::string::npos, "alignments are those of the pointers");
  check_product(products, {}, "the same product again");
  expect(folder.calls() == "matmul 1\n", "the second product is one call");
}

void test_a_later_run_reads_what_was_tuned(const Library& library) {
  Folder folder;
  CublasLtProducts first(library, "GPU", {true, folder.cache()});
  check_product(first, {}, "first run");
  folder.calls();
  CublasLtProducts second(library, "GPU", {true, folder.cache()});
  check_product(second, {}, "second run");
  expect(folder.calls() == "check\nmatmul 1\n", "a later run checks the algorithm and multiplies");
  ProductCase shorter;
  shorter.M = 18;  // of the same class as 17: sizes above 16 go in steps
  check_product(second, shorter, "a product of the same class");
  expect(folder.calls() == "check\nmatmul 1\n", "a product of the same class takes the same algorithm");
  CublasLtProducts other_gpu(library, "another GPU", {true, folder.cache()});
  check_product(other_gpu, {}, "on another GPU");
  expect(count(folder.calls(), "matmul 0") > 0, "another GPU tunes anew");
}

void test_a_damaged_file_costs_time_only(const Library& library) {
  Folder folder;
  CublasLtProducts first(library, "GPU", {true, folder.cache()});
  check_product(first, {}, "first run");
  const fs::path file = folder.file();
  std::string text = contents(file);
  expect(count(text, "\n") == 2 && text.find("\"gpu\":\"GPU\"") != std::string::npos, "the file has a head and a line");
  const size_t at = text.find("\"algorithm\":\"") + 13;
  std::ofstream(file) << text.substr(0, at) + std::string(16, '0') + text.substr(at + 16) << "not JSON\n{\"product\":\"x\"\n";
  folder.calls();
  CublasLtProducts refused(library, "GPU", {true, folder.cache()});
  check_product(refused, {}, "with an algorithm that the library refuses");
  expect(count(folder.calls(), "matmul 0") > 0, "an algorithm that the library refuses is tuned anew");
  const std::string mended = contents(file);
  expect(count(mended, "\n") == 2 && mended.find("\"algorithm\":\"0000000000000000") == std::string::npos, "and its line is replaced, the others dropped");
}

void test_without_tuning(const Library& library) {
  Folder folder;
  CublasLtProducts products(library, "GPU", {false, folder.cache()});
  check_product(products, {}, "without tuning");
  const std::string calls = folder.calls();
  expect(count(calls, "matmul") == 1 && calls.find("wanted=1 reductions=0 ") != std::string::npos, "without tuning the first proposal of one sequence is taken");
  expect(!fs::exists(folder.cache()), "and no file is written");
}

void test_a_cache_that_cannot_be_written(const Library& library) {
  Folder folder;
  std::ofstream(folder.path / "cache") << "a file where the folder should be";
  CublasLtProducts products(library, "GPU", {true, folder.cache()});
  check_product(products, {}, "with a cache that cannot be written");
}

void test_library_errors() {
  auto message = [] {
    try {
      cublaslt::open_library();
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  setenv("FAKE_CUBLASLT_VERSION", "110805", 1);
  expect(message().find("110805") != std::string::npos, "a version that is not known is refused by number");
  unsetenv("FAKE_CUBLASLT_VERSION");
  setenv("POLYPACA_CUBLASLT", "/nowhere/libcublasLt.so", 1);
  expect(message().find("POLYPACA_CUBLASLT names \"/nowhere/libcublasLt.so\"") == 0, "a named file that is not there is named in the error");
  setenv("POLYPACA_CUBLASLT", "libc.so.6", 1);
  expect(message().find("libc.so.6 has no function cublasLtCreate") == 0, "a library that is not cuBLASLt is refused");
}

}  // namespace

int main() {
  setenv("POLYPACA_CUBLASLT", FAKE_CUBLASLT, 1);
  try {
    const Library library = cublaslt::open_library();
    CublasLtProducts untuned(library, "GPU", {false, ""}), tuned(library, "GPU", {true, ""});
    test_products(untuned);
    test_products(tuned);
    test_a_product_without_an_algorithm(library);
    test_tuning_finds_the_fast_one_that_repeats(library);
    test_a_later_run_reads_what_was_tuned(library);
    test_a_damaged_file_costs_time_only(library);
    test_without_tuning(library);
    test_a_cache_that_cannot_be_written(library);
    test_library_errors();
  } catch (const std::exception& error) {
    expect(false, std::string("no exception: ") + error.what());
  }
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
