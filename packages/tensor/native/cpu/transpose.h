// Transposes small matrices that are in the cache.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lorasmith {

#if defined(__AVX512F__)

// Sixteen rows of sixteen 32-bit elements → their columns.
inline void Transpose16(__m512i rows[16]) {
  __m512i halves[16];
  for (int i = 0; i < 16; i += 2) {
    halves[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    halves[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  __m512i quarters[16];
  for (int i = 0; i < 16; i += 4) {
    quarters[i] = _mm512_unpacklo_epi64(halves[i], halves[i + 2]);
    quarters[i + 1] = _mm512_unpackhi_epi64(halves[i], halves[i + 2]);
    quarters[i + 2] = _mm512_unpacklo_epi64(halves[i + 1], halves[i + 3]);
    quarters[i + 3] = _mm512_unpackhi_epi64(halves[i + 1], halves[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    const __m512i even_low = _mm512_shuffle_i32x4(quarters[i], quarters[i + 4], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(quarters[i], quarters[i + 4], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(quarters[i + 8], quarters[i + 12], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(quarters[i + 8], quarters[i + 12], 0xdd);
    rows[i] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    rows[i + 4] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    rows[i + 8] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    rows[i + 12] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

inline void TransposeSquare(const float* from, int64_t stride, float* to, int64_t to_stride) {
  __m512i rows[16];
  for (int i = 0; i < 16; i++) rows[i] = _mm512_loadu_si512(from + i * stride);
  Transpose16(rows);
  for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * to_stride, rows[i]);
}

#else

inline void TransposeSquare(const float* from, int64_t stride, float* to, int64_t to_stride) {
  for (int i = 0; i < 16; i++) {
    for (int k = 0; k < 16; k++) to[i * to_stride + k] = from[k * stride + i];
  }
}

#endif

// from [rows, columns] → to [columns, rows], each with the stride of its rows.
inline void Transpose(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to, int64_t to_stride) {
  const int64_t whole_rows = rows / 16 * 16;
  const int64_t whole_columns = columns / 16 * 16;
  for (int64_t column = 0; column < whole_columns; column += 16) {
    for (int64_t row = 0; row < whole_rows; row += 16) {
      TransposeSquare(from + row * stride + column, stride, to + column * to_stride + row, to_stride);
    }
  }
  for (int64_t column = 0; column < columns; column++) {
    for (int64_t row = column < whole_columns ? whole_rows : 0; row < rows; row++) {
      to[column * to_stride + row] = from[row * stride + column];
    }
  }
}

}  // namespace lorasmith
