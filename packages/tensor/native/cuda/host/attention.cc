// Attention on a GPU: kernels/attention_*.cu, one for each head size. What it computes is in native/attention.cc.
//
// Memory besides inputs and outputs, for `tokens` tokens: rotated queries and keys (heads + key_value_heads) D numbers
// each, and in the backward pass 8 heads bytes each. For a head that is smaller than its kernel's size D, also values
// (and in the backward pass the gradient) in heads of D numbers.
#include <deque>

#include "cuda/kernels/attention_shape.h"
#include "launch.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
constexpr bool kIsBFloat16 = std::is_same_v<Number, BFloat16>;

constexpr unsigned kPrepareThreads = 128;
constexpr int64_t kWarpSize = 32;

// Of a block of the tiles' kernels.
template <typename Number>
constexpr unsigned kThreads = kIsBFloat16<Number> ? 128 : 256;

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
using ForwardKernel = Kernel<void(const Number* rotated, const Number* values, int64_t value_stride,
                                  const int32_t* offsets, AttentionShape shape, Number* output, float* log_sums)>;

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

// The kernels of one head size.
template <typename Number>
struct HeadKernels {
  explicit HeadKernels(int size) : head_size(size), forward(Module(size), Name("Attention", size)) {
    by_query.emplace_back(Module(size), Name("AttentionQueryGradient", size));
    if (kIsBFloat16<Number> && AttentionSplitsKeyGradient(size)) {
      by_key.emplace_back(Module(size), Name("AttentionKeyGradient", size));
      by_key.emplace_back(Module(size), Name("AttentionValueGradient", size));
    } else {
      by_key.emplace_back(Module(size), Name("AttentionKeyAndValueGradient", size));
    }
  }

  size_t forward_bytes() const { return kIsBFloat16<Number> ? AttentionSharedBytes(head_size) : 0; }
  size_t gradient_bytes() const { return kIsBFloat16<Number> ? AttentionGradientSharedBytes(head_size) : 0; }

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
const HeadKernels<Number> kHeads[] = {HeadKernels<Number>(64), HeadKernels<Number>(80), HeadKernels<Number>(96),
                                      HeadKernels<Number>(128), HeadKernels<Number>(256)};

// The kernels for the smallest size that holds a head; null if there is none.
template <typename Number>
const HeadKernels<Number>* KernelsFor(int64_t head_dim) {
  for (const HeadKernels<Number>& kernels : kHeads<Number>)
    if (head_dim <= kernels.head_size) return &kernels;
  return nullptr;
}

// The attributes of both ops.
struct AttentionOp {
  explicit AttentionOp(const Attributes& attributes)
      : heads(attributes.Int("heads")),
        key_value_heads(attributes.Int("key_value_heads")),
        window(attributes.Int("window")),
        scale(attributes.Float("scale")),
        softcap(attributes.Float("softcap")) {}

  // The shape for `tokens` tokens of `width` numbers in `rows` rows. False after a failure.
  bool ShapeOf(Context& context, int64_t tokens, int64_t width, int64_t rows, AttentionShape* shape) const {
    const bool sound = heads > 0 && key_value_heads > 0 && heads % key_value_heads == 0;
    if (!context.Check(sound, "key_value_heads must divide heads")) return false;
    const int64_t all_heads = heads + 2 * key_value_heads;
    const int64_t head_dim = width / all_heads;
    if (!context.Check(head_dim * all_heads == width, "qkv must be as wide as all heads")) return false;
    if (!context.Check(head_dim % 4 == 0, "on a GPU, the size of a head must be divisible by 4")) return false;
    if (!context.Check(rows >= 0 && rows <= tokens && tokens <= INT32_MAX, "there must be 0 to tokens rows"))
      return false;
    *shape = {tokens,
              static_cast<int>(rows),
              static_cast<int>(heads),
              static_cast<int>(key_value_heads),
              static_cast<int>(head_dim),
              static_cast<int>(std::min<int64_t>(window, INT32_MAX)),
              scale,
              softcap};
    return true;
  }

