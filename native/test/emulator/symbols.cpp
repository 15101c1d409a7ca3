// Kernels are local symbols, which dladdr does not see: this reads the module's full symbol table from its file.
#include "test/emulator/symbols.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fstream>
#include <iterator>
#include <vector>

namespace polypaca::emulator {
namespace {

struct Place {
  std::string file;
  uintptr_t offset = 0;  // from the module's base
};

Place place_of(const void* code) {
  Dl_info info;
  if (!dladdr(code, &info) || !info.dli_fname) return {};
  return {info.dli_fname, reinterpret_cast<uintptr_t>(code) - reinterpret_cast<uintptr_t>(info.dli_fbase)};
}

/// A section of a 64-bit ELF file as an array of T; empty where the file does not hold it.
template <typename T>
std::vector<T> section(const std::vector<char>& file, const ElfW(Shdr) & header) {
  if (header.sh_offset + header.sh_size > file.size()) return {};
  std::vector<T> content(header.sh_size / sizeof(T));
  memcpy(content.data(), file.data() + header.sh_offset, content.size() * sizeof(T));
  return content;
}

std::string symbol_at(const Place& place) {
  std::ifstream stream(place.file, std::ios::binary);
  const std::vector<char> file{std::istreambuf_iterator<char>(stream), {}};
  ElfW(Ehdr) elf;
  if (file.size() < sizeof elf) return "";
  memcpy(&elf, file.data(), sizeof elf);
  ElfW(Shdr) all{};
  all.sh_offset = elf.e_shoff;
  all.sh_size = elf.e_shnum * sizeof(ElfW(Shdr));
  const auto headers = section<ElfW(Shdr)>(file, all);
  for (const auto& header : headers) {
    if (header.sh_type != SHT_SYMTAB || header.sh_link >= headers.size()) continue;
    const std::vector<char> names = section<char>(file, headers[header.sh_link]);
    for (const auto& symbol : section<ElfW(Sym)>(file, header)) {
      const bool function = (symbol.st_info & 0xF) == STT_FUNC;
      if (function && place.offset - symbol.st_value < symbol.st_size && symbol.st_name < names.size()) return &names[symbol.st_name];
    }
  }
  return "";
}

void remove_all(std::string& text, const std::string& part) {
  for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
}

}  // namespace

std::string function_at(const void* code) {
  const std::string symbol = symbol_at(place_of(code));
  int status = 0;
  char* demangled = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string name = demangled ? demangled : symbol;
  free(demangled);
  for (const char* part : {"polypaca::cuda_emulated::", "polypaca::", "(anonymous namespace)::"}) remove_all(name, part);
  return name;
}

std::string place_for_addr2line(const void* code) {
  const Place place = place_of(code);
  char digits[32];
  snprintf(digits, sizeof digits, "0x%zx", size_t(place.offset));
  return "-Cfie " + place.file + " " + digits;
}

}  // namespace polypaca::emulator
