// AdamW with clipping, and the square sum that clipping needs: adamw.cc on a GPU.
#include "cuda/kernels/device.h"
#include "ops/adamw/adamw_step.h"

namespace {

// As torch.nn.utils.clip_grad_norm_ has it.
__device__ __forceinline__ float ClippingFactor(float square_sum, float max_norm) {
  const double norm = sqrt(static_cast<double>(square_sum));
  return static_cast<float>(min(1.0, max_norm / (norm + 1e-6)));
}

struct Updated {
  float parameter;
  float first;
  float second;
};

// Every result is rounded, in the order in which the processor's op has them: the same bits.
__device__ __forceinline__ Updated Update(float parameter, float gradient, float first, float second, float rate_factor,
                                          bool has_factors, const AdamWStep& step, float clipping) {
  const float clipped = __fmul_rn(__fmul_rn(gradient, step.gradient_scale), clipping);
  Updated to;
  to.first = __fadd_rn(__fmul_rn(first, step.beta1), __fmul_rn(clipped, step.one_minus_beta1));
  to.second = __fadd_rn(__fmul_rn(second, step.beta2), __fmul_rn(__fmul_rn(clipped, clipped), step.one_minus_beta2));
  const float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(to.second), step.root_correction), step.epsilon);
  float step_size = step.step_size;
  float kept = step.kept;
  if (has_factors) {
    step_size = __fmul_rn(rate_factor, step_size);
    kept = __fsub_rn(1.0f, __fmul_rn(rate_factor, step.decay_rate));
  }
  const float decayed = step.decay_rate == 0 ? parameter : __fmul_rn(parameter, kept);
  to.parameter = __fsub_rn(decayed, __fmul_rn(__fdiv_rn(to.first, denominator), step_size));
  return to;
}

// The square of factor · x, both rounded as the processor's ops round them.
__device__ __forceinline__ float ScaledSquare(float x, float factor) {
  const float scaled = __fmul_rn(x, factor);
  return __fmul_rn(scaled, scaled);
}

}  // namespace

// [n] each; rate_factors null: 1. square_sum [1] of the scaled gradient. Each thread has seven numbers on their way at
// once, so vectors would not make it faster. The step's numbers are read from the card: the host would have to wait.
extern "C" __global__ void __launch_bounds__(256)
    AdamWFloat32(const float* parameters, const float* gradient, const float* first, const float* second,
                 const float* rate_factors, const float* square_sum, const AdamWStep* step_numbers, int64_t n,
                 float* new_parameters, float* new_first, float* new_second) {
  const AdamWStep step = *step_numbers;
  const float clipping = ClippingFactor(*square_sum, step.max_norm);
  const bool has_factors = rate_factors != nullptr;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = thread; i < n; i += threads) {
    const Updated to = Update(parameters[i], gradient[i], first[i], second[i], has_factors ? rate_factors[i] : 1.0f,
                              has_factors, step, clipping);
    new_parameters[i] = to.parameter;
    new_first[i] = to.first;
    new_second[i] = to.second;
  }
}
EXPORT_KERNEL(AdamWFloat32)

// The same with moments in 8 bits. A block of threads has a block of numbers. tables [2, 256], of the first and the
// second moment.
extern "C" __global__ void __launch_bounds__(kMomentBlock)
    AdamW8bitFloat32(const float* parameters, const float* gradient, const unsigned char* first,
                     const unsigned char* second, const float* rate_factors, const float* square_sum,
                     const AdamWStep* step_numbers, const float* tables, int64_t n, float* new_parameters,
                     unsigned char* new_first, unsigned char* new_second) {
  SHARED(float, values, [2 * kMomentCodes]);
  for (int i = threadIdx.x; i < 2 * kMomentCodes; i += kMomentBlock) values[i] = tables[i];
  __syncthreads();
  const float* const of_second = values + kMomentCodes;
  const AdamWStep step = *step_numbers;
  const float clipping = ClippingFactor(*square_sum, step.max_norm);
  const bool has_factors = rate_factors != nullptr;
  for (int64_t block = blockIdx.x; block < MomentBlocks(n); block += gridDim.x) {
    const int64_t i = block * kMomentBlock + threadIdx.x;
    const int64_t at = block * kMomentBlockBytes;
    const bool is_number = i < n;
    Updated to = {0, 0, 0};
    if (is_number) {
      const float scale_of_first = *reinterpret_cast<const float*>(first + at + kMomentBlock);
      const float scale_of_second = *reinterpret_cast<const float*>(second + at + kMomentBlock);
      to = Update(parameters[i], gradient[i], __fmul_rn(values[first[at + threadIdx.x]], scale_of_first),
                  __fmul_rn(of_second[second[at + threadIdx.x]], scale_of_second), has_factors ? rate_factors[i] : 1.0f,
                  has_factors, step, clipping);
      new_parameters[i] = to.parameter;
    }
    const float scale_of_first = BlockMax(fabsf(to.first));
    const float scale_of_second = BlockMax(fabsf(to.second));
    const auto code_of = [&](const float* table, float number, float scale) -> unsigned char {
      if (!is_number || scale == 0) return 0;
      return MomentCode(number, scale, [&](int code) { return MomentMiddle(table, code); });
    };
    new_first[at + threadIdx.x] = code_of(values, to.first, scale_of_first);
    new_second[at + threadIdx.x] = code_of(of_second, to.second, scale_of_second);
    if (threadIdx.x == 0) {
      *reinterpret_cast<float*>(new_first + at + kMomentBlock) = scale_of_first;
      *reinterpret_cast<float*>(new_second + at + kMomentBlock) = scale_of_second;
    }
  }
}
EXPORT_KERNEL(AdamW8bitFloat32)

// The sum of one block's numbers of (factor x)², for each block: x [n], factor [1] → sums [blocks]. Which numbers are a
// block's and a thread's follows from n alone, and so do the order of the sums and their bits.
extern "C" __global__ void __launch_bounds__(kSquareSumThreads)
    SquareSumOfBlocksFloat32(const float* x, const float* factors, int64_t n, float* sums) {
  const float factor = *factors;
  constexpr int kSize = Vector<float>::kSize;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * blockDim.x;
  float own[kSize] = {};
  // A number's place in a vector says which of the four sums it is added to, whether x is aligned or not.
  const int64_t whole = n / kSize * kSize;
  const bool has_vectors = IsVectorAligned(x);
  for (int64_t i = thread * kSize; i < whole; i += threads * kSize) {
    Vector<float> numbers;
    if (has_vectors) {
      numbers = LoadVector(x + i);
    } else {
#pragma unroll
      for (int k = 0; k < kSize; k++) numbers.values[k] = x[i + k];
    }
#pragma unroll
    for (int k = 0; k < kSize; k++) own[k] = __fadd_rn(own[k], ScaledSquare(numbers.values[k], factor));
  }
  if (whole + thread < n) own[0] = __fadd_rn(own[0], ScaledSquare(x[whole + thread], factor));
  const float sum = BlockSum(__fadd_rn(__fadd_rn(own[0], own[1]), __fadd_rn(own[2], own[3])));
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
EXPORT_KERNEL(SquareSumOfBlocksFloat32)

// The sum of the blocks' sums, by one block: sums [count] → result [1].
extern "C" __global__ void __launch_bounds__(kSquareSumThreads)
    SumOfBlocksFloat32(const float* sums, int count, float* result) {
  float own = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) own += sums[i];
  const float sum = BlockSum(own);
  if (threadIdx.x == 0) *result = sum;
}
EXPORT_KERNEL(SumOfBlocksFloat32)
