// The causal convolution on a GPU: causal_convolution.cu. What it computes is in causal_convolution.cc.
#include "cuda/host/launch.h"
#include "ops/causal_convolution/causal_convolution_operands.h"
#include "ops/causal_convolution/causal_convolution_shape.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
const Kernel<void(const Number* x, const float* weight, const int32_t* offsets, ConvolutionShape shape,
                  const Number* before, Number* output)>
    kConvolution{"causal_convolution", "CausalConvolution" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, const Number* x, const float* weight, const int32_t* offsets,
                  ConvolutionShape shape, Number* result)>
    kConvolutionGradient{"causal_convolution", "CausalConvolutionGradient" + TypeName<Number>()};

// The shape as kernels take it; nothing after a failure.
template <typename Number>
ConvolutionShape ShapeOf(Context& context, const ConvolutionStream<Number>& stream) {
  context.Check(stream.taps <= kConvolutionTaps, "on a GPU, a convolution has at most 8 taps");
  context.Check(stream.rows >= 0 && stream.rows <= stream.tokens && stream.tokens <= INT32_MAX,
                "there must be 0 to tokens rows");
  if (context.failed()) return {};
  return {stream.tokens, stream.channels, static_cast<int>(stream.rows), static_cast<int>(stream.taps)};
}

Grid GridOf(const ConvolutionShape& shape) {
  return {DivideUp(shape.tokens, kConvolutionTokens), DivideUp(shape.channels, kConvolutionThreads)};
}

template <typename Number>
struct CausalConvolution {
  void Compute(Context& context) const {
    const ConvolutionOperands<Number> o(context);
    const ConvolutionShape shape = ShapeOf(context, o);
    kConvolution<Number>.Launch(context, GridOf(shape), kConvolutionThreads, 0, o.x, o.weight, o.offsets, shape,
                                o.before, o.output);
  }
};

template <typename Number>
struct CausalConvolutionGradient {
  void Compute(Context& context) const {
    const ConvolutionGradientOperands<Number> o(context);
    const ConvolutionShape shape = ShapeOf(context, o);
    kConvolutionGradient<Number>.Launch(context, GridOf(shape), kConvolutionThreads, 0, o.gradient, o.x, o.weight,
                                        o.offsets, shape, o.result);
  }
};

const GpuOps kOps{
    {"LorasmithCausalConvolution", GpuKernels<CausalConvolution>()},
    {"LorasmithCausalConvolutionGradient", GpuKernels<CausalConvolutionGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
