// Sixteen numbers at a time, or sixteen rows of them.
#pragma once

#include <cstdint>

#include "cpu/number.h"

// On processors that round to bfloat16 in one instruction.
#if defined(__AVX512BF16__)

#include <immintrin.h>

namespace lorasmith {

inline __m512 LoadNumbers(const BFloat16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

inline void StoreNumbers(__m512 values, BFloat16* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

// exp within 4 units in the last place of float32. At most 1e-45 below -104; NaN of NaN.
inline __m512 ExpOf(__m512 x) {
  const __m512 per_two = _mm512_set1_ps(1.44269504f);
  const __m512 clamped = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);
  const __m512 whole =
      _mm512_roundscale_ps(_mm512_mul_ps(clamped, per_two), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // The remainder of x, within half of ln 2. ln 2 is subtracted in two parts to keep all digits of x.
  const __m512 coarse = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), clamped);
  const __m512 r = _mm512_fnmadd_ps(whole, _mm512_set1_ps(-2.12194440e-4f), coarse);
  __m512 p = _mm512_set1_ps(1.3981999507e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, whole);
}

// 1 / x of a finite x, with a relative error below 2^-23: an estimate and one Newton step.
inline __m512 ReciprocalOf(__m512 x) {
  const __m512 near = _mm512_rcp14_ps(x);
  return _mm512_mul_ps(near, _mm512_fnmadd_ps(x, near, _mm512_set1_ps(2.0f)));
}

}  // namespace lorasmith

#endif

// Transposes of small matrices that are in the cache.
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
