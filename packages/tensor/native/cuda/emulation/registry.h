// The kernels of a program by name, as the driver finds them in a module.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/emulation/block.h"

namespace emulation {

struct Parameter {
  size_t bytes;
  // A pointer to what the kernel may write.
  bool is_output;
  // Of what it points to; 0 unless it is a pointer.
  size_t element_bytes;
};

struct Kernel {
  std::string name;
  // The .cu file without its ending.
  std::string module;
  std::vector<Parameter> parameters;
  // arguments[i] points to parameter i, as cuLaunchKernel has them. Throws Fault.
  void (*launch)(dim3 grid, dim3 threads, size_t shared_bytes, void** arguments);
};

inline std::map<std::string, Kernel>& Kernels() {
  static std::map<std::string, Kernel> kernels;
  return kernels;
}

template <typename Type>
Parameter DescribeParameter() {
  if constexpr (std::is_pointer_v<Type>) {
    using Element = std::remove_pointer_t<Type>;
    return {sizeof(Type), !std::is_const_v<Element>, sizeof(Element)};
  } else {
    return {sizeof(Type), false, 0};
  }
}

template <auto kernel>
struct Caller;

template <typename... Types, void (*kernel)(Types...)>
struct Caller<kernel> {
  static std::vector<Parameter> Parameters() { return {DescribeParameter<Types>()...}; }

  static void Launch(dim3 grid, dim3 threads, size_t shared_bytes, void** arguments) {
    Call(grid, threads, shared_bytes, arguments, std::index_sequence_for<Types...>());
  }

 private:
  template <size_t... i>
  static void Call(dim3 grid, dim3 threads, size_t shared_bytes, void** arguments, std::index_sequence<i...>) {
    emulation::Launch([=] { kernel(*static_cast<std::remove_const_t<Types>*>(arguments[i])...); }, grid, threads,
                      shared_bytes);
  }
};

template <auto kernel>
bool Register(const char* name, std::string file) {
  file = file.substr(file.rfind('/') + 1);
  file = file.substr(0, file.find('.'));
  return Kernels().insert({name, {name, file, Caller<kernel>::Parameters(), Caller<kernel>::Launch}}).second;
}

}  // namespace emulation

#define EXPORT_KERNEL(name) \
  [[maybe_unused]] static const bool name##_registered = emulation::Register<&name>(#name, __BASE_FILE__);
