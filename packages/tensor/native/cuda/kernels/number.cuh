// More element types than models compute in, and packs of elements that are loaded and stored at once.
#pragma once

#include "cuda/kernels/device.h"

// float16; only conversions have it, so they are by bits.
struct f16 {
  uint16_t bits;
};

// N elements in one load or store; the address must be a multiple of their size.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T at[N];
};

template <int N, typename T>
__device__ __forceinline__ Pack<T, N> LoadPack(const T* from) {
  EMULATED_CHECK(reinterpret_cast<uintptr_t>(from) % sizeof(Pack<T, N>) == 0, "a pack is not aligned");
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <typename T, int N>
__device__ __forceinline__ void StorePack(const Pack<T, N>& pack, T* to) {
  EMULATED_CHECK(reinterpret_cast<uintptr_t>(to) % sizeof(Pack<T, N>) == 0, "a pack is not aligned");
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

__device__ __forceinline__ float ToFloat(int32_t value) { return static_cast<float>(value); }
__device__ __forceinline__ float ToFloat(int64_t value) { return static_cast<float>(value); }
__device__ __forceinline__ float ToFloat(uint8_t value) { return static_cast<float>(value); }
__device__ __forceinline__ float ToFloat(bool value) { return value ? 1.0f : 0.0f; }

__device__ __forceinline__ float ToFloat(f16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t rest = value.bits & 0x7fffu;
  if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);  // infinite or NaN
  if (rest >= 0x400u) return __uint_as_float(sign | ((rest << 13) + 0x38000000u));
  const float size = static_cast<float>(rest) * 5.9604644775390625e-8f;  // subnormal: steps of 2^-24
  return sign == 0 ? size : -size;
}

// Rounds to nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ void Store(float value, f16* to) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t rest = bits & 0x7fffffffu;
  uint32_t result;
  if (rest > 0x7f800000u) {
    result = 0x7e00u;  // NaN
  } else if (rest >= 0x477ff000u) {
    result = 0x7c00u;  // rounds to 2^16 or more: infinite
  } else if (rest >= 0x38800000u) {
    result = (rest + 0xfffu + (rest >> 13 & 1u) - 0x38000000u) >> 13;
  } else {
    // Subnormal: the last digit of the sum is 2^-24, the smallest step of float16.
    result = __float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000u;
  }
  to->bits = static_cast<uint16_t>(sign | result);
}

template <typename T>
__device__ __forceinline__ T Round(float value) {
  T result;
  Store(value, &result);
  return result;
}
