// Attention on a GPU: attention_*.cu, one for each head size. What it computes is in attention.cc.
//
// Memory besides inputs and outputs, for `tokens` tokens: rotated queries and keys (heads + key_value_heads) D numbers
// each, and in the backward pass 8 heads bytes each. For a head that is smaller than its kernel's size D, also values
// (and in the backward pass the gradient) in heads of D numbers.
#include <deque>

#include "ops/attention/attention_heads.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
constexpr bool kIsBFloat16 = std::is_same_v<Number, BFloat16>;

constexpr unsigned kPrepareThreads = 128;

template <typename Number>
const Kernel<void(const Number* from, int64_t from_stride, int heads, int head_dim, int padded_dim,
                  const int32_t* offsets, int rows, const float* cosine, const float* sine, float direction, Number* to,
                  int64_t to_stride)>
    kRotate{"attention_prepare", "AttentionRotate" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, const Number* output, const float* log_sums, int64_t tokens, int heads,
                  int head_dim, float* sums)>
    kSums{"attention_prepare", "AttentionSums" + TypeName<Number>()};

template <typename Number>
using ForwardKernel =
    Kernel<void(const Number* rotated, const Number* values, int64_t value_stride, const int32_t* offsets,
                const float* sinks, AttentionShape shape, Number* output, float* log_sums)>;

template <typename Number>
struct GradientSignature;
template <>
struct GradientSignature<BFloat16> {
  using Type = void(const BFloat16* rotated, const BFloat16* values, int64_t value_stride, const BFloat16* gradient,
                    const float* sums, const int32_t* offsets, const float* cosine, const float* sine,
                    AttentionShape shape, BFloat16* result);
};
template <>
struct GradientSignature<float> {
  using Type = void(const float* rotated, const float* values, int64_t value_stride, const float* gradient,
                    const float* sums, const int32_t* offsets, AttentionShape shape, float* result);
};
template <typename Number>
using GradientKernel = Kernel<typename GradientSignature<Number>::Type>;

// Cards of compute capability 8.6, 8.9 and 12.0 have 100 KB for all blocks of a multiprocessor, and take 1 KB for each.
constexpr bool FitsTwice(AttentionLaunch launch) { return 2 * (launch.shared_bytes + 1024) <= 100 * 1024; }

// Two blocks on a multiprocessor may need all of that, of which the driver would leave a part to the cache.
constexpr SharedMemory SharedMemoryFor(AttentionLaunch launch) {
  return launch.shared_bytes > 0 && FitsTwice(launch) ? SharedMemory::kAll : SharedMemory::kByDriver;
}

// The kernels of one head size.
template <typename Number>
struct HeadKernels {
  explicit HeadKernels(int size)
      : head_size(size), forward(Module(size), Name("Attention", size), SharedMemoryFor(forward_launch())) {
    const auto add = [&](std::deque<GradientKernel<Number>>& kernels, const char* name, bool of_queries) {
      kernels.emplace_back(Module(size), Name(name, size), SharedMemoryFor(gradient_launch(of_queries)));
    };
    add(by_query, "AttentionQueryGradient", true);
    if (kIsBFloat16<Number> && AttentionSplitsKeyGradient(size)) {
      add(by_key, "AttentionKeyGradient", false);
      add(by_key, "AttentionValueGradient", false);
    } else {
      add(by_key, "AttentionKeyAndValueGradient", false);
    }
  }

  AttentionLaunch forward_launch() const { return AttentionForwardLaunch(head_size, kIsBFloat16<Number>); }
  AttentionLaunch gradient_launch(bool of_queries) const {
    return AttentionGradientLaunch(head_size, kIsBFloat16<Number>, of_queries);
  }

  int head_size;
  ForwardKernel<Number> forward;
  std::deque<GradientKernel<Number>> by_query;
  std::deque<GradientKernel<Number>> by_key;

 private:
  static std::string Module(int size) { return "attention_" + std::to_string(size); }
  static std::string Name(const char* kernel, int size) {
    return kernel + TypeName<Number>() + "_" + std::to_string(size);
  }
};

template <typename Number>
const HeadKernels<Number> kHeads[] = {HeadKernels<Number>(64),  HeadKernels<Number>(80),  HeadKernels<Number>(96),
                                      HeadKernels<Number>(128), HeadKernels<Number>(256), HeadKernels<Number>(512)};

// Shared memory that a block may have on every card: that of compute capability 8.6, 8.9 and 12.0.
constexpr int kSharedBytesOfAll = 99 * 1024;
constexpr bool FitsEveryCard(int head_size) {
  return AttentionForwardLaunch(head_size, true).shared_bytes <= kSharedBytesOfAll &&
         AttentionGradientLaunch(head_size, true, true).shared_bytes <= kSharedBytesOfAll &&
         AttentionGradientLaunch(head_size, true, false).shared_bytes <= kSharedBytesOfAll;
}
static_assert(FitsEveryCard(64) && FitsEveryCard(80) && FitsEveryCard(96) && FitsEveryCard(128) && FitsEveryCard(256) &&
                  FitsEveryCard(512),
              "a card has too little shared memory");
static_assert(FitsTwice(AttentionForwardLaunch(128, true)) && FitsTwice(AttentionGradientLaunch(128, true, true)),
              "no card has a second block to compute while the first one waits");

// The kernels of a stream's heads; null after a failure.
template <typename Number>
const HeadKernels<Number>* KernelsOf(Context& context, const AttentionStream<Number>& stream) {
  const bool sound = stream.rows >= 0 && stream.rows <= stream.tokens && stream.tokens <= INT32_MAX;
  if (!context.Check(sound, "there must be 0 to tokens rows")) return nullptr;
  return KernelsFor(context, kHeads<Number>, stream.head_dim);
}

