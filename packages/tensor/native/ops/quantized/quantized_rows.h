// Rows of quantized weights as a source of panels: a block of 64 numbers has 16 different values, so they are computed
// and rounded once, and then looked up in a register.
#pragma once

#include "../../weight-files/native/quantized_matrix.h"
#include "cpu/bfloat16_tile.h"
#include "cpu/float32_tile.h"
#include "ops/quantized/packed_rows.h"

#if defined(__AVX512F__)

#include <immintrin.h>

namespace lorasmith {

// The columns are a multiple of 64; so is the column for a transposed panel, and a multiple of 32 for another.
template <typename Number>
using QuantizedRows = PackedRows<QuantizedMatrix, Number>;

// What numbers of one block are decoded with.
struct BlockCodes {
  template <typename Number>
  BlockCodes(const QuantizedRows<Number>& b, int64_t row, int64_t column) {
    const QuantizedMatrix& matrix = *b.matrix;
    const QuantizedModule module = matrix.ModuleOf(b.first_row + row);
    const int64_t at = (b.first_row + row) * matrix.columns + b.first_column + column;
    codes = matrix.codes + at / 2;
    const __m512 scale = _mm512_set1_ps(matrix.Scale(module, at / kQuantizedBlock));
    values = _mm512_mul_ps(_mm512_loadu_ps(module.Values()), scale);
  }

  const uint8_t* codes;
  __m512 values;
};

// Sixteen numbers; all are inside.
inline __m512i RowPart(const QuantizedRows<float>& b, int64_t row, int64_t column, __mmask16) {
  const BlockCodes block(b, row, column);
  return LookedUp<FirstCode::kUpper>(block.codes, block.values);
}

#if defined(__AVX512BF16__)

// Thirty-two numbers; all are inside.
inline __m512i RowPart(const QuantizedRows<BFloat16>& b, int64_t row, int64_t column, __mmask32) {
  const BlockCodes block(b, row, column);
  return LookedUpBFloat16<FirstCode::kUpper>(block.codes, block.values);
}

#endif

}  // namespace lorasmith

#endif
