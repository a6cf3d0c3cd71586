// Rows of weights in MXFP4 as a source of panels: the 16 values of a block of 32 numbers are computed once, and then
// looked up in a register. All of them are numbers of bfloat16.
#pragma once

#include "../../weight-files/native/mxfp4_matrix.h"
#include "cpu/bfloat16_tile.h"
#include "cpu/float32_tile.h"
#include "ops/quantized/packed_rows.h"

#if defined(__AVX512F__)

#include <immintrin.h>

namespace lorasmith {

// The columns, and the first of a panel, are a multiple of 32.
template <typename Number>
using Mxfp4Rows = PackedRows<Mxfp4Matrix, Number>;

template <typename Number>
const uint8_t* CodesOf(const Mxfp4Rows<Number>& b, int64_t row, int64_t column) {
  return b.matrix->codes + ((b.first_row + row) * b.matrix->columns + b.first_column + column) / 2;
}

template <typename Number>
__m512 ValuesOf(const Mxfp4Rows<Number>& b, int64_t row, int64_t column) {
  const uint8_t exponent = b.matrix->Exponent(b.first_row + row, b.first_column + column);
  return _mm512_mul_ps(_mm512_loadu_ps(kMxfp4Values), _mm512_set1_ps(Mxfp4Scale(exponent)));
}

// Sixteen numbers; all are inside.
inline __m512i RowPart(const Mxfp4Rows<float>& b, int64_t row, int64_t column, __mmask16) {
  return LookedUp<FirstCode::kLower>(CodesOf(b, row, column), ValuesOf(b, row, column));
}

#if defined(__AVX512BF16__)

// Thirty-two numbers; all are inside.
inline __m512i RowPart(const Mxfp4Rows<BFloat16>& b, int64_t row, int64_t column, __mmask32) {
  return LookedUpBFloat16<FirstCode::kLower>(CodesOf(b, row, column), ValuesOf(b, row, column));
}

#endif

}  // namespace lorasmith

#endif
