// Weights in 4 and 8 bits, decoded.
#include "ops/quantized/packed_weights.cuh"

namespace {

template <typename Box>
__device__ __forceinline__ int64_t PitchOf(const Box& box) {
  return box.pitch == 0 ? box.width : box.pitch;
}

template <typename Number>
__device__ __forceinline__ void DecodeWhole(const Quantized& weights, const QuantizedBox& box, Number* result) {
  constexpr int kPack = 16 / sizeof(Number);
  const int64_t packs = box.rows * box.width / kDecodedAtOnce;
  const int64_t pitch = PitchOf(box);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += step) {
    const int64_t own_row = i * kDecodedAtOnce / box.width;
    const int64_t own_column = i * kDecodedAtOnce % box.width;
    const int64_t row = box.first_row + own_row;
    const int64_t at = row * box.columns + box.first_column + own_column;
    Number* to = result + own_row * pitch + own_column;
    const float* module = ModuleOf(weights, box, row);
    const float scale = ScaleOf(weights, box, module, at / kQuantizedNumbers);
    const Pack<uint8_t, kDecodedAtOnce / 2> bytes = LoadPack<kDecodedAtOnce / 2>(weights.codes + at / 2);
#pragma unroll
    for (int first = 0; first < kDecodedAtOnce; first += kPack) {
      Pack<Number, kPack> decoded;
#pragma unroll
      for (int k = 0; k < kPack; k++) {
        const int byte = bytes.at[(first + k) / 2];
        Store(module[kModuleValues + (k % 2 == 0 ? byte >> 4 : byte & 15)] * scale, &decoded.at[k]);
      }
      StorePack<Number, kPack>(decoded, to + first);
    }
  }
}

template <typename Number>
__device__ __forceinline__ void DecodeEach(const Quantized& weights, const QuantizedBox& box, Number* result) {
  const int64_t count = box.rows * box.width;
  const int64_t pitch = PitchOf(box);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const int64_t own_row = i / box.width, own_column = i % box.width;
    const int64_t row = box.first_row + own_row;
    const int64_t at = row * box.columns + box.first_column + own_column;
    const float* module = ModuleOf(weights, box, row);
    const int byte = weights.codes[at / 2];
    const float value = module[kModuleValues + (at % 2 == 0 ? byte >> 4 : byte & 15)];
    Store(value * ScaleOf(weights, box, module, at / kQuantizedNumbers), result + own_row * pitch + own_column);
  }
}

// N numbers at a time, which are in one block.
template <int N, typename Number>
__device__ __forceinline__ void DecodeScaled(const Scaled& weights, const ScaledBox& box, Number* result) {
  constexpr int kPack = N == 1 ? 1 : 16 / sizeof(Number);
  const int64_t packs = box.rows * box.width / N;
  const int64_t pitch = PitchOf(box);
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += step) {
    const int64_t own_row = i * N / box.width, own_column = i * N % box.width;
    const int64_t row = box.first_row + own_row;
    const int64_t column = box.first_column + own_column;
    Number* to = result + own_row * pitch + own_column;
    const float scale = weights.Scale(box, row, column);
    const Pack<uint8_t, N> bytes = LoadPack<N>(weights.codes + row * box.columns + column);
#pragma unroll
    for (int first = 0; first < N; first += kPack) {
      Pack<Number, kPack> decoded;
#pragma unroll
      for (int k = 0; k < kPack; k++) Store(E4M3ToFloat(bytes.at[first + k]) * scale, &decoded.at[k]);
      StorePack<Number, kPack>(decoded, to + first);
    }
  }
}

// What a code of E2M1 stands for: one bit of sign, two of exponent, one of mantissa.
__device__ __forceinline__ float E2M1ToFloat(uint32_t code) {
  const uint32_t sign = (code & 8u) << 28;
  const uint32_t size = code & 7u;
  if (size < 2u) return __uint_as_float(sign | (size == 0u ? 0u : 0x3f000000u));
  return __uint_as_float(sign | ((size << 22) + (126u << 23)));
}

constexpr int64_t kMxfp4Numbers = 32;  // that share a scale

// count: a multiple of the block's numbers. codes and scales: of the first number.
template <typename Number>
__device__ __forceinline__ void DecodeMxfp4(const uint8_t* codes, const uint8_t* scales, int64_t count,
                                            Number* result) {
  constexpr int kPack = 16 / sizeof(Number);
  const int64_t packs = count / kDecodedAtOnce;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += step) {
    const uint32_t exponent = scales[i * kDecodedAtOnce / kMxfp4Numbers];
    // The smallest scale is subnormal; 255 is no number.
    const float scale = exponent == 255u ? NAN : __uint_as_float(exponent == 0u ? 1u << 22 : exponent << 23);
    const Pack<uint8_t, kDecodedAtOnce / 2> bytes = LoadPack<kDecodedAtOnce / 2>(codes + i * (kDecodedAtOnce / 2));
#pragma unroll
    for (int first = 0; first < kDecodedAtOnce; first += kPack) {
      Pack<Number, kPack> decoded;
#pragma unroll
      for (int k = 0; k < kPack; k++) {
        const uint32_t byte = bytes.at[(first + k) / 2];
        Store(E2M1ToFloat(k % 2 == 0 ? byte & 15u : byte >> 4) * scale, &decoded.at[k]);
      }
      StorePack<Number, kPack>(decoded, result + i * kDecodedAtOnce + first);
    }
  }
}

}  // namespace

