// Attributes, inputs and outputs of attention's ops, on every device.
#pragma once

#include "cpu/kernel.h"

namespace lorasmith {

struct AttentionAttributes {
  explicit AttentionAttributes(const Attributes& attributes)
      : heads(attributes.Int("heads")),
        key_value_heads(attributes.Int("key_value_heads")),
        window(attributes.Int("window")),
        scale(attributes.Float("scale")),
        softcap(attributes.Float("softcap")) {}

  int64_t all_heads() const { return heads + 2 * key_value_heads; }

  int64_t heads;
  int64_t key_value_heads;
  // A query sees keys j > i - window; 0 for all before it.
  int64_t window;
  float scale;
  // A score becomes softcap tanh(score / softcap); 0 for no cap.
  float softcap;
};

// The cosine and sine of each position, [positions, head_dim / 2] each.
struct Rotary {
  const float* cosine;
  const float* sine;
};

// The stream that both ops read: qkv [tokens, (heads + 2 key_value_heads) head_dim], offsets [rows + 1]: row i is
// tokens offsets[i] … offsets[i + 1] - 1; cosine and sine [positions, head_dim / 2].
template <typename Number>
struct AttentionStream {
  // `qkv_input`, `offsets_input`: their numbers among the op's inputs; the rotary table follows the offsets.
  AttentionStream(Context& context, const AttentionAttributes& attributes, int qkv_input, int offsets_input)
      : tokens(context.Dim(qkv_input, 0)),
        width(context.Dim(qkv_input, 1)),
        rows(context.Size(offsets_input) - 1),
        positions(context.Dim(offsets_input + 1, 0)) {
    qkv = context.Input<Number>(qkv_input);
    offsets = context.Input<int32_t>(offsets_input);
    rotary = {context.Input<float>(offsets_input + 1), context.Input<float>(offsets_input + 2)};
    const int64_t heads = attributes.heads, key_value_heads = attributes.key_value_heads;
    const bool sound = heads > 0 && key_value_heads > 0 && heads % key_value_heads == 0;
    if (!context.Check(sound, "key_value_heads must divide heads")) return;
    head_dim = width / attributes.all_heads();
    const bool whole = head_dim % 2 == 0 && head_dim * attributes.all_heads() == width;
    if (!context.Check(whole, "qkv must be as wide as all heads, each of an even size")) return;
    context.Check(context.Dim(offsets_input + 1, 1) == head_dim / 2, "the rotary table must be half as wide as a head");
  }

  int64_t tokens;
  int64_t width;
  int64_t rows;
  int64_t positions;
  int64_t head_dim = 0;
  const Number* qkv;
  const int32_t* offsets;
  Rotary rotary;
};

// The sinks of an op's attention, [heads] or [0]; null for none.
inline const float* SinksInput(Context& context, int input, int64_t heads) {
  const int64_t count = context.Size(input);
  context.Check(count == 0 || count == heads, "there must be a sink for each head, or none");
  return count == 0 ? nullptr : context.Input<float>(input);
}

// The stream and sinks → output [tokens, heads head_dim], log_sums [tokens, heads]
template <typename Number>
struct AttentionOperands : AttentionStream<Number> {
  AttentionOperands(Context& context, const AttentionAttributes& attributes)
      : AttentionStream<Number>(context, attributes, 0, 1), sinks(SinksInput(context, 4, attributes.heads)) {
    if (context.failed()) return;
    output = context.Output<Number>(0, {this->tokens, attributes.heads * this->head_dim});
    log_sums = context.Output<float>(1, {this->tokens, attributes.heads});
  }

  const float* sinks;
  Number* output = nullptr;
  float* log_sums = nullptr;
};

// gradient [tokens, heads head_dim] by the output, and the inputs and outputs of the forward op → gradient by qkv
template <typename Number>
struct AttentionGradientOperands : AttentionStream<Number> {
  AttentionGradientOperands(Context& context, const AttentionAttributes& attributes)
      : AttentionStream<Number>(context, attributes, 1, 4) {
    gradient = context.Input<Number>(0);
    output = context.Input<Number>(2);
    log_sums = context.Input<float>(3);
    if (context.failed()) return;
    const int64_t numbers = this->tokens * attributes.heads * this->head_dim;
    const bool fits =
        context.Size(0) == numbers && context.Size(2) == numbers && context.Size(3) == this->tokens * attributes.heads;
    if (!context.Check(fits, "gradient, output and log_sums must be of the same tokens")) return;
    result = context.Output<Number>(0, {this->tokens, this->width});
  }

  const Number* gradient;
  const Number* output;
  const float* log_sums;
  Number* result = nullptr;
};

}  // namespace lorasmith
