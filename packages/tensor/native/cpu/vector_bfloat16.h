// Sixteen numbers at a time, on processors that round to bfloat16 in one instruction.
#pragma once

#include "cpu/number.h"

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
