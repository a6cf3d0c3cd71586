// Root mean square norm (Zhang & Sennrich 2019, arXiv:1910.07467), also of a sum, and its gradient; and what a layer
// norm (Ba et al. 2016, arXiv:1607.06450) has besides it.
#include <cmath>

#include "kernel.h"
#include "parallel.h"

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

// x [tokens, hidden], weight [hidden] → y [tokens, hidden], inverse_rms [tokens, 1]
template <typename Number>
struct RmsNorm {
  explicit RmsNorm(const Attributes& attributes) : epsilon(attributes.Float("epsilon")) {}

  void Compute(Context& context) const {
    const int64_t rows = context.Dim(0, 0);
    const int64_t width = context.Dim(0, 1);
    const float* x = context.Input<float>(0);
    const float* weight = context.Input<float>(1);
    if (!context.Check(context.Size(1) == width, "weight must be as long as a row of x")) return;
    Number* y = context.Output<Number>(0, {rows, width});
    float* inverse_rms = context.Output<float>(1, {rows, 1});
    if (context.failed()) return;
    ParallelRanges(rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * width;
        NormRow<Number>(x + at, nullptr, weight, width, epsilon, nullptr, y + at, inverse_rms + row);
      }
    });
  }

  float epsilon;
};

// x, branch [tokens, hidden], weight [hidden] → x + branch, y, inverse_rms
template <typename Number>
struct AddRmsNorm {
  explicit AddRmsNorm(const Attributes& attributes) : epsilon(attributes.Float("epsilon")) {}

  void Compute(Context& context) const {
    const int64_t rows = context.Dim(0, 0);
    const int64_t width = context.Dim(0, 1);
    const float* x = context.Input<float>(0);
    const Number* branch = context.Input<Number>(1);
    const float* weight = context.Input<float>(2);
    if (!context.Check(context.Size(1) == rows * width, "branch must have the shape of x")) return;
    if (!context.Check(context.Size(2) == width, "weight must be as long as a row of x")) return;
    float* sum = context.Output<float>(0, {rows, width});
    Number* y = context.Output<Number>(1, {rows, width});
    float* inverse_rms = context.Output<float>(2, {rows, 1});
    if (context.failed()) return;
    ParallelRanges(rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * width;
        NormRow<Number>(x + at, branch + at, weight, width, epsilon, sum + at, y + at, inverse_rms + row);
      }
    });
  }

  float epsilon;
};

// gradient [tokens, hidden] by y, x, weight, inverse_rms, residual [tokens, hidden] → by x in float32 and in T
template <typename Number>
struct RmsNormGradient {
  void Compute(Context& context) const {
    const int64_t rows = context.Dim(1, 0);
    const int64_t width = context.Dim(1, 1);
    const Number* gradient = context.Input<Number>(0);
    const float* x = context.Input<float>(1);
    const float* weight = context.Input<float>(2);
    const float* inverse_rms = context.Input<float>(3);
    const float* residual = context.Input<float>(4);
    const bool fits = context.Size(0) == rows * width && context.Size(2) == width && context.Size(3) == rows &&
                      context.Size(4) == rows * width;
    if (!context.Check(fits, "gradient, x and residual must have one shape")) return;
    float* result = context.Output<float>(0, {rows, width});
    Number* rounded = context.Output<Number>(1, {rows, width});
    if (context.failed()) return;
    ParallelRanges(rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t at = row * width;
        NormGradientRow<Number>(gradient + at, x + at, weight, inverse_rms[row], residual + at, width, result + at,
                                rounded + at);
      }
    });
  }
};

// x [tokens, size] → each row less its mean
struct Centred {
  void Compute(Context& context) const {
    const int64_t rows = context.Dim(0, 0);
    const int64_t width = context.Dim(0, 1);
    const float* x = context.Input<float>(0);
    float* result = context.Output<float>(0, {rows, width});
    if (context.failed()) return;
    ParallelRanges(rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const float* from = x + row * width;
        float* to = result + row * width;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < width; i++) sum += from[i];
        const float mean = sum / static_cast<float>(width);
#pragma omp simd
        for (int64_t i = 0; i < width; i++) to[i] = from[i] - mean;
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
