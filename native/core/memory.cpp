#include "core/memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "core/error.h"

namespace polypaca {
namespace {

/// A "Name:   123 kB" line of a /proc file, in bytes; -1 where there is none.
int64_t proc_kilobytes(const char* path, const std::string& field) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind(field + ":", 0) == 0) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  return -1;
}

int64_t number_in(const std::string& path) {
  std::ifstream in(path);
  std::string word;
  if (!(in >> word) || word == "max") return -1;
  try {
    return std::stoll(word);
  } catch (const std::exception&) {
    return -1;
  }
}

}  // namespace

int64_t cgroup_available(const std::string& file_system) {
  int64_t least = kNoMemoryLimit;
  std::ifstream in(file_system + "/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    bool v2 = controllers.empty(), v1 = controllers.find("memory") != std::string::npos;
    if (!v2 && !v1) continue;
    const std::string root = file_system + (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    for (;;) {
      std::string at = root + (path == "/" ? "" : path);
      int64_t limit = number_in(at + (v2 ? "/memory.max" : "/memory.limit_in_bytes"));
      int64_t used = number_in(at + (v2 ? "/memory.current" : "/memory.usage_in_bytes"));
      if (limit > 0 && limit < (int64_t(1) << 60) && used >= 0) {
        // Page cache counts as used, but is given back under pressure. Version 1 has the group's own and that of all below it.
        const std::string prefix = v2 ? "" : "total_";
        int64_t cache = 0;
        std::ifstream stat(at + "/memory.stat");
        std::string key;
        int64_t value;
        while (stat >> key >> value) {
          if (key == prefix + "inactive_file" || key == prefix + "active_file") cache += value;
        }
        least = std::min(least, std::max<int64_t>(0, limit - used + cache));
      }
      if (path.empty() || path == "/") break;
      path = path.substr(0, path.rfind('/'));
    }
  }
  return least;
}

namespace {

int64_t address_space_available() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kNoMemoryLimit;
  int64_t used = proc_kilobytes("/proc/self/status", "VmSize");
  return std::max<int64_t>(0, int64_t(limit.rlim_cur) - std::max<int64_t>(0, used));
}

}  // namespace

MemoryLimits memory_limits() {
  MemoryLimits limits;
  int64_t total = proc_kilobytes("/proc/meminfo", "MemTotal"), free_now = proc_kilobytes("/proc/meminfo", "MemAvailable");
  limits.total = total > 0 ? total : kNoMemoryLimit;
  limits.available = free_now > 0 ? free_now : limits.total;
  limits.limited_by = "free memory";
  if (int64_t group = cgroup_available(); group < limits.available) {
    limits.available = group;
    limits.limited_by = "the cgroup's limit";
  }
  if (int64_t space = address_space_available(); space < limits.available) {
    limits.available = space;
    limits.limited_by = "the address-space limit (ulimit -v)";
  }
  return limits;
}

int64_t peak_resident_bytes() { return std::max<int64_t>(0, proc_kilobytes("/proc/self/status", "VmHWM")); }
int64_t resident_bytes() { return std::max<int64_t>(0, proc_kilobytes("/proc/self/status", "VmRSS")); }

std::string human_bytes(int64_t bytes) {
  char text[32];
  if (bytes >= int64_t(1) << 30) {
    std::snprintf(text, sizeof text, "%.2f GiB", double(bytes) / double(int64_t(1) << 30));
  } else {
    std::snprintf(text, sizeof text, "%.1f MiB", double(bytes) / double(1 << 20));
  }
  return text;
}

void require_memory(const MemoryLimits& limits, int64_t bytes, const std::string& what, bool allow_overcommit) {
  if (allow_overcommit || bytes <= limits.available) return;
  throw Error(ErrorCode::out_of_memory, what + " needs " + human_bytes(bytes) + ", but " + limits.limited_by + " leaves " +
                                            human_bytes(limits.available) +
                                            ". Use a smaller --micro-batch-tokens, --recompute block, LoRA or a smaller model; "
                                            "--allow-overcommit tries all the same.");
}

}  // namespace polypaca
