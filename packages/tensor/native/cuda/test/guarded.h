// Memory and comparisons of single numbers for tests of kernels.
#pragma once

#include "cuda/kernels/number.cuh"
#include "cuda/test/kernel_test.h"

namespace kernel_test {

// Memory of exactly this size, so that AddressSanitizer sees every access beyond it. It begins as NaN. Its content at
// the end is a result: it must not depend on the order of threads.
template <typename Number>
class Memory {
 public:
  explicit Memory(int64_t size) : size_(size) {
    void* data = nullptr;
    if (posix_memalign(&data, 16, bytes()) != 0) abort();
    data_ = static_cast<Number*>(data);
    memset(data, 0xff, bytes());
  }
  ~Memory() {
    run.hash = AddToHash(run.hash, data_, bytes());
    free(data_);
  }
  Memory(const Memory&) = delete;

  Number* data() { return data_; }
  Number& operator[](int64_t i) { return data_[i]; }
  int64_t size() const { return size_; }
  size_t bytes() const { return static_cast<size_t>(size_) * sizeof(Number); }

  void FillRandom(float low = -2, float high = 2) {
    for (int64_t i = 0; i < size_; i++) Store(low + (high - low) * (Random() + 1) / 2, &data_[i]);
  }

 private:
  int64_t size_;
  Number* data_;
};

constexpr unsigned kThreads = 128;

// Few blocks, so that each thread has several elements.
inline dim3 GridOf(int64_t work) { return dim3(static_cast<unsigned>(std::min<int64_t>((work + 511) / 512, 7))); }

template <typename... Arguments>
void Run128(const std::string& kernel, dim3 grid, Arguments... arguments) {
  Launch(kernel, grid, kThreads, 0, arguments...);
}

// NaN is near NaN only. `relative` is a part of the expected number, `absolute` beside it.
inline bool Near(double expected, double actual, double relative, double absolute = 0) {
  if (std::isnan(expected) || std::isnan(actual)) return std::isnan(expected) && std::isnan(actual);
  return expected == actual || std::abs(expected - actual) <= relative * std::abs(expected) + absolute;
}

inline void Differs(const std::string& what, double expected, double actual) {
  char text[80];
  snprintf(text, sizeof(text), ": %.9g instead of %.9g", actual, expected);
  Fail(what + text);
}

inline std::string NameOf(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); i++) text += (i == 0 ? "" : ",") + std::to_string(shape[i]);
  return text + "]";
}

template <typename Number>
const std::string kTypeName = sizeof(Number) == 2 ? "BFloat16" : "Float32";

// Half a unit in the last place.
template <typename Number>
constexpr double kUnit = sizeof(Number) == 2 ? 1.0 / 256 : 1.0 / (1 << 24);

}  // namespace kernel_test
