// Rows of quantized weights as a source of panels: a block of 64 numbers has 16 different values, so they are computed
// and rounded once, and then looked up in a register.
#pragma once

#include "../../weight-io/native/quantized_matrix.h"
#include "bfloat16_tile.h"
#include "float32_tile.h"

#if defined(__AVX512F__)

#include <immintrin.h>

namespace lorasmith {

// The matrix from a row and a column on. The columns are a multiple of 64; so is the column for a transposed panel, and
// a multiple of 32 for another.
template <typename Number_>
struct QuantizedRows {
  using Number = Number_;

  QuantizedRows From(int64_t row, int64_t column) const { return {matrix, first_row + row, first_column + column}; }

  const QuantizedMatrix* matrix;
  int64_t first_row = 0;
  int64_t first_column = 0;
};

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
  const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(block.codes)));
  const __m512i low = _mm512_slli_epi64(_mm512_and_si512(bytes, _mm512_set1_epi64(15)), 32);
  const __m512i indices = _mm512_or_si512(_mm512_srli_epi64(bytes, 4), low);
  return _mm512_castps_si512(_mm512_permutexvar_ps(indices, block.values));
}

#if defined(__AVX512BF16__)

// Thirty-two numbers; all are inside.
inline __m512i RowPart(const QuantizedRows<BFloat16>& b, int64_t row, int64_t column, __mmask32) {
  const BlockCodes block(b, row, column);
  const __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(block.values));
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.codes)));
  const __m512i low = _mm512_slli_epi32(_mm512_and_si512(bytes, _mm512_set1_epi32(15)), 16);
  const __m512i indices = _mm512_or_si512(_mm512_srli_epi32(bytes, 4), low);
  return _mm512_permutexvar_epi16(indices, _mm512_zextsi256_si512(rounded));
}

#endif

}  // namespace lorasmith

#endif
