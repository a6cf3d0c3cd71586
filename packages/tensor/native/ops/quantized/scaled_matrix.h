// Weights in 8 bits (E4M3) in memory: matrices that lie below each other, each with scales for blocks of its own. A row
// has a band, whose scales it shares with other rows of its block. Each product is rounded to float32.
#pragma once

#include <cstdint>

#include "../../weight-files/native/scaled_blocks.h"

namespace lorasmith {

// A product decodes at most so many numbers of a row at once. A block has a power of two of them that is not less, or
// reaches over the whole row.
constexpr int kLeastBlockShift = 5;
constexpr int kWholeRowShift = 62;

// [rows, columns]
struct ScaledMatrix {
  const uint8_t* codes;
  const float* scales;   // [bands, across]
  const int32_t* bands;  // [rows]
  int64_t rows;
  int64_t columns;
  int64_t across;   // blocks in a row; the last one may be short
  int block_shift;  // of a column, to get its block

  float Scale(int64_t row, int64_t column) const { return scales[bands[row] * across + (column >> block_shift)]; }

  // A row; store(value, column) takes each number.
  template <typename Store>
  void DecodeRow(int64_t row, const Store& store) const {
    const float* values = E4M3Values();
    const uint8_t* own = codes + row * columns;
    for (int64_t block = 0, begin = 0; block < across; block++) {
      const float scale = Scale(row, begin);
      const int64_t end = block + 1 == across ? columns : (block + 1) << block_shift;
      for (; begin < end; begin++) store(values[own[begin]] * scale, begin);
    }
  }
};

}  // namespace lorasmith
