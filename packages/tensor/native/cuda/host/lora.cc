// LoRA's matrices and their gradient on a GPU: kernels/lora.cu. What they compute is in native/lora.cc.
#include "../kernels/lora_blocks.h"
#include "launch.h"
#include "lora_layout.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;

template <typename Number>
const Kernel<void(const float* parameters, LoraBlocks blocks, Number* a, Number* scaled_b)> kLoraWeights{
    "lora", "LoraWeights" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* by_a, const Number* by_scaled_b, LoraBlocks blocks, float* gradient)> kLoraGradient{
    "lora", "LoraGradient" + TypeName<Number>()};

// The layout as the kernels take it. It must be valid, and have no more layers than fit.
LoraBlocks BlocksOf(const LoraLayout& layout) {
  LoraBlocks blocks{};
  blocks.a_size = layout.total_rank * layout.in;
  blocks.out = layout.out;
  blocks.total_rank = static_cast<int>(layout.total_rank);
  blocks.layers = static_cast<int>(layout.ranks.size());
  int64_t offset = blocks.a_size;
  int column = 0;
  for (int i = 0; i < blocks.layers; i++) {
    const int rank = static_cast<int>(layout.ranks[i]);
    blocks.layer[i] = {layout.first_rows[i], layout.rows[i], offset, rank, column, layout.scales[i]};
    offset += layout.rows[i] * rank;
    column += rank;
  }
  return blocks;
}

Grid GridOf(const LoraBlocks& blocks) {
  return {LoraBlocksOfA(blocks.a_size) + DivideUp(blocks.out, LoraRowsPerBlock(blocks.total_rank))};
}

bool Check(Context& context, const LoraLayout& layout) {
  const bool fits = layout.ranks.size() <= kMaxLoraLayers && layout.total_rank <= INT32_MAX / 2;
  return context.Check(layout.IsValid(), "the layers must lie in the group, in their order") &&
         context.Check(fits, "the group has too many adapted layers");
}

// parameters [all] → A [sum of rank, in] and scale * B on the diagonal of [out, sum of rank]
template <typename Number>
struct LoraWeights {
  explicit LoraWeights(const Attributes& attributes) : layout(attributes) {}

  void Compute(Context& context) const {
    const float* parameters = context.Input<float>(0);
    if (!Check(context, layout)) return;
    if (!context.Check(layout.offset + layout.numbers <= context.Size(0), "the group must lie in the parameters")) {
      return;
    }
    Number* a = context.Output<Number>(0, {layout.total_rank, layout.in});
    Number* scaled_b = context.Output<Number>(1, {layout.out, layout.total_rank});
    if (context.failed()) return;
    const LoraBlocks blocks = BlocksOf(layout);
    kLoraWeights<Number>.Launch(context, GridOf(blocks), kThreads, 0, parameters + layout.offset, blocks, a, scaled_b);
  }

  LoraLayout layout;
};

// by_a [sum of rank, in] and by_scaled_b [out, sum of rank] → the group's part of the gradient by the parameters
template <typename Number>
struct LoraGradient {
  explicit LoraGradient(const Attributes& attributes) : layout(attributes) {}

  void Compute(Context& context) const {
    const Number* by_a = context.Input<Number>(0);
    const Number* by_scaled_b = context.Input<Number>(1);
    if (!Check(context, layout)) return;
    if (!context.Check(context.Size(0) == layout.total_rank * layout.in,
                       "the gradient by A must have the shape of A")) {
      return;
    }
    if (!context.Check(context.Size(1) == layout.out * layout.total_rank,
                       "the gradient by B must have the shape of the scaled B")) {
      return;
    }
    float* gradient = context.Output<float>(0, {layout.numbers});
    if (context.failed()) return;
    const LoraBlocks blocks = BlocksOf(layout);
    kLoraGradient<Number>.Launch(context, GridOf(blocks), kThreads, 0, by_a, by_scaled_b, blocks, gradient);
  }

  LoraLayout layout;
};

const GpuOps kOps{
    {"LorasmithLoraWeights", GpuKernels<LoraWeights>()},
    {"LorasmithLoraGradient", GpuKernels<LoraGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
