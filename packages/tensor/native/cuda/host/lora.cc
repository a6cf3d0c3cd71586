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

// The layout as the kernels take it, for matrices with `width` columns of scale * B. It must be valid, and have no more
// layers than fit.
LoraBlocks BlocksOf(const LoraLayout& layout, int64_t width) {
  LoraBlocks blocks{};
  blocks.a_size = layout.total_rank * layout.in;
  blocks.padded_a_size = width * layout.in;
  blocks.out = layout.out;
  blocks.width = static_cast<int>(width);
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
  return {LoraBlocksOfA(blocks.padded_a_size) + DivideUp(blocks.out, LoraRowsPerBlock(blocks.width))};
}

// Whether kernels can take the layout; an op that has failed before stays so.
bool CheckLayers(Context& context, const LoraLayout& layout) {
  const bool fits = layout.ranks.size() <= kMaxLoraLayers && layout.total_rank <= INT32_MAX / 2;
  return context.Check(fits, "the group has too many adapted layers");
}

template <typename Number>
struct LoraWeights {
  explicit LoraWeights(const Attributes& attributes) : layout(attributes) {}

  void Compute(Context& context) const {
    const LoraWeightsOperands<Number> o(context, layout, kLoraWidthMultiple);
    if (!CheckLayers(context, layout)) return;
    const LoraBlocks blocks = BlocksOf(layout, o.width);
    kLoraWeights<Number>.Launch(context, GridOf(blocks), kThreads, 0, o.parameters, blocks, o.a, o.scaled_b);
  }

  LoraLayout layout;
};

template <typename Number>
struct LoraGradient {
  explicit LoraGradient(const Attributes& attributes) : layout(attributes) {}

  void Compute(Context& context) const {
    const LoraGradientOperands<Number> o(context, layout, kLoraWidthMultiple);
    if (!CheckLayers(context, layout)) return;
    const LoraBlocks blocks = BlocksOf(layout, o.width);
    kLoraGradient<Number>.Launch(context, GridOf(blocks), kThreads, 0, o.by_a, o.by_scaled_b, blocks, o.gradient);
  }

  LoraLayout layout;
};

const GpuOps kOps{
    {"LorasmithLoraWeights", GpuKernels<LoraWeights>()},
    {"LorasmithLoraGradient", GpuKernels<LoraGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
