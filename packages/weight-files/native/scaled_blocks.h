// Weights in numbers of 8 bits (E4M3 without infinities, Micikevicius et al. 2022, arXiv:2209.05433) with a float32
// scale for each block of rows and columns, as DeepSeek and Qwen publish them. Each product is rounded to float32.
// packages/tensor includes it, too.
#pragma once

#include <cmath>
#include <cstdint>

namespace lorasmith {

// Of a matrix. The last blocks of rows and columns may be short.
struct BlockScales {
  const float* scales;
  int64_t columns;
  int64_t block_rows;
  int64_t block_columns;
};

inline float E4M3ToFloat32(uint8_t bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  const float magnitude = (bits & 127) == 127 ? NAN
                          : exponent == 0     ? std::ldexp(static_cast<float>(mantissa), -9)
                                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return bits < 128 ? magnitude : -magnitude;
}

// What each byte stands for.
inline const float* E4M3Values() {
  static const struct Table {
    float values[256];
    Table() {
      for (int i = 0; i < 256; i++) values[i] = E4M3ToFloat32(static_cast<uint8_t>(i));
    }
  } table;
  return table.values;
}

// Numbers first … first + count - 1 of the matrix, whose bytes begin at `bytes`; store(value, index from 0) takes each.
template <typename Store>
void DecodeBlocks(const BlockScales& of, const uint8_t* bytes, int64_t first, int64_t count, const Store& store) {
  const float* values = E4M3Values();
  const int64_t across = (of.columns + of.block_columns - 1) / of.block_columns;
  for (int64_t i = 0; i < count;) {
    const int64_t row = (first + i) / of.columns;
    const int64_t column = (first + i) % of.columns;
    const int64_t block = column / of.block_columns;
    const int64_t block_end = (block + 1) * of.block_columns;
    const int64_t left = (block_end < of.columns ? block_end : of.columns) - column;
    const int64_t end = i + left < count ? i + left : count;
    const float scale = of.scales[row / of.block_rows * across + block];
    for (; i < end; i++) store(values[bytes[i]] * scale, i);
  }
}

}  // namespace lorasmith
