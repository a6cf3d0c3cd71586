// A causal convolution of each channel over the tokens of a row, then silu: y_t = silu(Σ_j w_j x_{t - taps + 1 + j}),
// as linear attention has it before its keys (Yang et al. 2024, arXiv:2412.06464). Before a row there are zeros, or
// what a text had there.
#include <algorithm>
#include <vector>

#include "cpu/kernel.h"
#include "cpu/parallel.h"
#include "cpu/row_offsets.h"
#include "ops/activation/activation.h"
#include "ops/causal_convolution/causal_convolution_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kTokensPerPiece = 8;

// Channels whose sums are in registers.
constexpr int64_t kBlock = 64;

// What the taps of one token read.
template <typename Number>
class Convolution {
 public:
  Convolution(const ConvolutionStream<Number>& stream, const Number* before)
      : stream_(stream), before_(before), rows_(stream.tokens), taps_(stream.taps * stream.channels) {
    for (int64_t row = 0; row < stream.rows; row++) {
      std::fill(rows_.begin() + stream.offsets[row], rows_.begin() + stream.offsets[row + 1], row);
    }
    for (int64_t channel = 0; channel < stream.channels; channel++) {
      for (int64_t tap = 0; tap < stream.taps; tap++) {
        taps_[tap * stream.channels + channel] = stream.weight[channel * stream.taps + tap];
      }
    }
  }

  int64_t RowOf(int64_t token) const { return rows_[token]; }

  const float* Tap(int64_t tap) const { return &taps_[tap * stream_.channels]; }

  // The sums of a block of channels before the activation.
  void Sums(int64_t token, int64_t channel, int64_t width, float* sums) const {
    const int64_t row = rows_[token];
    const int64_t position = token - stream_.offsets[row];
    std::fill(sums, sums + kBlock, 0.0f);
    for (int64_t tap = 0; tap < stream_.taps; tap++) {
      const int64_t back = stream_.taps - 1 - tap;
      const Number* from = nullptr;
      if (position >= back) {
        from = stream_.x + (token - back) * stream_.channels;
      } else if (before_ != nullptr) {
        from = before_ + (row * (stream_.taps - 1) + position + tap) * stream_.channels;
      }
      if (from == nullptr) continue;
      const float* weights = Tap(tap) + channel;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) sums[i] += weights[i] * ToFloat(from[channel + i]);
    }
  }

 private:
  const ConvolutionStream<Number>& stream_;
  const Number* before_;
  std::vector<int64_t> rows_;
  std::vector<float> taps_;  // [taps, channels]
};

// Calls use(token, channel, width) for each block of channels of each token.
template <typename Number, typename Use>
void ForEachBlock(const ConvolutionStream<Number>& stream, const Use& use) {
  ParallelRanges(stream.tokens, kTokensPerPiece, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; token++) {
      for (int64_t channel = 0; channel < stream.channels; channel += kBlock) {
        use(token, channel, std::min(kBlock, stream.channels - channel));
      }
    }
  });
}

template <typename Number>
struct CausalConvolution {
  void Compute(Context& context) const {
    const ConvolutionOperands<Number> o(context);
    CheckRows(context, o.offsets, o.rows, o.tokens);
    if (context.failed()) return;
    const Convolution<Number> convolution(o, o.before);
    ForEachBlock(o, [&](int64_t token, int64_t channel, int64_t width) {
      float sums[kBlock];
      convolution.Sums(token, channel, width, sums);
      Number* to = o.output + token * o.channels + channel;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) Store(Silu::Value(sums[i]), to + i);
    });
  }
};

template <typename Number>
struct CausalConvolutionGradient {
  void Compute(Context& context) const {
    const ConvolutionGradientOperands<Number> o(context);
    CheckRows(context, o.offsets, o.rows, o.tokens);
    if (context.failed()) return;
    float* by_sums = context.Scratch<float>(o.tokens * o.channels);
    if (context.failed()) return;
    const Convolution<Number> convolution(o, nullptr);
    ForEachBlock(o, [&](int64_t token, int64_t channel, int64_t width) {
      float sums[kBlock];
      convolution.Sums(token, channel, width, sums);
      const Number* from = o.gradient + token * o.channels + channel;
      float* to = by_sums + token * o.channels + channel;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) to[i] = ToFloat(from[i]) * Silu::Both(sums[i]).slope;
    });
    ForEachBlock(o, [&](int64_t token, int64_t channel, int64_t width) {
      const int64_t left = o.offsets[convolution.RowOf(token) + 1] - token;
      float sums[kBlock] = {};
      for (int64_t later = 0; later < std::min(o.taps, left); later++) {
        const float* weights = convolution.Tap(o.taps - 1 - later) + channel;
        const float* from = by_sums + (token + later) * o.channels + channel;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) sums[i] += weights[i] * from[i];
      }
      Number* to = o.result + token * o.channels + channel;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) Store(sums[i], to + i);
    });
  }
};

}  // namespace

std::vector<OpDefinition> CausalConvolutionOps() {
  return {{"LorasmithCausalConvolution",
           {"x: T", "weight: float", "offsets: int32", "before: T"},
           {"output: T"},
           {},
           CpuKernels<CausalConvolution>()},
          {"LorasmithCausalConvolutionGradient",
           {"gradient: T", "x: T", "weight: float", "offsets: int32"},
           {"result: T"},
           {},
           CpuKernels<CausalConvolutionGradient>()}};
}

}  // namespace lorasmith
