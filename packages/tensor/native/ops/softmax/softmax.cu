// Softmax over rows: x [rows, width] → exp(x - max) / sum, in float32. One block for each row.
#include "cuda/kernels/number.cuh"

namespace {

template <typename T>
__device__ __forceinline__ void Softmax(const T* __restrict__ x, int64_t width, T* __restrict__ result) {
  const T* from = x + blockIdx.x * width;
  T* to = result + blockIdx.x * width;
  float greatest = -INFINITY;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) greatest = fmaxf(greatest, ToFloat(from[i]));
  greatest = BlockMax(greatest);
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) sum += expf(ToFloat(from[i]) - greatest);
  const float inverse = 1.0f / BlockSum(sum);
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    to[i] = Round<T>(expf(ToFloat(from[i]) - greatest) * inverse);
  }
}

}  // namespace

#define SOFTMAX(NAME, T)                                                                         \
  extern "C" __global__ void __launch_bounds__(256) NAME(const T* x, int64_t width, T* result) { \
    Softmax<T>(x, width, result);                                                                \
  }                                                                                              \
  EXPORT_KERNEL(NAME)

SOFTMAX(SoftmaxFloat32, float)
SOFTMAX(SoftmaxBFloat16, bf16)
