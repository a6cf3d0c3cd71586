// Root mean square norm (Zhang & Sennrich 2019, arXiv:1910.07467), also of a sum, and its gradient; and what a layer
// norm (Ba et al. 2016, arXiv:1607.06450) has besides it.
#include <cmath>

#include "cpu/kernel.h"
#include "cpu/parallel.h"
#include "ops/norm/norm_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kRowsPerPiece = 16;

// 1 / rms(x). One function for all that need it: compiled twice, its last bit could differ, and a layer that is
// computed again takes the norm of x where it took that of a sum.
__attribute__((noinline)) float InverseRms(const float* x, int64_t width, float epsilon) {
  float square_sum = 0;
#pragma omp simd reduction(+ : square_sum)
  for (int64_t i = 0; i < width; i++) square_sum += x[i] * x[i];
  return 1.0f / std::sqrt(square_sum / static_cast<float>(width) + epsilon);
}

// sum = x + branch, y = sum / rms(sum) * weight. With a null branch, y is the norm of x and sum is not written.
template <typename Number>
void NormRow(const float* x, const Number* branch, const float* weight, int64_t width, float epsilon, float* sum,
             Number* y, float* inverse_rms) {
  if (branch != nullptr) {
#pragma omp simd
    for (int64_t i = 0; i < width; i++) sum[i] = x[i] + ToFloat(branch[i]);
    x = sum;
  }
  const float inverse = InverseRms(x, width, epsilon);
#pragma omp simd
  for (int64_t i = 0; i < width; i++) Store(x[i] * inverse * weight[i], y + i);
  *inverse_rms = inverse;
}

// With n = x / rms(x) and g = gradient * weight: residual + (g - n * mean(g n)) / rms(x).
template <typename Number>
void NormGradientRow(const Number* gradient, const float* x, const float* weight, float inverse, const float* residual,
                     int64_t width, float* result, Number* rounded) {
  float product_sum = 0;
#pragma omp simd reduction(+ : product_sum)
  for (int64_t i = 0; i < width; i++) product_sum += ToFloat(gradient[i]) * weight[i] * x[i];
  // mean(g n) / rms(x) as a factor of x
  const float factor = product_sum * inverse * inverse / static_cast<float>(width);
#pragma omp simd
  for (int64_t i = 0; i < width; i++) {
    const float value = residual[i] + (ToFloat(gradient[i]) * weight[i] - x[i] * factor) * inverse;
    result[i] = value;
    Store(value, rounded + i);
  }
}

template <typename Number>
struct RmsNorm {
  explicit RmsNorm(const Attributes& attributes) : epsilon(attributes.Float("epsilon")) {}

  void Compute(Context& context) const {
    const RmsNormOperands<Number> o(context);
    if (context.failed()) return;
    ParallelRanges(o.rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * o.width;
        NormRow<Number>(o.x + at, nullptr, o.weight, o.width, epsilon, nullptr, o.y + at, o.inverse_rms + row);
      }
    });
  }

  float epsilon;
};

template <typename Number>
struct AddRmsNorm {
  explicit AddRmsNorm(const Attributes& attributes) : epsilon(attributes.Float("epsilon")) {}

  void Compute(Context& context) const {
    const AddRmsNormOperands<Number> o(context);
    if (context.failed()) return;
    ParallelRanges(o.rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * o.width;
        NormRow<Number>(o.x + at, o.branch + at, o.weight, o.width, epsilon, o.sum + at, o.y + at, o.inverse_rms + row);
      }
    });
  }

  float epsilon;
};

template <typename Number>
struct RmsNormGradient {
  void Compute(Context& context) const {
    const RmsNormGradientOperands<Number> o(context);
    if (context.failed()) return;
    ParallelRanges(o.rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * o.width;
        NormGradientRow<Number>(o.gradient + at, o.x + at, o.weight, o.inverse_rms[row], o.residual + at, o.width,
                                o.result + at, o.rounded + at);
      }
    });
  }
};

struct Centred {
  void Compute(Context& context) const {
    const CentredOperands o(context);
    if (context.failed()) return;
    ParallelRanges(o.rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const float* from = o.x + row * o.width;
        float* to = o.result + row * o.width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < o.width; i++) sum += from[i];
        const float mean = sum / static_cast<float>(o.width);
#pragma omp simd
        for (int64_t i = 0; i < o.width; i++) to[i] = from[i] - mean;
      }
    });
  }
};

}  // namespace

std::vector<OpDefinition> NormOps() {
  return {
      {"LorasmithCentred", {"x: T"}, {"result: T"}, {}, {KernelOn<Centred>("CPU", TF_FLOAT)}},
      {"LorasmithRmsNorm",
       {"x: float", "weight: float"},
       {"y: T", "inverse_rms: float"},
       {"epsilon: float"},
       CpuKernels<RmsNorm>()},
      {"LorasmithAddRmsNorm",
       {"x: float", "branch: T", "weight: float"},
       {"sum: float", "y: T", "inverse_rms: float"},
       {"epsilon: float"},
       CpuKernels<AddRmsNorm>()},
      {"LorasmithRmsNormGradient",
       {"gradient: T", "x: float", "weight: float", "inverse_rms: float", "residual: float"},
       {"result: float", "rounded: T"},
       {},
       CpuKernels<RmsNormGradient>()},
  };
}

}  // namespace lorasmith
