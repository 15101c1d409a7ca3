// Every fault planted in faulty_kernels.cu must be reported, with the kernel, block and thread; every correct kernel must pass.
// With the seeds 1 to 8, or those given as arguments.
#include <stdio.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "test/emulator/faulty_kernels.h"

namespace {

using polypaca::cuda_emulated::KernelCase;

/// The message of what run() threw; empty where it returned.
std::string message_of(const KernelCase& c) {
  try {
    c.run();
    return "";
  } catch (const polypaca::Error& error) {
    return error.what();
  }
}

/// `report` holds alternatives between bars: which one comes first depends on the order of threads.
bool holds_one_of(const std::string& message, const std::string& report) {
  for (size_t begin = 0; begin <= report.size();) {
    const size_t end = std::min(report.find('|', begin), report.size());
    if (message.find(report.substr(begin, end - begin)) != std::string::npos) return true;
    begin = end + 1;
  }
  return false;
}

/// What is wrong with this outcome; empty: nothing.
std::string complaint(const KernelCase& c, const std::string& message) {
  if (!c.report) return message.empty() ? "" : "a correct kernel was refused: " + message;
  if (message.empty()) return "the fault was not found";
  if (!holds_one_of(message, c.report)) return std::string("expected \"") + c.report + "\", got: " + message;
  if (message.find(") launched at") == std::string::npos || message.find("faulty_kernels.cu:") == std::string::npos || message.find("block (") == std::string::npos || message.find("thread") == std::string::npos) return "no place in: " + message;
  return "";
}

}  // namespace

int main(int count, char** arguments) {
  const bool verbose = count > 1 && std::string(arguments[1]) == "-v";
  std::vector<std::string> seeds(arguments + (verbose ? 2 : 1), arguments + count);
  if (seeds.empty()) seeds = {"1", "2", "3", "4", "5", "6", "7", "8"};
  int failed = 0, runs = 0;
  for (const std::string& seed : seeds) {
    setenv("POLYPACA_EMULATOR_SEED", seed.c_str(), 1);
    for (const KernelCase& c : polypaca::cuda_emulated::kernel_cases()) {
      const std::string message = message_of(c), wrong = complaint(c, message);
      ++runs;
      if (verbose) printf("%s: %s\n", c.name, message.empty() ? "passed" : message.c_str());
      if (wrong.empty()) continue;
      ++failed;
      printf("%s, seed %s: %s\n", c.name, seed.c_str(), wrong.c_str());
    }
  }
  printf("emulator: %d runs, %d failed\n", runs, failed);
  return failed == 0 ? 0 : 1;
}
