#include "quantize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "convert_floats.h"
#include "quantized_matrix.h"

namespace lorasmith {
namespace {

constexpr int kCodes = 16;
constexpr float kNf4Values[kCodes] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

// The least number that a scale is taken as when it divides.
constexpr float kLeastScale = 1e-38f;

constexpr int kScaleCodes = 256;
// bitsandbytes looks codes of scales up by 16 bits of the number.
constexpr int kScaleSteps = 65536;

double Rounded(double value) { return static_cast<double>(static_cast<float>(value)); }

// The dynamic map of bitsandbytes: in each of seven decades, the means of neighbours in a line from 0.1 to 1, with both
// signs, or twice as many with one; 0; and 1. In double, each step rounded to float32; the points of a line are a fused
// product and sum, as PyTorch computes them on processors with AVX2.
struct DynamicMap {
  float values[kScaleCodes];

  explicit DynamicMap(bool is_signed) {
    int count = 0;
    for (int decade = 0; decade < 7; decade++) {
      const int steps = 1 << (is_signed ? decade : decade + 1);
      const double first = Rounded(0.1);
      const double step = Rounded((1.0 - first) / steps);
      const auto point = [&](int i) {
        return i < (steps + 1) / 2 ? Rounded(first + step * i) : Rounded(1.0 - step * (steps - i));
      };
      const double unit = Rounded(std::pow(10.0, decade - 6));
      for (int i = 0; i < steps; i++) {
        const double mean = Rounded(unit * Rounded(Rounded(point(i) + point(i + 1)) / 2));
        values[count++] = static_cast<float>(mean);
        if (is_signed) values[count++] = static_cast<float>(-mean);
      }
    }
    values[count++] = 0;
    values[count++] = 1;
    std::sort(values, values + kScaleCodes);
  }
};

// The codes of scales, and the values of the codes.
struct ScaleMap : DynamicMap {
  uint8_t codes[kScaleSteps];

