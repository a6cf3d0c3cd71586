// Cross entropy of the label's class and its gradient.
#include <cmath>
#include <limits>

#include "cpu/kernel.h"
#include "cpu/parallel.h"
#include "ops/cross_entropy/cross_entropy_operands.h"

namespace lorasmith {
namespace {

// Below this the ratio others / own would overflow or lose digits.
constexpr float kTiny = 1e-20f;

template <typename Number>
float SumOfExp(const Number* logits, int64_t begin, int64_t end, float greatest) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = begin; i < end; i++) sum += Exp(ToFloat(logits[i]) - greatest);
  return sum;
}

// Whether the label is the first of the greatest logits, as argmax has it.
template <typename Number>
bool IsFirst(const Number* logits, int64_t label, float greatest) {
  if (!(ToFloat(logits[label]) == greatest)) return false;
  for (int64_t i = 0; i < label; i++) {
    if (ToFloat(logits[i]) == greatest) return false;
  }
  return true;
}

template <typename Number>
struct CrossEntropy {
  void Compute(Context& context) const {
    const CrossEntropyOperands<Number> o(context);
    if (context.failed()) return;
    const int64_t classes = o.classes;
    for (int64_t row = 0; row < o.rows; row++) {
      const bool known = o.labels[row] >= 0 && o.labels[row] < classes;
      if (!context.Check(known, "a label is not among the classes")) return;
    }
    ParallelRanges(o.rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const Number* from = o.logits + row * classes;
        Number* to = o.gradient + row * classes;
        float greatest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : greatest)
        for (int64_t i = 0; i < classes; i++) {
          const float value = ToFloat(from[i]);
          greatest = value > greatest ? value : greatest;
        }
        // The label's class is summed separately: loss and gradient stay exact when its probability is near 1.
        const int64_t label = o.labels[row];
        const float others = SumOfExp(from, 0, label, greatest) + SumOfExp(from, label + 1, classes, greatest);
        const float own = Exp(ToFloat(from[label]) - greatest);
        const float sum = others + own;
        const float inverse = 1.0f / sum;
#pragma omp simd
        for (int64_t i = 0; i < classes; i++) Store(Exp(ToFloat(from[i]) - greatest) * inverse, to + i);
        Store(-others * inverse, to + label);
        o.correct[row] = IsFirst(from, label, greatest) ? 1.0f : 0.0f;
        o.loss[row] = own > kTiny ? std::log1p(others / own) : greatest + std::log(sum) - ToFloat(from[label]);
        // The comparison above skips a NaN among the logits, but the loss must be NaN then.
        if (!(sum <= std::numeric_limits<float>::max())) o.loss[row] = std::numeric_limits<float>::quiet_NaN();
      }
    });
  }
};

}  // namespace

std::vector<OpDefinition> CrossEntropyOps() {
  return {
      {"LorasmithCrossEntropy",
       {"logits: T", "labels: int32"},
       {"loss: float", "gradient: T", "correct: float"},
       {},
       CpuKernels<CrossEntropy>()},
  };
}

}  // namespace lorasmith