// What the tiles' kernels read.
template <typename Number>
struct Operands {
  const Number* rotated;
  const Number* values;
  int64_t value_stride;
};

// Heads of shape.head_dim numbers → the same in heads of head_size, rotated where there is a table.
template <typename Number>
const Number* Prepare(Context& context, const Number* from, int64_t stride, int64_t heads, int head_size,
                      const AttentionShape& shape, const int32_t* offsets, const Rotary& rotary) {
  Number* to = context.Scratch<Number>(shape.tokens * heads * head_size);
  kRotate<Number>.Launch(context, {shape.tokens}, kPrepareThreads, 0, from, stride, static_cast<int>(heads),
                         shape.head_dim, head_size, offsets, shape.rows, rotary.cosine, rotary.sine, 1.0f, to,
                         heads * head_size);
  return to;
}

template <typename Number>
Operands<Number> PrepareOperands(Context& context, const Number* qkv, int head_size, const AttentionShape& shape,
                                 const int32_t* offsets, const Rotary& rotary) {
  const int64_t both = shape.heads + shape.key_value_heads;
  const int64_t stride = (both + shape.key_value_heads) * shape.head_dim;
  Operands<Number> operands{nullptr, qkv + both * shape.head_dim, stride};
  operands.rotated = Prepare(context, qkv, stride, both, head_size, shape, offsets, rotary);
  if (shape.head_dim != head_size) {
    operands.values =
        Prepare(context, operands.values, stride, shape.key_value_heads, head_size, shape, offsets, Rotary{});
    operands.value_stride = static_cast<int64_t>(shape.key_value_heads) * head_size;
  }
  return operands;
}

template <typename Number>
struct Attention : AttentionAttributes {
  using AttentionAttributes::AttentionAttributes;

  void Compute(Context& context) const {
    const AttentionOperands<Number> o(context, *this);
    const HeadKernels<Number>* kernels = KernelsOf(context, o);
    if (kernels == nullptr || o.tokens == 0) return;
    const AttentionShape shape = ShapeOf(*this, o.tokens, o.rows, o.head_dim);
    const Operands<Number> in = PrepareOperands(context, o.qkv, kernels->head_size, shape, o.offsets, o.rotary);
    const AttentionLaunch launch = kernels->forward_launch();
    kernels->forward.Launch(context, {RowSlots(o.tokens, shape.rows, launch.rows), heads, launch.column_blocks},
                            launch.threads, launch.shared_bytes, in.rotated, in.values, in.value_stride, o.offsets,
                            o.sinks, shape, o.output, o.log_sums);
  }
};

template <typename Number>
struct AttentionGradient : AttentionAttributes {
  using AttentionAttributes::AttentionAttributes;

  void Compute(Context& context) const {
    const AttentionGradientOperands<Number> o(context, *this);
    const HeadKernels<Number>* kernels = KernelsOf(context, o);
    if (kernels == nullptr || o.tokens == 0) return;
    const AttentionShape shape = ShapeOf(*this, o.tokens, o.rows, o.head_dim);
    const float *cosine = o.rotary.cosine, *sine = o.rotary.sine;
    const int64_t tokens = o.tokens;

    float* sums = context.Scratch<float>(2 * tokens * heads);
    kSums<Number>.Launch(context, {DivideUp(tokens, kSumTokens), heads}, kSumThreads, 0, o.gradient, o.output,
                         o.log_sums, tokens, shape.heads, shape.head_dim, sums);
    const int head_size = kernels->head_size;
    const Operands<Number> in = PrepareOperands(context, o.qkv, head_size, shape, o.offsets, o.rotary);
    const Number* gradient = o.gradient;
    if (shape.head_dim != head_size)
      gradient = Prepare(context, gradient, heads * shape.head_dim, heads, head_size, shape, o.offsets, Rotary{});
    const auto launch = [&](const std::deque<GradientKernel<Number>>& gradients, bool of_queries) {
      const AttentionLaunch of = kernels->gradient_launch(of_queries);
      const int64_t of_heads = of_queries ? heads : key_value_heads;
      const Grid grid{RowSlots(tokens, shape.rows, of.rows), of_heads, of.column_blocks};
      for (const GradientKernel<Number>& kernel : gradients) {
        if constexpr (kIsBFloat16<Number>) {
          kernel.Launch(context, grid, of.threads, of.shared_bytes, in.rotated, in.values, in.value_stride, gradient,
                        sums, o.offsets, cosine, sine, shape, o.result);
        } else {
          kernel.Launch(context, grid, of.threads, of.shared_bytes, in.rotated, in.values, in.value_stride, gradient,
                        sums, o.offsets, shape, o.result);
        }
      }
    };
    launch(kernels->by_query, true);
    launch(kernels->by_key, false);
    if constexpr (!kIsBFloat16<Number>) {
      // These are the gradients by the rotated queries and keys.
      kRotate<Number>.Launch(context, {tokens}, kPrepareThreads, 0, o.result, o.width,
                             shape.heads + shape.key_value_heads, shape.head_dim, shape.head_dim, o.offsets, shape.rows,
                             cosine, sine, -1.0f, o.result, o.width);
    }
  }
};

const GpuOps kOps{
    {"LorasmithAttention", GpuKernels<Attention>()},
    {"LorasmithAttentionGradient", GpuKernels<AttentionGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