#define DEQUANTIZE_KERNEL(Number, Suffix)                                                                  \
  extern "C" __global__ void __launch_bounds__(256)                                                        \
      Dequantize##Suffix(const uint8_t* codes, const uint8_t* scales, const float* nested_scales,          \
                         const float* modules, const __grid_constant__ QuantizedBox box, Number* result) { \
    const Quantized weights{codes, scales, nested_scales, modules};                                        \
    if (box.whole) {                                                                                       \
      DecodeWhole(weights, box, result);                                                                   \
    } else {                                                                                               \
      DecodeEach(weights, box, result);                                                                    \
    }                                                                                                      \
  }                                                                                                        \
  EXPORT_KERNEL(Dequantize##Suffix)

DEQUANTIZE_KERNEL(float, Float32)
DEQUANTIZE_KERNEL(bf16, BFloat16)

#define DEQUANTIZE_SCALED_KERNEL(Number, Suffix)                                                \
  extern "C" __global__ void __launch_bounds__(256)                                             \
      DequantizeScaled##Suffix(const uint8_t* codes, const float* scales, const int32_t* bands, \
                               const __grid_constant__ ScaledBox box, Number* result) {         \
    const Scaled weights{codes, scales, bands};                                                 \
    if (box.whole) {                                                                            \
      DecodeScaled<kDecodedAtOnce>(weights, box, result);                                       \
    } else {                                                                                    \
      DecodeScaled<1>(weights, box, result);                                                    \
    }                                                                                           \
  }                                                                                             \
  EXPORT_KERNEL(DequantizeScaled##Suffix)

DEQUANTIZE_SCALED_KERNEL(float, Float32)
DEQUANTIZE_SCALED_KERNEL(bf16, BFloat16)

#define DEQUANTIZE_MXFP4_KERNEL(Number, Suffix)                                                             \
  extern "C" __global__ void __launch_bounds__(256)                                                         \
      DequantizeMxfp4##Suffix(const uint8_t* codes, const uint8_t* scales, int64_t count, Number* result) { \
    DecodeMxfp4(codes, scales, count, result);                                                              \
  }                                                                                                         \
  EXPORT_KERNEL(DequantizeMxfp4##Suffix)

DEQUANTIZE_MXFP4_KERNEL(float, Float32)
DEQUANTIZE_MXFP4_KERNEL(bf16, BFloat16)

namespace {

// The box of this block's group, of those that lie one below the other: the first one's, and its number.
template <typename Box>
__device__ __forceinline__ Box BoxOfGroup(Box first, int64_t group) {
  first.first_row += group * first.rows;
  return first;
}

// Where this block's group is decoded.
template <typename Number>
__device__ __forceinline__ Number* DecodedOf(Number* result, int64_t numbers) {
  return result + blockIdx.y * numbers;
}

}  // namespace

// Whole rows of several groups. first: the box of the first group, with as many modules as each has.
#define DEQUANTIZE_GROUPS_KERNEL(Number, Suffix)                                                                  \
  extern "C" __global__ void __launch_bounds__(256) DequantizeGroups##Suffix(                                     \
      const uint8_t* codes, const uint8_t* scales, const float* nested_scales, const float* modules,              \
      const __grid_constant__ QuantizedBox first, const __grid_constant__ DecodedGroups groups, Number* result) { \
    const int64_t group = groups.at[blockIdx.y];                                                                  \
    const Quantized weights{codes, scales, nested_scales, modules + group * first.module_count * kModuleNumbers}; \
    DecodeWhole(weights, BoxOfGroup(first, group), DecodedOf(result, first.rows * first.width));                  \
  }                                                                                                               \
  EXPORT_KERNEL(DequantizeGroups##Suffix)

DEQUANTIZE_GROUPS_KERNEL(float, Float32)
DEQUANTIZE_GROUPS_KERNEL(bf16, BFloat16)

#define DEQUANTIZE_SCALED_GROUPS_KERNEL(Number, Suffix)                                                         \
  extern "C" __global__ void __launch_bounds__(256) DequantizeScaledGroups##Suffix(                             \
      const uint8_t* codes, const float* scales, const int32_t* bands, const __grid_constant__ ScaledBox first, \
      const __grid_constant__ DecodedGroups groups, Number* result) {                                           \
    const Scaled weights{codes, scales, bands};                                                                 \
    const ScaledBox box = BoxOfGroup(first, groups.at[blockIdx.y]);                                             \
    Number* decoded = DecodedOf(result, first.rows * first.width);                                              \
    if (box.whole) {                                                                                            \
      DecodeScaled<kDecodedAtOnce>(weights, box, decoded);                                                      \
    } else {                                                                                                    \
      DecodeScaled<1>(weights, box, decoded);                                                                   \
    }                                                                                                           \
  }                                                                                                             \
  EXPORT_KERNEL(DequantizeScaledGroups##Suffix)

DEQUANTIZE_SCALED_GROUPS_KERNEL(float, Float32)
DEQUANTIZE_SCALED_GROUPS_KERNEL(bf16, BFloat16)

// count: of the numbers of a group.
#define DEQUANTIZE_MXFP4_GROUPS_KERNEL(Number, Suffix)                                               \
  extern "C" __global__ void __launch_bounds__(256)                                                  \
      DequantizeMxfp4Groups##Suffix(const uint8_t* codes, const uint8_t* scales, int64_t count,      \
                                    const __grid_constant__ DecodedGroups groups, Number* result) {  \
    const int64_t first = groups.at[blockIdx.y] * count;                                             \
    DecodeMxfp4(codes + first / 2, scales + first / kMxfp4Numbers, count, DecodedOf(result, count)); \
  }                                                                                                  \
  EXPORT_KERNEL(DequantizeMxfp4Groups##Suffix)

DEQUANTIZE_MXFP4_GROUPS_KERNEL(float, Float32)
DEQUANTIZE_MXFP4_GROUPS_KERNEL(bf16, BFloat16)
