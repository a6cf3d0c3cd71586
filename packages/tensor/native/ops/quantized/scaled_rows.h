// Rows of weights in 8 bits as a source of panels. A number of E4M3 is one of bfloat16, too: its seven lower bits are
// shifted and get another bias; what is subnormal in E4M3 is looked up.
#pragma once

#include "cpu/bfloat16_tile.h"
#include "cpu/float32_tile.h"
#include "ops/quantized/packed_rows.h"
#include "ops/quantized/scaled_matrix.h"

#if defined(__AVX512F__)

#include <immintrin.h>

namespace lorasmith {

// A part of a row is in one block.
template <typename Number>
using ScaledRows = PackedRows<ScaledMatrix, Number>;

template <typename Number>
const uint8_t* CodesOf(const ScaledRows<Number>& b, int64_t row, int64_t column) {
  return b.matrix->codes + (b.first_row + row) * b.matrix->columns + b.first_column + column;
}

template <typename Number>
__m512 ScaleOf(const ScaledRows<Number>& b, int64_t row, int64_t column) {
  return _mm512_set1_ps(b.matrix->Scale(b.first_row + row, b.first_column + column));
}

// Thirty-two bytes of E4M3 as bfloat16.
inline __m512i E4M3AsBFloat16(__m256i bytes) {
  // 0 to 7 times 2^-9; the next eight are not looked up.
  const __m512i subnormal =
      _mm512_castsi128_si512(_mm_set_epi16(0x3c60, 0x3c40, 0x3c20, 0x3c00, 0x3bc0, 0x3b80, 0x3b00, 0));
  constexpr int kBias = 127 - 7;
  const __m512i codes = _mm512_cvtepu8_epi16(bytes);
  const __m512i size = _mm512_and_si512(codes, _mm512_set1_epi16(0x7f));
  __m512i result = _mm512_add_epi16(_mm512_slli_epi16(size, 4), _mm512_set1_epi16(kBias << 7));
  const __mmask32 is_subnormal = _mm512_testn_epi16_mask(codes, _mm512_set1_epi16(0x78));
  result = _mm512_mask_permutexvar_epi16(result, is_subnormal, size, subnormal);
  const __mmask32 is_nan = _mm512_cmpeq_epi16_mask(size, _mm512_set1_epi16(0x7f));
  result = _mm512_mask_mov_epi16(result, is_nan, _mm512_set1_epi16(0x7fc0));
  const __m512i sign = _mm512_slli_epi16(_mm512_srli_epi16(codes, 7), 15);
  return _mm512_or_si512(result, sign);
}

// Sixteen numbers, zero where they are not inside.
inline __m512i RowPart(const ScaledRows<float>& b, int64_t row, int64_t column, __mmask16 inside) {
  const __m128i bytes = _mm_maskz_loadu_epi8(inside, CodesOf(b, row, column));
  const __m256i halves = _mm512_castsi512_si256(E4M3AsBFloat16(_mm256_castsi128_si256(bytes)));
  const __m512i numbers = _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
  return _mm512_castps_si512(_mm512_mul_ps(_mm512_castsi512_ps(numbers), ScaleOf(b, row, column)));
}

#if defined(__AVX512BF16__)

// Thirty-two numbers, zero where they are not inside.
inline __m512i RowPart(const ScaledRows<BFloat16>& b, int64_t row, int64_t column, __mmask32 inside) {
  const __m512i numbers = E4M3AsBFloat16(_mm256_maskz_loadu_epi8(inside, CodesOf(b, row, column)));
  const __m512 scale = ScaleOf(b, row, column);
  const __m512i odd = _mm512_and_si512(numbers, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
  const __m512 first = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(numbers, 16)), scale);
  const __m512 second = _mm512_mul_ps(_mm512_castsi512_ps(odd), scale);
  const __m512i even_rounded = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(first)));
  const __m512i odd_rounded = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(second)));
  return _mm512_or_si512(even_rounded, _mm512_slli_epi32(odd_rounded, 16));
}

#endif

}  // namespace lorasmith

#endif
