// A causal convolution of each channel over the tokens of its row, then silu, and its gradient:
// causal_convolution.cc on a GPU. A thread has one channel of 16 tokens.
#include "cuda/kernels/row_tile.cuh"
#include "ops/activation/activation.cuh"
#include "ops/causal_convolution/causal_convolution_shape.h"

namespace {

// The weights of a channel by how far back they reach, and what they read. Loops are of a fixed length, so that the
// weights stay in registers.
template <typename Number>
struct Taps {
  float weights[kConvolutionTaps];
  const Number* x;       // of the channel
  const Number* before;  // of the channel and the row; null: zeros
  int64_t channels;
  int taps;

  __device__ __forceinline__ Taps(const Number* x, const float* weight, const ConvolutionShape& shape, int64_t channel)
      : x(x + channel), before(nullptr), channels(shape.channels), taps(shape.taps) {
#pragma unroll
    for (int back = 0; back < kConvolutionTaps; back++)
      weights[back] = back < taps ? weight[channel * taps + taps - 1 - back] : 0.0f;
  }

  // The sum before the activation, of the token at `position` of its row. The earliest token comes first.
  __device__ __forceinline__ float Sum(int64_t token, int position) const {
    float sum = 0;
#pragma unroll
    for (int back = kConvolutionTaps - 1; back >= 0; back--) {
      if (back >= taps) continue;
      if (position >= back) {
        sum += weights[back] * ToFloat(x[(token - back) * channels]);
      } else if (before != nullptr) {
        sum += weights[back] * ToFloat(before[(taps - 1 + position - back) * channels]);
      }
    }
    return sum;
  }
};

// Calls use(token, position, length) for the tokens of this block, `position` in a row of `length`, and enter(row)
// before the first of each row.
template <typename Enter, typename Use>
__device__ __forceinline__ void ForEachToken(const int32_t* offsets, const ConvolutionShape& shape, const Enter& enter,
                                             const Use& use) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kConvolutionTokens;
  const int64_t end = min(first + kConvolutionTokens, shape.tokens);
  int row = FindRow(offsets, shape.rows, first);
  enter(row);
  for (int64_t token = first; token < end; token++) {
    if (token >= offsets[row + 1]) {
      while (token >= offsets[row + 1]) row++;
      enter(row);
    }
    use(token, static_cast<int>(token - offsets[row]), offsets[row + 1] - offsets[row]);
  }
}

template <typename Number>
__device__ __forceinline__ void Convolve(const Number* x, const float* weight, const int32_t* offsets,
                                         const ConvolutionShape& shape, const Number* before, Number* output) {
  const int64_t channel = static_cast<int64_t>(blockIdx.y) * kConvolutionThreads + threadIdx.x;
  if (channel >= shape.channels) return;
  Taps<Number> own(x, weight, shape, channel);
  ForEachToken(
      offsets, shape,
      [&](int row) {
        if (before != nullptr)
          own.before = before + static_cast<int64_t>(row) * (shape.taps - 1) * shape.channels + channel;
      },
      [&](int64_t token, int position, int) {
        Store(Silu::Value(own.Sum(token, position)), output + token * shape.channels + channel);
      });
}

template <typename Number>
__device__ __forceinline__ void ConvolveGradient(const Number* gradient, const Number* x, const float* weight,
                                                 const int32_t* offsets, const ConvolutionShape& shape,
                                                 Number* result) {
  const int64_t channel = static_cast<int64_t>(blockIdx.y) * kConvolutionThreads + threadIdx.x;
  if (channel >= shape.channels) return;
  const Taps<Number> own(x, weight, shape, channel);
  const auto by_sum = [&](int64_t token, int position, int length) {
    if (position >= length) return 0.0f;
    return ToFloat(gradient[token * shape.channels + channel]) * Silu::Both(own.Sum(token, position)).slope;
  };
  // By the sums of a token and of those that read it.
  float by_sums[kConvolutionTaps];
  bool enters = true;
  ForEachToken(
      offsets, shape, [&](int) { enters = true; },
      [&](int64_t token, int position, int length) {
        float sum = 0;
#pragma unroll
        for (int later = 0; later < kConvolutionTaps; later++) {
          if (later >= shape.taps) continue;
          const bool is_known = !enters && later + 1 < shape.taps;
          by_sums[later] = is_known && later + 1 < kConvolutionTaps ? by_sums[(later + 1) % kConvolutionTaps]
                                                                    : by_sum(token + later, position + later, length);
          sum += own.weights[later] * by_sums[later];
        }
        enters = false;
        Store(sum, result + token * shape.channels + channel);
      });
}

}  // namespace

// x, output, gradient, result [tokens, channels]; weight [channels, taps]; before [rows, taps - 1, channels], or null.
// Grid: tokens by kConvolutionTokens, channels by kConvolutionThreads.
#define CAUSAL_CONVOLUTION(Type, Number)                                                                            \
  extern "C" __global__ void __launch_bounds__(kConvolutionThreads)                                                 \
      CausalConvolution##Type(const Number* x, const float* weight, const int32_t* offsets, ConvolutionShape shape, \
                              const Number* before, Number* output) {                                               \
    Convolve(x, weight, offsets, shape, before, output);                                                            \
  }                                                                                                                 \
  EXPORT_KERNEL(CausalConvolution##Type)                                                                            \
  extern "C" __global__ void __launch_bounds__(kConvolutionThreads)                                                 \
      CausalConvolutionGradient##Type(const Number* gradient, const Number* x, const float* weight,                 \
                                      const int32_t* offsets, ConvolutionShape shape, Number* result) {             \
    ConvolveGradient(gradient, x, weight, offsets, shape, result);                                                  \
  }                                                                                                                 \
  EXPORT_KERNEL(CausalConvolutionGradient##Type)

CAUSAL_CONVOLUTION(Float32, float)
CAUSAL_CONVOLUTION(BFloat16, bf16)