  ScaleMap() : DynamicMap(true) {
    int code = 0;
    for (int i = 0; i < kScaleSteps; i++) {
      const double number = Rounded(Rounded(Rounded(2.0 * i) / 65535) - 1);
      while (code < kScaleCodes - 1 &&
             Rounded(Rounded(static_cast<double>(values[code]) + values[code + 1]) / 2) < number) {
        code++;
      }
      codes[i] = static_cast<uint8_t>(code);
    }
  }
};

const ScaleMap& TheScaleMap() {
  static const ScaleMap map;
  return map;
}

// Inlined into functions for several instruction sets, for which the compiler makes vectors of the loops.
#define INLINE __attribute__((always_inline)) inline

template <typename Conversion>
struct As {
  INLINE static float Load(const void* numbers, int64_t i) {
    return FloatOf(Conversion::Convert(static_cast<const typename Conversion::From*>(numbers)[i]));
  }
};

struct AsFloat32 {
  INLINE static float Load(const void* numbers, int64_t i) { return static_cast<const float*>(numbers)[i]; }
};

// The largest magnitude of up to a block of numbers. By its bits, a NaN is larger than all others.
template <typename Numbers>
INLINE float ScaleOf(const void* numbers, int64_t begin, int64_t count, float* block) {
  int32_t largest = 0;
  for (int64_t i = 0; i < count; i++) {
    block[i] = Numbers::Load(numbers, begin + i);
    int32_t bits;
    std::memcpy(&bits, block + i, sizeof bits);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return FloatOf(static_cast<uint32_t>(largest));
}

template <typename Numbers>
INLINE void Quantize(const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  float midpoints[kCodes - 1];
  for (int i = 0; i < kCodes - 1; i++) midpoints[i] = (kNf4Values[i] + kNf4Values[i + 1]) / 2;
  float block[kQuantizedBlock];
  int32_t code[kQuantizedBlock];
  for (int64_t begin = 0; begin < count; begin += kQuantizedBlock) {
    const bool is_whole = count - begin >= kQuantizedBlock;
    float scale;
    if (is_whole) {
      scale = ScaleOf<Numbers>(numbers, begin, kQuantizedBlock, block);
      const float inverse = 1.0f / (scale < kLeastScale ? kLeastScale : scale);
      for (int64_t i = 0; i < kQuantizedBlock; i++) block[i] *= inverse;
    } else {
      // A short block is divided, and padded with zeros; its scale is at least the least.
      scale = ScaleOf<Numbers>(numbers, begin, count - begin, block);
      scale = scale < kLeastScale ? kLeastScale : scale;
      for (int64_t i = 0; i < kQuantizedBlock; i++) block[i] = i < count - begin ? block[i] / scale : 0.0f;
    }
    scales[begin / kQuantizedBlock] = scale;
    for (int64_t i = 0; i < kQuantizedBlock; i++) {
      int32_t sum = 0;
#pragma GCC unroll 15
      for (int j = 0; j < kCodes - 1; j++) sum += block[i] > midpoints[j] ? 1 : 0;
      code[i] = sum;
    }
    const int64_t bytes = is_whole ? kQuantizedBlock / 2 : (count - begin + 1) / 2;
    uint8_t* to = codes + begin / 2;
    for (int64_t i = 0; i < bytes; i++) to[i] = static_cast<uint8_t>(code[2 * i] << 4 | code[2 * i + 1]);
  }
}

INLINE void QuantizeAs(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  switch (dtype) {
    case StoredDtype::kFloat32:
      return Quantize<AsFloat32>(numbers, count, codes, scales);
    case StoredDtype::kFloat16:
      return Quantize<As<Float16ToFloat32>>(numbers, count, codes, scales);
    case StoredDtype::kBFloat16:
      return Quantize<As<BFloat16ToFloat32>>(numbers, count, codes, scales);
  }
}

using QuantizeFunction = void (*)(StoredDtype, const void*, int64_t, uint8_t*, float*);

void QuantizeGeneric(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  QuantizeAs(dtype, numbers, count, codes, scales);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void QuantizeAvx2(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes,
                                                  float* scales) {
  QuantizeAs(dtype, numbers, count, codes, scales);
}

__attribute__((target("avx512f,avx512bw,avx512vl"))) void QuantizeAvx512(StoredDtype dtype, const void* numbers,
                                                                         int64_t count, uint8_t* codes, float* scales) {
  QuantizeAs(dtype, numbers, count, codes, scales);
}
#endif

QuantizeFunction BestQuantize() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    return &QuantizeAvx512;
  }
  if (__builtin_cpu_supports("avx2")) return &QuantizeAvx2;
#endif
  return &QuantizeGeneric;
}

}  // namespace

const float* Nf4Values() { return kNf4Values; }

const float* ScaleValues() { return TheScaleMap().values; }

const float* UnsignedValues() {
  static const DynamicMap map(false);
  return map.values;
}

void QuantizeNumbers(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  static const QuantizeFunction quantize = BestQuantize();
  quantize(dtype, numbers, count, codes, scales);
}

float OffsetOf(const float* scales, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += static_cast<double>(scales[i]);
  return static_cast<float>(sum / static_cast<double>(count));
}

void QuantizeScales(const float* scales, int64_t count, float offset, uint8_t* codes, float* nested_scales) {
  const ScaleMap& map = TheScaleMap();
  for (int64_t begin = 0; begin < count; begin += kNestedBlock) {
    const int64_t end = std::min(begin + kNestedBlock, count);
    float largest = 0;
    for (int64_t i = begin; i < end; i++) {
      const float magnitude = std::fabs(scales[i] - offset);
      // A scale that is not finite stays one.
      largest = magnitude <= largest ? largest : magnitude;
    }
    nested_scales[begin / kNestedBlock] = largest;
    const float inverse = 1.0f / largest;
    for (int64_t i = begin; i < end; i++) {
      const float number = (scales[i] - offset) * inverse;
      const float place = (number + 1.0f) * 0.5f * static_cast<float>(kScaleSteps - 1) + 0.5f;
      const float last = static_cast<float>(kScaleSteps - 1);
      codes[i] = map.codes[place >= 0 ? static_cast<int>(place < last ? place : last) : 0];
    }
  }
}

}  // namespace lorasmith
