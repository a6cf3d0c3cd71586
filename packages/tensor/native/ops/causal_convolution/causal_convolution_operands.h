// Inputs and outputs of the causal convolution's ops, on every device.
#pragma once

#include "cpu/kernel.h"

namespace lorasmith {

// x [tokens, channels]; weight [channels, taps], the last of which is of the token itself; offsets [rows + 1]: row i is
// tokens offsets[i] … offsets[i + 1] - 1.
template <typename Number>
struct ConvolutionStream {
  // `x_input`: its number among the op's inputs; weight and offsets follow.
  ConvolutionStream(Context& context, int x_input)
      : tokens(context.Dim(x_input, 0)),
        channels(context.Dim(x_input, 1)),
        taps(context.Dim(x_input + 1, 1)),
        rows(context.Size(x_input + 2) - 1) {
    x = context.Input<Number>(x_input);
    weight = context.Input<float>(x_input + 1);
    offsets = context.Input<int32_t>(x_input + 2);
    context.Check(taps > 0 && context.Dim(x_input + 1, 0) == channels, "weight must have some taps for each channel");
  }

  int64_t tokens;
  int64_t channels;
  int64_t taps;
  int64_t rows;
  const Number* x;
  const float* weight;
  const int32_t* offsets;
};

// The stream and before [rows, taps - 1, channels], what came before each row; without elements: nothing → output
// [tokens, channels]
template <typename Number>
struct ConvolutionOperands : ConvolutionStream<Number> {
  explicit ConvolutionOperands(Context& context) : ConvolutionStream<Number>(context, 0) {
    before = context.Input<Number>(3);
    const int64_t size = context.Size(3);
    const bool fits = size == 0 || size == this->rows * (this->taps - 1) * this->channels;
    if (!context.Check(fits, "before must be of each row")) return;
    output = context.Output<Number>(0, {this->tokens, this->channels});
  }

  const Number* before;
  Number* output = nullptr;
};

// gradient [tokens, channels] by the output, and the stream → result [tokens, channels] by x
template <typename Number>
struct ConvolutionGradientOperands : ConvolutionStream<Number> {
  explicit ConvolutionGradientOperands(Context& context) : ConvolutionStream<Number>(context, 1) {
    gradient = context.Input<Number>(0);
    const bool fits = context.Size(0) == this->tokens * this->channels;
    if (!context.Check(fits, "gradient must have the shape of x")) return;
    result = context.Output<Number>(0, {this->tokens, this->channels});
  }

  const Number* gradient;
  Number* result = nullptr;
};

}  // namespace lorasmith
