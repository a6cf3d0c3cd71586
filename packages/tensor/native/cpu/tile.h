// A product's blocking for processors with AVX-512, the same for all element types. The second matrix is packed into
// panels of 32 columns; a tile of 14 rows by 32 columns of the result stays in registers for the whole depth of a chunk
// (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication").
#pragma once

#include "cpu/number.h"

#if defined(__AVX512F__)

#include <immintrin.h>

#include <algorithm>

namespace lorasmith {

// Columns of the second matrix per panel.
constexpr int64_t kPanelColumns = 32;

// Rows of the first matrix per tile: with 32 columns, its sums are 28 vectors.
constexpr int kTileRows = 14;

// The rows are `stride` numbers apart.
template <typename Number_>
struct Matrix {
  using Number = Number_;

  // The matrix from a row and a column on.
  Matrix From(int64_t row, int64_t column) const { return {data + row * stride + column, stride}; }

  const Number* data;
  int64_t stride;
};

// Where the sums of a tile come from and go to. The addend, null for none, has the layout of the result and is added
// with the last chunk of depth, before rounding. Between chunks, `sums` holds the sums in float32; where the result is
// float32 itself, the result does, and `sums` is unused.
template <typename Number>
struct Target {
  Number* result;
  int64_t result_stride;
  const Number* addend;
  float* sums;
  int64_t sums_stride;
  bool first_chunk;
  bool last_chunk;
  // The bits of the columns that the result has.
  uint32_t inside = ~0u;
};

// The bits of the first `count` of 32 columns.
inline uint32_t FirstColumns(int64_t count) {
  return static_cast<uint32_t>((uint64_t{1} << std::min(count, kPanelColumns)) - 1);
}

inline __m512i Load(const void* from) { return _mm512_loadu_si512(from); }

}  // namespace lorasmith

#endif
