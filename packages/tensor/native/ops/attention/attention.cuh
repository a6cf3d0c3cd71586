// Causal grouped-query attention over rows of any lengths in one stream, and its gradient, in tiles (FlashAttention-2,
// arXiv:2307.08691): memory grows with the length of a row, not with its square.
//
// Each number of a result is summed by one thread in an order that depends on its own row only, so two runs give the
// same bytes, whatever else is in the stream.
#pragma once

#include "ops/attention/attention_bfloat16.cuh"
#include "ops/attention/attention_float32.cuh"
#include "ops/attention/attention_gradient.cuh"
#include "ops/attention/attention_pages.cuh"

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
    const attention::StreamRows<D, bf16> rows{rotated, values, value_stride, offsets};                              \
    attention::ForwardBFloat16<D>(rows, sinks, shape, output, log_sums);                                            \
  }                                                                                                                 \
  EXPORT_KERNEL(AttentionBFloat16_##D)                                                                              \
  extern "C" __global__ void __launch_bounds__(attention::kFloatThreads)                                            \
      AttentionFloat32_##D(const float* rotated, const float* values, int64_t value_stride, const int32_t* offsets, \
                           const float* sinks, AttentionShape shape, float* output, float* log_sums) {              \
    const attention::StreamRows<D, float> rows{rotated, values, value_stride, offsets};                             \
    attention::ForwardFloat32<D>(rows, sinks, shape, output, log_sums);                                             \
  }                                                                                                                 \
  EXPORT_KERNEL(AttentionFloat32_##D)

// The same of prompts, whose keys and values are in pages: cached_attention.h. A launch has the tiles of each text.
//   queries [tokens, heads, D], rotated
#define ATTENTION_PAGES_OF(Type, Number, D, threads)                                                             \
  extern "C" __global__ void __launch_bounds__(threads) AttentionPages##Type##_##D(                              \
      const __grid_constant__ TextTable texts, const Number* queries, const Number* cache, const int32_t* pages, \
      int page_columns, const float* sinks, AttentionShape shape, Number* output) {                              \
    const attention::PagedRows<D, Number> rows{texts, queries, cache, pages, page_columns};                      \
    attention::Forward##Type<D>(rows, sinks, shape, output, nullptr);                                            \
  }                                                                                                              \
  EXPORT_KERNEL(AttentionPages##Type##_##D)

#define ATTENTION_PAGES(D)                                             \
  ATTENTION_PAGES_OF(BFloat16, bf16, D, AttentionForward(D).threads()) \
  ATTENTION_PAGES_OF(Float32, float, D, attention::kFloatThreads)

#define ATTENTION_GRADIENT_BFLOAT16(gradients, D)                                                                      \
  extern "C" __global__ void __launch_bounds__(attention::GradientRows<D, attention::k##gradients>::kThreads)          \
      Attention##gradients##BFloat16_##D(const bf16* rotated, const bf16* values, int64_t value_stride,                \
                                         const bf16* gradient, const float* sums, const int32_t* offsets,              \
                                         const float* cosine, const float* sine, AttentionShape shape, bf16* result) { \
    attention::GradientBFloat16<D, attention::k##gradients>(rotated, values, value_stride, gradient, sums, offsets,    \
                                                            cosine, sine, shape, result);                              \
  }                                                                                                                    \
  EXPORT_KERNEL(Attention##gradients##BFloat16_##D)

#define ATTENTION_GRADIENT_FLOAT32(gradients, D)                                                                   \
  extern "C" __global__ void __launch_bounds__(attention::kFloatThreads) Attention##gradients##Float32_##D(        \
      const float* rotated, const float* values, int64_t value_stride, const float* gradient, const float* sums,   \
      const int32_t* offsets, AttentionShape shape, float* result) {                                               \
    attention::GradientFloat32<D, attention::k##gradients>(rotated, values, value_stride, gradient, sums, offsets, \
                                                           shape, result);                                         \
  }                                                                                                                \
  EXPORT_KERNEL(Attention##gradients##Float32_##D)