  int64_t heads;
  int64_t key_value_heads;
  int64_t window;
  float scale;
  float softcap;
};

// [positions, head_dim / 2] each
struct Rotary {
  const float* cosine;
  const float* sine;
};

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

// qkv [tokens, (heads + 2 key_value_heads) head_dim], offsets [rows + 1], cosine and sine [positions, head_dim / 2]
// → output [tokens, heads head_dim], log_sums [tokens, heads]
template <typename Number>
struct Attention : AttentionOp {
  using AttentionOp::AttentionOp;

  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(0, 0);
    const Number* qkv = context.Input<Number>(0);
    const int32_t* offsets = context.Input<int32_t>(1);
    const Rotary rotary{context.Input<float>(2), context.Input<float>(3)};
    AttentionShape shape;
    if (context.failed() || !ShapeOf(context, tokens, context.Dim(0, 1), context.Size(1) - 1, &shape)) return;
    if (!context.Check(context.Dim(2, 1) == shape.head_dim / 2, "the rotary table must be half as wide as a head"))
      return;
    const HeadKernels<Number>* kernels = KernelsFor<Number>(shape.head_dim);
    if (!context.Check(kernels != nullptr, "on a GPU, a head has at most 256 numbers")) return;
    Number* output = context.Output<Number>(0, {tokens, heads * shape.head_dim});
    float* log_sums = context.Output<float>(1, {tokens, heads});
    if (context.failed() || tokens == 0) return;
    const Operands<Number> in = PrepareOperands(context, qkv, kernels->head_size, shape, offsets, rotary);
    kernels->forward.Launch(context, {AttentionSlots(tokens, shape.rows), heads}, kThreads<Number>,
                            kernels->forward_bytes(), in.rotated, in.values, in.value_stride, offsets, shape, output,
                            log_sums);
  }
};

// gradient [tokens, heads head_dim] by the output, and the inputs and outputs of the forward op → gradient by qkv
template <typename Number>
struct AttentionGradient : AttentionOp {
  using AttentionOp::AttentionOp;

  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(1, 0), width = context.Dim(1, 1);
    const Number* gradient = context.Input<Number>(0);
    const Number* qkv = context.Input<Number>(1);
    const Number* output = context.Input<Number>(2);
    const float* log_sums = context.Input<float>(3);
    const int32_t* offsets = context.Input<int32_t>(4);
    const Rotary rotary{context.Input<float>(5), context.Input<float>(6)};
    AttentionShape shape;
    if (context.failed() || !ShapeOf(context, tokens, width, context.Size(4) - 1, &shape)) return;
    const bool fits = context.Size(0) == tokens * heads * shape.head_dim && context.Size(2) == context.Size(0) &&
                      context.Size(3) == tokens * heads;
    if (!context.Check(fits, "gradient, output and log_sums must be of the same tokens")) return;
    if (!context.Check(context.Dim(5, 1) == shape.head_dim / 2, "the rotary table must be half as wide as a head"))
      return;
    const HeadKernels<Number>* kernels = KernelsFor<Number>(shape.head_dim);
    if (!context.Check(kernels != nullptr, "on a GPU, a head has at most 256 numbers")) return;
    Number* result = context.Output<Number>(0, {tokens, width});
    if (context.failed() || tokens == 0) return;

    float* sums = context.Scratch<float>(2 * tokens * heads);
    kSums<Number>.Launch(context, {DivideUp(tokens * heads, kPrepareThreads / kWarpSize)}, kPrepareThreads, 0, gradient,
                         output, log_sums, tokens, shape.heads, shape.head_dim, sums);
    const int head_size = kernels->head_size;
    const Operands<Number> in = PrepareOperands(context, qkv, head_size, shape, offsets, rotary);
    if (shape.head_dim != head_size)
      gradient = Prepare(context, gradient, heads * shape.head_dim, heads, head_size, shape, offsets, Rotary{});
    const auto launch = [&](const std::deque<GradientKernel<Number>>& gradients, int64_t of_heads) {
      const Grid grid{AttentionSlots(tokens, shape.rows), of_heads};
      for (const GradientKernel<Number>& kernel : gradients) {
        if constexpr (kIsBFloat16<Number>) {
          kernel.Launch(context, grid, kThreads<Number>, kernels->gradient_bytes(), in.rotated, in.values,
                        in.value_stride, gradient, sums, offsets, rotary.cosine, rotary.sine, shape, result);
        } else {
          kernel.Launch(context, grid, kThreads<Number>, kernels->gradient_bytes(), in.rotated, in.values,
                        in.value_stride, gradient, sums, offsets, shape, result);
        }
      }
    };
    launch(kernels->by_query, heads);
    launch(kernels->by_key, key_value_heads);
    if constexpr (!kIsBFloat16<Number>) {
      // These are the gradients by the rotated queries and keys.
      kRotate<Number>.Launch(context, {tokens}, kPrepareThreads, 0, result, width, shape.heads + shape.key_value_heads,
                             shape.head_dim, shape.head_dim, offsets, shape.rows, rotary.cosine, rotary.sine, -1.0f,
                             result, width);
    }
  }
};

const GpuOps kOps{
    {"LorasmithAttention", GpuKernels<Attention>()},
    {"LorasmithAttentionGradient", GpuKernels<AttentionGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
