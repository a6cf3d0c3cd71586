// The activation of each number and its gradient, where there is no gate. Row by row, so that a number's place in its
// row, and not in the tensor, says whether a vector of the loop has it.
#include "ops/activation/activation.h"

#include "cpu/kernel.h"
#include "cpu/parallel.h"

namespace lorasmith {
namespace {

constexpr int64_t kNumbersPerPiece = 8192;

// Calls body(begin, end) with the numbers of each row.
template <typename Body>
void ForRows(int64_t size, int64_t width, const Body& body) {
  if (size == 0) return;
  ParallelRanges(size / width, kNumbersPerPiece / width + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) body(row * width, (row + 1) * width);
  });
}

int64_t WidthOf(const std::vector<int64_t>& shape) { return shape.empty() ? 1 : shape.back(); }

template <typename Number>
struct ActivationOfEach {
  explicit ActivationOfEach(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const ActivationOperands<Number> o(context, activation);
    if (context.failed()) return;
    WithActivation(activation, [&](auto f) {
      ForRows(o.size, WidthOf(o.shape), [&](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; i++) Store(decltype(f)::Value(ToFloat(o.x[i])), o.result + i);
      });
    });
  }

  Activation activation;
};

template <typename Number>
struct ActivationGradient {
  explicit ActivationGradient(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const ActivationGradientOperands<Number> o(context, activation);
    if (context.failed()) return;
    WithActivation(activation, [&](auto f) {
      ForRows(o.size, WidthOf(o.shape), [&](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; i++) {
          Store(ToFloat(o.gradient[i]) * decltype(f)::Both(ToFloat(o.x[i])).slope, o.result + i);
        }
      });
    });
  }

  Activation activation;
};

}  // namespace

std::vector<OpDefinition> ActivationOps() {
  const char* activation = "activation: int";
  return {
      {"LorasmithActivation", {"x: T"}, {"result: T"}, {activation}, CpuKernels<ActivationOfEach>()},
      {"LorasmithActivationGradient",
       {"gradient: T", "x: T"},
       {"result: T"},
       {activation},
       CpuKernels<ActivationGradient>()},
  };
}

}  // namespace lorasmith
