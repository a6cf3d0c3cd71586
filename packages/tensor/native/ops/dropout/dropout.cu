// Inverted dropout (Srivastava et al. 2014) whose mask follows from a seed: dropout.cc on a GPU.
#include "cuda/kernels/device.h"
#include "cuda/kernels/philox.h"

namespace {

// A thread has four numbers at once, as Philox gives them.
template <typename Number>
__device__ __forceinline__ void Drop(const Number* x, const UniformSeed& seed, float rate, float scale, int64_t size,
                                     const Number* addend, Number* result) {
  const int64_t fours = (size + 3) / 4;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < fours; i += step) {
    const PhiloxNumbers bits = UniformBits(seed, i);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int64_t at = 4 * i + k;
      const float uniform = __uint_as_float(UniformPlusOne(bits.at[k])) - 1.0f;
      if (at >= size) continue;
      Number kept;
      Store(ToFloat(x[at]) * (uniform >= rate ? scale : 0.0f), &kept);
      if (addend != nullptr) Store(ToFloat(addend[at]) + ToFloat(kept), &kept);
      result[at] = kept;
    }
  }
}

}  // namespace

// scale: what is not dropped is multiplied with it, as a number of x's type. Where there is an addend, it is added to
// what is rounded.
#define DROPOUT_KERNEL(Number, Suffix)                                                                                \
  extern "C" __global__ void __launch_bounds__(256)                                                                   \
      Dropout##Suffix(const Number* x, UniformSeed seed, float rate, float scale, int64_t size, const Number* addend, \
                      Number* result) {                                                                               \
    Drop(x, seed, rate, scale, size, addend, result);                                                                 \
  }                                                                                                                   \
  EXPORT_KERNEL(Dropout##Suffix)

DROPOUT_KERNEL(float, Float32)
DROPOUT_KERNEL(bf16, BFloat16)
