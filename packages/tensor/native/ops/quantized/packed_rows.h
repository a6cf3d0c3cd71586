// Rows of packed weights as a source of panels, of any form.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)

#include <immintrin.h>

namespace lorasmith {

// The matrix from a row and a column on.
template <typename Matrix, typename Number_>
struct PackedRows {
  using Number = Number_;

  PackedRows From(int64_t row, int64_t column) const { return {matrix, first_row + row, first_column + column}; }

  const Matrix* matrix;
  int64_t first_row = 0;
  int64_t first_column = 0;
};

// Which half of a byte has the first of its two codes.
enum class FirstCode { kLower, kUpper };

// The values, of 16, that sixteen codes of 4 bits stand for.
template <FirstCode kFirst>
__m512i LookedUp(const uint8_t* codes, __m512 values) {
  const __m512i bytes = _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
  const __m512i lower = _mm512_and_si512(bytes, _mm512_set1_epi64(15)), upper = _mm512_srli_epi64(bytes, 4);
  const bool is_lower = kFirst == FirstCode::kLower;
  const __m512i indices = _mm512_or_si512(is_lower ? lower : upper, _mm512_slli_epi64(is_lower ? upper : lower, 32));
  return _mm512_castps_si512(_mm512_permutexvar_ps(indices, values));
}

#if defined(__AVX512BF16__)

// The values, of 16, that thirty-two codes of 4 bits stand for, each rounded to bfloat16.
template <FirstCode kFirst>
__m512i LookedUpBFloat16(const uint8_t* codes, __m512 values) {
  const __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  const __m512i lower = _mm512_and_si512(bytes, _mm512_set1_epi32(15)), upper = _mm512_srli_epi32(bytes, 4);
  const bool is_lower = kFirst == FirstCode::kLower;
  const __m512i indices = _mm512_or_si512(is_lower ? lower : upper, _mm512_slli_epi32(is_lower ? upper : lower, 16));
  return _mm512_permutexvar_epi16(indices, _mm512_zextsi256_si512(rounded));
}

#endif

}  // namespace lorasmith

#endif
