// Rows of weights in MXFP4 as a source of panels: the 16 values of a block of 32 numbers are computed once, and then
// looked up in a register. All of them are numbers of bfloat16.
#pragma once

#include "../../weight-io/native/mxfp4_matrix.h"
#include "bfloat16_tile.h"
#include "float32_tile.h"

#if defined(__AVX512F__)

#include <immintrin.h>

namespace lorasmith {

// The matrix from a row and a column on, which is a multiple of 16.
template <typename Number_>
struct Mxfp4Rows {
  using Number = Number_;

  Mxfp4Rows From(int64_t row, int64_t column) const { return {matrix, first_row + row, first_column + column}; }

  const uint8_t* Codes(int64_t row, int64_t column) const {
    return matrix->codes + ((first_row + row) * matrix->columns + first_column + column) / 2;
  }
  __m512 Values(int64_t row, int64_t column) const {
    const uint8_t exponent = matrix->Exponent(first_row + row, first_column + column);
    const __m512 scale = _mm512_set1_ps(Mxfp4Scale(exponent));
    return _mm512_mul_ps(_mm512_loadu_ps(kMxfp4Values), scale);
  }

  const Mxfp4Matrix* matrix;
  int64_t first_row = 0;
  int64_t first_column = 0;
};

// Sixteen numbers; all are inside.
inline __m512i RowPart(const Mxfp4Rows<float>& b, int64_t row, int64_t column, __mmask16) {
  const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(b.Codes(row, column))));
  const __m512i first = _mm512_and_si512(bytes, _mm512_set1_epi64(15));
  const __m512i indices = _mm512_or_si512(first, _mm512_slli_epi64(_mm512_srli_epi64(bytes, 4), 32));
  return _mm512_castps_si512(_mm512_permutexvar_ps(indices, b.Values(row, column)));
}

#if defined(__AVX512BF16__)

// Thirty-two numbers; all are inside.
inline __m512i RowPart(const Mxfp4Rows<BFloat16>& b, int64_t row, int64_t column, __mmask32) {
  const __m256i values = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(b.Values(row, column)));
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b.Codes(row, column))));
  const __m512i first = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
  const __m512i indices = _mm512_or_si512(first, _mm512_slli_epi32(_mm512_srli_epi32(bytes, 4), 16));
  return _mm512_permutexvar_epi16(indices, _mm512_zextsi256_si512(values));
}

#endif

}  // namespace lorasmith

#endif
