// Weights in MXFP4 (OCP Microscaling Formats 1.0): numbers of 4 bits (E2M1), each 32 of a row with a scale, which is a
// power of two in a byte (E8M0). packages/tensor includes it, too.
#pragma once

#include <cstdint>
#include <cstring>

namespace lorasmith {

constexpr int64_t kMxfp4Block = 32;

// What each code stands for.
inline constexpr float kMxfp4Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                           -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// 2^(exponent - 127). 255 is no number.
inline float Mxfp4Scale(uint8_t exponent) {
  // The smallest is subnormal: it has no exponent of its own.
  const uint32_t bits = exponent == 0     ? 1u << 22
                        : exponent == 255 ? 0x7fc00000u
                                          : static_cast<uint32_t>(exponent) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return scale;
}

// kMxfp4Values[code] times the scale, made of bits: a thread may flush subnormal numbers, of which some of these are.
inline float Mxfp4Value(int code, uint8_t exponent) {
  uint32_t bits;
  std::memcpy(&bits, &kMxfp4Values[code], sizeof bits);
  const uint32_t sign = bits & 0x80000000u, fraction = bits & 0x7fffffu;
  const int field = static_cast<int>(bits >> 23 & 255u) + exponent - 127;
  if ((bits & 0x7fffffffu) == 0 && exponent != 255) {
    bits = sign;
  } else if (exponent == 255) {
    bits = 0x7fc00000u;
  } else if (field >= 255) {
    bits = sign | 0x7f800000u;
  } else if (field > 0) {
    bits = sign | static_cast<uint32_t>(field) << 23 | fraction;
  } else {
    bits = sign | (0x800000u | fraction) >> (1 - field);
  }
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// [rows, columns]; the columns are a multiple of 32.
struct Mxfp4Matrix {
  const uint8_t* codes;   // two in a byte, the first in the lower half
  const uint8_t* scales;  // exponents
  int64_t rows;
  int64_t columns;

  uint8_t Exponent(int64_t row, int64_t column) const { return scales[(row * columns + column) / kMxfp4Block]; }

  float At(int64_t row, int64_t column) const {
    const uint8_t byte = codes[(row * columns + column) / 2];
    return Mxfp4Value(column % 2 == 0 ? byte & 15 : byte >> 4, Exponent(row, column));
  }

  // A row; store(value, column) takes each number.
  template <typename Store>
  void DecodeRow(int64_t row, const Store& store) const {
    const uint8_t* own = codes + row * columns / 2;
    for (int64_t column = 0; column < columns;) {
      const uint8_t exponent = Exponent(row, column);
      float values[16];
      for (int code = 0; code < 16; code++) values[code] = Mxfp4Value(code, exponent);
      for (const int64_t end = column + kMxfp4Block; column < end; column += 2) {
        store(values[own[column / 2] & 15], column);
        store(values[own[column / 2] >> 4], column + 1);
      }
    }
  }

  // A row as ggml has it (`block_mxfp4`): the exponent of each block before its codes, those of the first 16 numbers in
  // the lower halves of the bytes.
  void RepackRow(int64_t row, uint8_t* to) const {
    const uint8_t* own = codes + row * columns / 2;
    for (int64_t column = 0; column < columns; column += kMxfp4Block) {
      *to++ = Exponent(row, column);
      const auto code = [&](int64_t i) { return own[(column + i) / 2] >> (i % 2 * 4) & 15; };
      for (int64_t i = 0; i < kMxfp4Block / 2; i++) {
        *to++ = static_cast<uint8_t>(code(i) | code(i + kMxfp4Block / 2) << 4);
      }
    }
  }
};

}  // namespace lorasmith
