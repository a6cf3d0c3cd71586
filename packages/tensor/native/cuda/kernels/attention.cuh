// Causal grouped-query attention over rows of any lengths in one stream, and its gradient, in tiles (FlashAttention-2,
// arXiv:2307.08691): memory grows with the length of a row, not with its square.
//
// Each number of a result is summed by one thread in an order that depends on its own row only, so two runs give the
// same bytes, whatever else is in the stream.
#pragma once

#include "attention_bfloat16.cuh"
#include "attention_float32.cuh"

// The kernels of one head size D, launched as AttentionForwardLaunch and AttentionGradientLaunch say.
//   rotated [tokens, heads + key_value_heads, D]: queries and keys, rotated
//   values: the first token's first value head; tokens are value_stride numbers apart, and heads D
//   gradient [tokens, heads, D] by the output
//   sums [heads, tokens, 2]: each query's log_sum and gradient · output
//   sinks [heads], or null; the backward pass knows them by the log_sums
//   output [tokens, heads, head_dim], result [tokens, heads + 2 key_value_heads, head_dim]
// In float32, result has the gradients by the rotated queries and keys.
#define ATTENTION_FORWARD(D)                                                                                        \
  extern "C" __global__ void __launch_bounds__(AttentionForward(D).threads())                                       \
      AttentionBFloat16_##D(const bf16* rotated, const bf16* values, int64_t value_stride, const int32_t* offsets,  \
                            const float* sinks, AttentionShape shape, bf16* output, float* log_sums) {              \
    attention::ForwardBFloat16<D>(rotated, values, value_stride, offsets, sinks, shape, output, log_sums);          \
  }                                                                                                                 \
  EXPORT_KERNEL(AttentionBFloat16_##D)                                                                              \
  extern "C" __global__ void __launch_bounds__(attention::kFloatThreads)                                            \
      AttentionFloat32_##D(const float* rotated, const float* values, int64_t value_stride, const int32_t* offsets, \
                           const float* sinks, AttentionShape shape, float* output, float* log_sums) {              \
    attention::ForwardFloat32<D>(rotated, values, value_stride, offsets, sinks, shape, output, log_sums);           \
  }                                                                                                                 \
  EXPORT_KERNEL(AttentionFloat32_##D)

#define ATTENTION_GRADIENT_BFLOAT16(gradients, D)                                                                   \
  extern "C" __global__ void __launch_bounds__(AttentionBackward(D).threads()) Attention##gradients##BFloat16_##D(  \
      const bf16* rotated, const bf16* values, int64_t value_stride, const bf16* gradient, const float* sums,       \
      const int32_t* offsets, const float* cosine, const float* sine, AttentionShape shape, bf16* result) {         \
    attention::GradientBFloat16<D, attention::k##gradients>(rotated, values, value_stride, gradient, sums, offsets, \
                                                            cosine, sine, shape, result);                           \
  }                                                                                                                 \
  EXPORT_KERNEL(Attention##gradients##BFloat16_##D)

#define ATTENTION_GRADIENT_FLOAT32(gradients, D)                                                                   \
  extern "C" __global__ void __launch_bounds__(attention::kFloatThreads) Attention##gradients##Float32_##D(        \
      const float* rotated, const float* values, int64_t value_stride, const float* gradient, const float* sums,   \
      const int32_t* offsets, AttentionShape shape, float* result) {                                               \
    attention::GradientFloat32<D, attention::k##gradients>(rotated, values, value_stride, gradient, sums, offsets, \
                                                           shape, result);                                         \
  }                                                                                                                \
  EXPORT_KERNEL(Attention##gradients##Float32_##D)
