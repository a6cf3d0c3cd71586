// What the kernels of the causal convolution and the host code that launches them agree on.
#pragma once

#include "cuda/kernels/portable.h"

struct ConvolutionShape {
  int64_t tokens;
  int64_t channels;
  // Row i of the stream is tokens offsets[i] … offsets[i + 1] - 1.
  int rows;
  // At most kConvolutionTaps.
  int taps;
};

constexpr int kConvolutionTaps = 8;
// Channels, and tokens, of a block.
constexpr int kConvolutionThreads = 128;
constexpr int kConvolutionTokens = 16;
