// The gated delta rule (Yang et al. 2024, arXiv:2412.06464) on a GPU: gated_delta.h and gated_delta_gradient.cc
// say what it computes. Each number of a result is summed by one thread, or a group in a fixed order, that depends on
// its own row only: a row has the same bytes whatever else is in the stream, and a text that is read in pieces those of
// one that is read at once.
#pragma once

#include "ops/gated_delta/gated_delta_chunk.cuh"

// The kernels of one head size D. Their grids: rows, value heads, D / kDeltaColumns (the sweeps); RowSlots, value
// heads, D / kDeltaColumns (the errors), RowSlots, value heads (the chunks).
//   query, key [key_heads, tokens, D]; gate, beta [value_heads, tokens]
//   before, last [rows, value_heads, key_size, value_size], or null
//   kept, ends [states, value_heads, D, D]: row i has those from offsets[i] / 64 on, one after each whole chunk within
//   it by_output, errors, by_delta [value_heads, tokens, D]
#define GATED_DELTA(Type, Number, D)                                                                                  \
  extern "C" __global__ void __launch_bounds__(kDeltaSweepThreads) GatedDelta##Type##_##D(                            \
      const Number* qkv, const float* query, const float* key, const float* gate, const float* beta,                  \
      const int32_t* offsets, DeltaShape shape, const float* before, Number* output, float* kept, float* last) {      \
    gated_delta::Forward<D, gated_delta::kOutputs>(qkv, {query, key, gate, beta}, offsets, shape, before, kept,       \
                                                   output, static_cast<float*>(nullptr), last);                       \
  }                                                                                                                   \
  EXPORT_KERNEL(GatedDelta##Type##_##D)                                                                               \
  extern "C" __global__ void __launch_bounds__(kDeltaSweepThreads) GatedDeltaErrors##Type##_##D(                      \
      const Number* qkv, const float* query, const float* key, const float* gate, const float* beta,                  \
      const int32_t* offsets, DeltaShape shape, const float* kept, float* errors) {                                   \
    gated_delta::Forward<D, gated_delta::kErrors>(qkv, {query, key, gate, beta}, offsets, shape, nullptr,             \
                                                  const_cast<float*>(kept), static_cast<Number*>(nullptr), errors,    \
                                                  nullptr);                                                           \
  }                                                                                                                   \
  EXPORT_KERNEL(GatedDeltaErrors##Type##_##D)                                                                         \
  extern "C" __global__ void __launch_bounds__(kDeltaSweepThreads) GatedDeltaBackward##Type##_##D(                    \
      const float* query, const float* key, const float* gate, const float* beta, const float* by_output,             \
      const int32_t* offsets, DeltaShape shape, float* by_delta, float* ends, Number* by_qkv) {                       \
    gated_delta::Backward<D>({query, key, gate, beta}, by_output, offsets, shape, by_delta, ends, by_qkv);            \
  }                                                                                                                   \
  EXPORT_KERNEL(GatedDeltaBackward##Type##_##D)                                                                       \
  extern "C" __global__ void __launch_bounds__(kDeltaChunkThreads) GatedDeltaChunk##Type##_##D(                       \
      const float* query, const float* key, const float* gate, const float* beta, const Number* ba,                   \
      const float* a_log, const float* dt_bias, const int32_t* offsets, DeltaShape shape, const float* kept,          \
      const float* ends, const float* by_delta, float* by_output, float* errors, Number* by_ba) {                     \
    gated_delta::ChunkGradient<D>({query, key, gate, beta}, ba, a_log, dt_bias, offsets, shape, kept, ends, by_delta, \
                                  by_output, errors, by_ba);                                                          \
  }                                                                                                                   \
  EXPORT_KERNEL(GatedDeltaChunk##Type##_##D)
