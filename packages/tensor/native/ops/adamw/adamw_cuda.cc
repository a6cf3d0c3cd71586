// AdamW on a GPU: adamw.cu. What it computes is in adamw.cc.
#include <algorithm>

#include "cuda/host/launch.h"
#include "ops/adamw/adamw_operands.h"
#include "ops/adamw/adamw_step.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

const Kernel<void(const float* parameters, const float* gradient, const float* first, const float* second,
                  const float* rate_factors, const float* square_sum, const AdamWStep* step, int64_t n,
                  float* new_parameters, float* new_first, float* new_second)>
    kAdamW{"adamw", "AdamWFloat32"};

const Kernel<void(const float* parameters, const float* gradient, const uint8_t* first, const uint8_t* second,
                  const float* rate_factors, const float* square_sum, const AdamWStep* step, const float* tables,
                  int64_t n, float* new_parameters, uint8_t* new_first, uint8_t* new_second)>
    kAdamW8bit{"adamw", "AdamW8bitFloat32"};

const Kernel<void(const float* x, const float* factor, int64_t n, float* sums)> kSquareSumOfBlocks{
    "adamw", "SquareSumOfBlocksFloat32"};

const Kernel<void(const float* sums, int count, float* result)> kSumOfBlocks{"adamw", "SumOfBlocksFloat32"};

struct AdamW {
  void Compute(Context& context) const {
    const AdamWOperands<float> o(context);
    if (context.failed()) return;
    const int64_t blocks = std::min(kMaxBlocks, DivideUp(o.count, kThreads));
    kAdamW.Launch(context, {blocks}, kThreads, 0, o.parameters, o.gradient, o.first, o.second, o.rate_factors,
                  o.square_sum, o.step, o.count, o.new_parameters, o.new_first, o.new_second);
  }
};

struct AdamW8bit {
  void Compute(Context& context) const {
    const AdamWOperands<uint8_t> o(context);
    if (context.failed()) return;
    const int64_t blocks = std::min(kMaxBlocks, MomentBlocks(o.count));
    kAdamW8bit.Launch(context, {blocks}, kMomentBlock, 0, o.parameters, o.gradient, o.first, o.second, o.rate_factors,
                      o.square_sum, o.step, o.tables, o.count, o.new_parameters, o.new_first, o.new_second);
  }
};

struct SquareSum {
  void Compute(Context& context) const {
    const SquareSumOperands o(context);
    const int blocks = o.count == 0 ? 0 : SquareSumBlocks(o.count);
    float* sums = context.Scratch<float>(SquareSumBlocks(o.count));
    if (context.failed()) return;
    kSquareSumOfBlocks.Launch(context, {blocks}, kSquareSumThreads, 0, o.x, o.factor, o.count, sums);
    kSumOfBlocks.Launch(context, {1}, kSquareSumThreads, 0, sums, blocks, o.result);
  }
};

const GpuOps kOps{
    {"LorasmithAdamW", {GpuKernelOn<AdamW>({{"T", TF_FLOAT}})}},
    {"LorasmithAdamW8bit", {GpuKernelOn<AdamW8bit>({{"T", TF_FLOAT}})}},
    {"LorasmithSquareSum", {GpuKernelOn<SquareSum>({{"T", TF_FLOAT}})}},
};

}  // namespace
}  // namespace lorasmith::cuda
