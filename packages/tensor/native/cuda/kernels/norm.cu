// Root mean square norm (Zhang & Sennrich 2019, arXiv:1910.07467), also of a sum, and its gradient: native/norm.cc on a
// GPU. One block a row.
#include "device.h"

// branch null: y is the norm of x, and sum is not written.
template <typename Number>
__device__ __forceinline__ void NormRow(const float* x, const Number* branch, const float* weight, int64_t width,
                                        float epsilon, float* sum, Number* y, float* inverse_rms) {
  const int64_t at = blockIdx.x * width;
  float squares = 0;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    float value = x[at + i];
    if (branch != nullptr) {
      value += ToFloat(branch[at + i]);
      sum[at + i] = value;
    }
    squares += value * value;
  }
  const float inverse = rsqrtf(BlockSum(squares) / width + epsilon);
  const float* row = branch == nullptr ? x : sum;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) Store(row[at + i] * inverse * weight[i], y + at + i);
  if (threadIdx.x == 0) inverse_rms[blockIdx.x] = inverse;
}

template <typename Number>
__device__ __forceinline__ void NormGradientRow(const Number* gradient, const float* x, const float* weight,
                                                const float* inverse_rms, const float* residual, int64_t width,
                                                float* result, Number* rounded) {
  const int64_t at = blockIdx.x * width;
  float products = 0;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    products += ToFloat(gradient[at + i]) * weight[i] * x[at + i];
  }
  const float inverse = inverse_rms[blockIdx.x];
  // mean(g n) / rms(x) as a factor of x
  const float factor = BlockSum(products) * inverse * inverse / width;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    const float own = (ToFloat(gradient[at + i]) * weight[i] - x[at + i] * factor) * inverse;
    const float value = residual[at + i] + own;
    result[at + i] = value;
    Store(value, rounded + at + i);
  }
}

#define NORM_KERNELS(Number, Suffix)                                                                                 \
  extern "C" __global__ void __launch_bounds__(256) RmsNorm##Suffix(                                                 \
      const float* x, const float* weight, int64_t width, float epsilon, Number* y, float* inverse_rms) {            \
    NormRow<Number>(x, nullptr, weight, width, epsilon, nullptr, y, inverse_rms);                                    \
  }                                                                                                                  \
  EXPORT_KERNEL(RmsNorm##Suffix)                                                                                     \
  extern "C" __global__ void __launch_bounds__(256)                                                                  \
      AddRmsNorm##Suffix(const float* x, const Number* branch, const float* weight, int64_t width, float epsilon,    \
                         float* sum, Number* y, float* inverse_rms) {                                                \
    NormRow<Number>(x, branch, weight, width, epsilon, sum, y, inverse_rms);                                         \
  }                                                                                                                  \
  EXPORT_KERNEL(AddRmsNorm##Suffix)                                                                                  \
  extern "C" __global__ void __launch_bounds__(256)                                                                  \
      RmsNormGradient##Suffix(const Number* gradient, const float* x, const float* weight, const float* inverse_rms, \
                              const float* residual, int64_t width, float* result, Number* rounded) {                \
    NormGradientRow<Number>(gradient, x, weight, inverse_rms, residual, width, result, rounded);                     \
  }                                                                                                                  \
  EXPORT_KERNEL(RmsNormGradient##Suffix)

NORM_KERNELS(float, Float32)
NORM_KERNELS(bf16, BFloat16)
