// Names of functions by address, for messages.
#pragma once
#include <string>

namespace polypaca::emulator {

/// The function at `code`, as C++ spells it without polypaca's namespaces; empty where the module's symbol table is stripped.
std::string function_at(const void* code);

/// What to give addr2line for the line of `code`: "-Cfie FILE OFFSET".
std::string place_for_addr2line(const void* code);

}  // namespace polypaca::emulator
