// Conversions between the dtypes of weights, with the bits that TensorFlow's op Cast gives on x64: to bfloat16
// and float16 rounded to nearest even, and quiet NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace lorasmith {

inline float FloatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

struct BFloat16ToFloat32 {
  using From = uint16_t;
  using To = uint32_t;
  static To Convert(From bits) { return static_cast<To>(bits) << 16; }
};

struct Float16ToFloat32 {
  using From = uint16_t;
  using To = uint32_t;
  static To Convert(From bits) {
    const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fff) << 13;
    const uint32_t exponent = magnitude & 0x0f800000;
    const uint32_t normal = magnitude + (uint32_t{127 - 15} << 23);
    const uint32_t quiet = (bits & 0x03ff) != 0 ? 0x00400000 : 0;
    const uint32_t special = (normal + (uint32_t{128 - 16} << 23)) | quiet;  // infinities and NaN
    const uint32_t subnormal = BitsOf(FloatOf(normal + (uint32_t{1} << 23)) - FloatOf(uint32_t{113} << 23));
    const uint32_t value = exponent == 0x0f800000 ? special : exponent == 0 ? subnormal : normal;
    return value | static_cast<uint32_t>(bits & 0x8000) << 16;
  }
};

struct Float32ToBFloat16 {
  using From = uint32_t;
  using To = uint16_t;
  static To Convert(From bits) {
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return static_cast<To>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
  }
};

struct Float32ToFloat16 {
  using From = uint32_t;
  using To = uint16_t;
  static To Convert(From bits) {
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return static_cast<To>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
    if (magnitude >= 0x477ff000) return static_cast<To>(sign | 0x7c00);  // 65,520 and more
    if (magnitude >= 0x38800000) {
      return static_cast<To>(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
    }
    // Subnormal: adding 0.5 rounds to a multiple of 2^-24, the last bits of the sum.
    return static_cast<To>(sign | (BitsOf(FloatOf(magnitude) + 0.5f) - BitsOf(0.5f)));
  }
};

struct Float16ToBFloat16 {
  using From = uint16_t;
  using To = uint16_t;
  static To Convert(From bits) {
    const To magnitude = Float32ToBFloat16::Convert(Float16ToFloat32::Convert(bits & 0x7fff));
    return static_cast<To>(magnitude | (bits & 0x8000));
  }
};

// Both must be aligned to their elements.
template <typename Conversion>
void ConvertAll(const void* from, void* to, size_t count) {
  const auto* source = static_cast<const typename Conversion::From*>(from);
  auto* target = static_cast<typename Conversion::To*>(to);
  for (size_t i = 0; i < count; i++) target[i] = Conversion::Convert(source[i]);
}

}  // namespace lorasmith
