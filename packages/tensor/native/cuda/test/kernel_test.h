// A test of kernels in the emulation: computes on inputs that depend on the test's name only, and compares with plain
// loops in double precision. Each test runs once for each order of threads, and its results must be the same bytes.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/kernels/device.h"

namespace kernel_test {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// For programs in which kernels are slow: tests may take fewer rows, as long as all of a kernel's code runs.
inline bool small = false;

// Of the run in progress.
struct Run {
  uint64_t random;
  uint64_t hash;
  bool compares;  // the first order only: the others give the same bytes
  double worst;   // error in units of what is allowed
};
inline Run run;

inline uint64_t AddToHash(uint64_t hash, const void* data, size_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  for (size_t i = 0; i < bytes; i++) hash = (hash ^ from[i]) * 1099511628211ull;
  return hash;
}

inline void Start(const char* name, bool compares) {
  run = {AddToHash(1469598103934665603ull, name, strlen(name)) | 1, 1469598103934665603ull, compares, 0};
}

// Uniform in ±1.
inline float Random() {
  run.random ^= run.random << 13, run.random ^= run.random >> 7, run.random ^= run.random << 17;
  return static_cast<float>(static_cast<double>(run.random >> 11) / (1ull << 53) * 2 - 1);
}

// Memory where races are looked for.
template <typename Number>
struct Watched : std::allocator<Number> {
  template <typename Other>
  struct rebind {
    using other = Watched<Other>;
  };

  Number* allocate(size_t count) {
    Number* at = std::allocator<Number>::allocate(count);
    if (emulation::watch_memory != nullptr) emulation::watch_memory(at, count * sizeof(Number), false);
    return at;
  }
  void deallocate(Number* at, size_t count) {
    if (emulation::forget_memory != nullptr) emulation::forget_memory(at, count * sizeof(Number));
    std::allocator<Number>::deallocate(at, count);
  }
};

// What kernels read and write.
template <typename Number>
using Numbers = std::vector<Number, Watched<Number>>;

template <typename Number>
Numbers<Number> Randoms(size_t count, float spread = 1) {
  Numbers<Number> numbers(count);
  for (Number& number : numbers) Store(spread * Random(), &number);
  return numbers;
}

// What a kernel is to write begins as NaN.
template <typename Number>
Numbers<Number> Unwritten(size_t count) {
  Numbers<Number> numbers(count);
  if (count > 0) memset(static_cast<void*>(numbers.data()), 0xff, count * sizeof(Number));
  return numbers;
}

// A result: its bytes must not depend on the order of threads.
template <typename Number>
void Record(const Numbers<Number>& result) {
  run.hash = AddToHash(run.hash, result.data(), result.size() * sizeof(Number));
}

inline void Fail(const std::string& what) { throw Failure(what); }

inline void Expect(bool condition, const std::string& what) {
  if (!condition) Fail(what);
}

// Compares in groups of `width` numbers: of each group, the length of the difference may be `tolerance` times the
// length of what is expected, or of the usual group if that is longer.
template <typename Number>
void ExpectClose(const char* what, const Numbers<Number>& actual, const std::vector<double>& expected, size_t width,
                 double tolerance) {
  if (!run.compares) return;
  Expect(actual.size() == expected.size(), std::string(what) + ": another size");
  double all = 0;
  for (double number : expected) all += number * number;
  const double usual = expected.empty() ? 0 : std::sqrt(all / static_cast<double>(expected.size()) * width);
  for (size_t group = 0; group < expected.size(); group += width) {
    double difference = 0, size = 0;
    for (size_t i = group; i < group + width; i++) {
      const double d = ToFloat(actual[i]) - expected[i];
      difference += d * d;
      size += expected[i] * expected[i];
    }
    const double error = std::sqrt(difference) / (tolerance * std::max({std::sqrt(size), usual, 1e-30}));
    if (!(error <= 1))
      Fail(std::string(what) + ": numbers " + std::to_string(group) + " … " + std::to_string(group + width - 1) +
           " differ by " + std::to_string(error) + " times what is allowed");
    run.worst = std::max(run.worst, error);
  }
}

// kernel<<<grid, threads, shared_bytes>>>(arguments…), whose types must be those of the kernel's parameters.
template <typename... Arguments>
void Launch(const std::string& kernel, dim3 grid, unsigned threads, size_t shared_bytes, Arguments... arguments) {
  const auto found = emulation::Kernels().find(kernel);
  Expect(found != emulation::Kernels().end(), "there is no kernel " + kernel);
  const std::vector<emulation::Parameter>& parameters = found->second.parameters;
  const std::vector<emulation::Parameter> given{emulation::DescribeParameter<Arguments>()...};
  Expect(parameters.size() == given.size(), kernel + " has " + std::to_string(parameters.size()) + " parameters");
  for (size_t i = 0; i < given.size(); i++)
    Expect(parameters[i].bytes == given[i].bytes && parameters[i].element_bytes == given[i].element_bytes,
           kernel + ": parameter " + std::to_string(i) + " has another type");
  void* addresses[] = {&arguments...};
  found->second.launch(grid, dim3(threads), shared_bytes, addresses);
}

}  // namespace kernel_test

// KERNEL_TEST(Name) { … }
#define KERNEL_TEST(name)                                                                           \
  static void name##Test();                                                                         \
  static const bool name##_is_listed = (kernel_test::Tests().push_back({#name, name##Test}), true); \
  static void name##Test()
