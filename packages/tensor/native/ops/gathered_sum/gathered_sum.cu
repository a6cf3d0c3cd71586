// Sums of rows of a matrix, each of as many rows: gathered_sum.cc on a GPU. One block a sum.
#include "cuda/kernels/device.h"

namespace {

// A place where there is no row gives NaN. On a processor it is an error, but here the places are in the card's memory.
template <typename Number>
__device__ __forceinline__ void SumRows(const Number* x, const int32_t* places, int64_t rows, int64_t width, int count,
                                        Number* result) {
  constexpr int kSize = Vector<Number>::kSize;
  const int32_t* own = places + static_cast<int64_t>(blockIdx.x) * count;
  Number* to = result + static_cast<int64_t>(blockIdx.x) * width;
  const auto exists = [&](int64_t row) { return row >= 0 && row < rows; };
  if (width % kSize == 0 && IsVectorAligned(x) && IsVectorAligned(result)) {
    for (int64_t column = threadIdx.x * kSize; column < width; column += blockDim.x * kSize) {
      float sums[kSize] = {};
#pragma unroll 4
      for (int i = 0; i < count; i++) {
        const int64_t row = own[i];
        const bool is_row = exists(row);
        Vector<Number> numbers{};
        if (is_row) numbers = LoadVector(x + row * width + column);
#pragma unroll
        for (int k = 0; k < kSize; k++) sums[k] += is_row ? ToFloat(numbers.values[k]) : NAN;
      }
      Vector<Number> rounded;
#pragma unroll
      for (int k = 0; k < kSize; k++) Store(sums[k], &rounded.values[k]);
      StoreVector(rounded, to + column);
    }
  } else {
    for (int64_t column = threadIdx.x; column < width; column += blockDim.x) {
      float sum = 0;
      for (int i = 0; i < count; i++) {
        const int64_t row = own[i];
        sum += exists(row) ? ToFloat(x[row * width + column]) : NAN;
      }
      Store(sum, to + column);
    }
  }
}

}  // namespace

// x [rows, width], places [sums * count] → result [sums, width]
#define GATHERED_SUM_KERNEL(Number, Suffix)                                                             \
  extern "C" __global__ void __launch_bounds__(256) GatheredSum##Suffix(                                \
      const Number* x, const int32_t* places, int64_t rows, int64_t width, int count, Number* result) { \
    SumRows(x, places, rows, width, count, result);                                                     \
  }                                                                                                     \
  EXPORT_KERNEL(GatheredSum##Suffix)

GATHERED_SUM_KERNEL(float, Float32)
GATHERED_SUM_KERNEL(bf16, BFloat16)
