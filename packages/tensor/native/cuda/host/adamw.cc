// AdamW on a GPU: kernels/adamw.cu. What it computes is in native/adamw.cc.
#include <algorithm>

#include "../kernels/adamw_step.h"
#include "../kernels/square_sum.h"
#include "launch.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

const Kernel<void(const float* parameters, const float* gradient, const float* first, const float* second,
                  const float* rate_factors, const float* square_sum, const AdamWStep* step, int64_t n,
                  float* new_parameters, float* new_first, float* new_second)>
    kAdamW{"adamw", "AdamWFloat32"};

const Kernel<void(const float* x, const float* factor, int64_t n, float* sums)> kSquareSumOfBlocks{
    "adamw", "SquareSumOfBlocksFloat32"};

const Kernel<void(const float* sums, int count, float* result)> kSumOfBlocks{"adamw", "SumOfBlocksFloat32"};

// parameters, gradient, first, second [n], rate_factors [n] or [0], square_sum [1], step → what
// parameters and moments become, [n] each
struct AdamW {
  void Compute(Context& context) const {
    const int64_t count = context.Size(0);
    const int64_t factors = context.Size(4);
    const bool fits = context.Size(1) == count && context.Size(2) == count && context.Size(3) == count &&
                      (factors == 0 || factors == count);
    if (!context.Check(fits, "parameters, gradient, moments and rate factors must be equally many")) return;
    if (!context.Check(context.Size(5) == 1, "the square sum must be one number")) return;
    if (!context.Check(context.Size(6) == kAdamWStepNumbers, "step must have the numbers of AdamWStep")) return;
    const float* parameters = context.Input<float>(0);
    const float* gradient = context.Input<float>(1);
    const float* first = context.Input<float>(2);
    const float* second = context.Input<float>(3);
    const float* rate_factors = factors == 0 ? nullptr : context.Input<float>(4);
    const float* square_sum = context.Input<float>(5);
    const float* numbers = context.Input<float>(6);
    float* new_parameters = context.Output<float>(0, {count});
    float* new_first = context.Output<float>(1, {count});
    float* new_second = context.Output<float>(2, {count});
    if (context.failed()) return;
    const auto* step = reinterpret_cast<const AdamWStep*>(numbers);
    const int64_t blocks = std::min(kMaxBlocks, DivideUp(count, kThreads));
    kAdamW.Launch(context, {blocks}, kThreads, 0, parameters, gradient, first, second, rate_factors, square_sum, step,
                  count, new_parameters, new_first, new_second);
  }
};

// x [n], factor [1] → the sum of (factor x)², [1]
struct SquareSum {
  void Compute(Context& context) const {
    const int64_t count = context.Size(0);
    if (!context.Check(context.Size(1) == 1, "the factor must be one number")) return;
    const float* x = context.Input<float>(0);
    const float* factor = context.Input<float>(1);
    float* result = context.Output<float>(0, {1});
    const int blocks = count == 0 ? 0 : SquareSumBlocks(count);
    float* sums = context.Scratch<float>(SquareSumBlocks(count));
    if (context.failed()) return;
    kSquareSumOfBlocks.Launch(context, {blocks}, kSquareSumThreads, 0, x, factor, count, sums);
    kSumOfBlocks.Launch(context, {1}, kSquareSumThreads, 0, sums, blocks, result);
  }
};

const GpuOps kOps{
    {"LorasmithAdamW", {GpuKernelOn<AdamW>({{"T", TF_FLOAT}})}},
    {"LorasmithSquareSum", {GpuKernelOn<SquareSum>({{"T", TF_FLOAT}})}},
};

}  // namespace
}  // namespace lorasmith::cuda
