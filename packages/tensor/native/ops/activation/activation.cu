// The activation of each number where there is no gate, and its gradient: activation.cc on a GPU.
#include "cuda/kernels/device.h"
#include "ops/activation/activation.cuh"

namespace {

// Calls whole(i) with the first number of each vector that is this thread's, and one(i) with each number that no vector
// has.
template <typename Number, typename Whole, typename One>
__device__ __forceinline__ void Each(int64_t size, bool has_vectors, const Whole& whole, const One& one) {
  constexpr int kSize = Vector<Number>::kSize;
  const int64_t vectors = has_vectors ? size / kSize : 0;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < vectors; i += step) whole(i * kSize);
  for (int64_t i = vectors * kSize + first; i < size; i += step) one(i);
}

template <typename F, typename Number>
__device__ __forceinline__ void OfEach(const Number* x, int64_t size, Number* result) {
  const auto one = [&](Number number, Number* to) { Store(F::Value(ToFloat(number)), to); };
  Each<Number>(
      size, IsVectorAligned(x) && IsVectorAligned(result),
      [&](int64_t i) {
        const Vector<Number> numbers = LoadVector(x + i);
        Vector<Number> values;
#pragma unroll
        for (int k = 0; k < Vector<Number>::kSize; k++) one(numbers.values[k], &values.values[k]);
        StoreVector(values, result + i);
      },
      [&](int64_t i) { one(x[i], result + i); });
}

template <typename F, typename Number>
__device__ __forceinline__ void GradientOfEach(const Number* gradient, const Number* x, int64_t size, Number* result) {
  const auto one = [&](Number from, Number number, Number* to) {
    Store(ToFloat(from) * F::Both(ToFloat(number)).slope, to);
  };
  Each<Number>(
      size, IsVectorAligned(gradient) && IsVectorAligned(x) && IsVectorAligned(result),
      [&](int64_t i) {
        const Vector<Number> gradients = LoadVector(gradient + i);
        const Vector<Number> numbers = LoadVector(x + i);
        Vector<Number> values;
#pragma unroll
        for (int k = 0; k < Vector<Number>::kSize; k++) one(gradients.values[k], numbers.values[k], &values.values[k]);
        StoreVector(values, result + i);
      },
      [&](int64_t i) { one(gradient[i], x[i], result + i); });
}

}  // namespace

#define ACTIVATION_KERNELS(Number, Suffix)                                                               \
  extern "C" __global__ void __launch_bounds__(256)                                                      \
      Activation##Suffix(const Number* x, int64_t size, Activation activation, Number* result) {         \
    WithActivation(activation, [&](auto f) { OfEach<decltype(f)>(x, size, result); });                   \
  }                                                                                                      \
  EXPORT_KERNEL(Activation##Suffix)                                                                      \
  extern "C" __global__ void __launch_bounds__(256) ActivationGradient##Suffix(                          \
      const Number* gradient, const Number* x, int64_t size, Activation activation, Number* result) {    \
    WithActivation(activation, [&](auto f) { GradientOfEach<decltype(f)>(gradient, x, size, result); }); \
  }                                                                                                      \
  EXPORT_KERNEL(ActivationGradient##Suffix)

ACTIVATION_KERNELS(float, Float32)
ACTIVATION_KERNELS(bf16, BFloat16)
