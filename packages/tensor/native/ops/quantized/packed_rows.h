// Rows of packed weights as a source of panels, of any form.
#pragma once

#include <cstdint>

#include "../../weight-files/native/mxfp4_matrix.h"
#include "../../weight-files/native/quantized_matrix.h"
#include "cpu/bfloat16_tile.h"
#include "cpu/float32_tile.h"
#include "ops/quantized/packed_operands.h"

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

// Rows of quantized weights as a source of panels: a block of 64 numbers has 16 different values, so they are computed
// and rounded once, and then looked up in a register.

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

// Rows of weights in 8 bits as a source of panels. A number of E4M3 is one of bfloat16, too: its seven lower bits are
// shifted and get another bias; what is subnormal in E4M3 is looked up.

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

// Rows of weights in MXFP4 as a source of panels: the 16 values of a block of 32 numbers are computed once, and then
// looked up in a register. All of them are numbers of bfloat16.

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
