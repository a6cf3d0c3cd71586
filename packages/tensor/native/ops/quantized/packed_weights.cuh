// Weights in 4 and 8 bits in memory: packages/weight-files's quantized_matrix.h, and packed_operands.h, on a GPU. What
// decodes them rounds each step to float32, so that a weight has the same bits everywhere.
#pragma once

#include "cuda/kernels/number.cuh"
#include "ops/quantized/quantized_box.h"

constexpr int64_t kQuantizedNumbers = 64;  // that share a scale
constexpr int64_t kNestedScales = 256;     // that share a scale

// 4 bits.
struct Quantized {
  const uint8_t* codes;
  const uint8_t* scales;
  const float* nested_scales;  // null without double quantization
  const float* modules;
};

__device__ __forceinline__ const float* ModuleOf(const Quantized& weights, const QuantizedBox& box, int64_t row) {
  const float* module = weights.modules + (box.module_count - 1) * kModuleNumbers;
  while (module > weights.modules && static_cast<float>(row) < module[0]) module -= kModuleNumbers;
  return module;
}

// Of the block of 64 numbers with this index.
__device__ __forceinline__ float ScaleOf(const Quantized& weights, const QuantizedBox& box, const float* module,
                                         int64_t block) {
  if (weights.nested_scales == nullptr) return reinterpret_cast<const float*>(weights.scales)[block];
  const int64_t first_block = static_cast<int64_t>(module[0]) * box.columns / kQuantizedNumbers;
  const float nested = weights.nested_scales[static_cast<int64_t>(module[1]) + (block - first_block) / kNestedScales];
  return __fadd_rn(__fmul_rn(module[kModuleNestedValues + weights.scales[block]], nested), module[2]);
}

// 8 bits.
struct Scaled {
  const uint8_t* codes;
  const float* scales;
  const int32_t* bands;

  __device__ __forceinline__ float Scale(const ScaledBox& box, int64_t row, int64_t column) const {
    return scales[bands[row] * box.across + (column >> box.block_shift)];
  }
};

__device__ __forceinline__ float E4M3ToFloat(uint32_t byte) {
  const uint32_t sign = (byte & 128u) << 24;
  const uint32_t size = byte & 127u;
  if (size == 127u) return NAN;
  if (size >= 8u) return __uint_as_float(sign | ((size << 20) + (120u << 23)));
  const float subnormal = static_cast<float>(size) * 0.001953125f;  // steps of 2^-9
  return __uint_as_float(sign | __float_as_uint(subnormal));
}
