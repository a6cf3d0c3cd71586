// Products of float32 matrices with AVX-512: packing into panels, and a tile of the result that stays in registers.
#pragma once

#include "cpu/number.h"
#include "cpu/tile.h"
#include "cpu/vector.h"

#if defined(__AVX512F__)

#include <immintrin.h>

#include <algorithm>

namespace lorasmith {

// Sixteen numbers of a row of b, zero where they are not inside.
inline __m512i RowPart(Matrix<float> b, int64_t row, int64_t column, __mmask16 inside) {
  return _mm512_maskz_loadu_epi32(inside, b.data + row * b.stride + column);
}

// [depth, columns] → [depth, 32]; columns beyond become zero. RowPart reads b.
template <typename Source>
void PackPanel(const Source& b, int64_t depth, int64_t columns, float* panel) {
  const uint32_t inside = FirstColumns(columns);
  const __mmask16 left = static_cast<__mmask16>(inside), right = static_cast<__mmask16>(inside >> 16);
  for (int64_t k = 0; k < depth; k++) {
    _mm512_storeu_si512(panel + k * kPanelColumns, RowPart(b, k, 0, left));
    _mm512_storeu_si512(panel + k * kPanelColumns + 16, RowPart(b, k, 16, right));
  }
}

// The same from the transposed matrix: [columns, depth] → [depth, 32]
template <typename Source>
void PackTransposedPanel(const Source& b, int64_t depth, int64_t columns, float* panel) {
  for (int64_t column = 0; column < kPanelColumns; column += 16) {
    for (int64_t k = 0; k < depth; k += 16) {
      const int64_t steps = std::min<int64_t>(16, depth - k);
      const __mmask16 inside = static_cast<__mmask16>(FirstColumns(steps));
      __m512i block[16];
      for (int i = 0; i < 16; i++) {
        block[i] = column + i < columns ? RowPart(b, column + i, k, inside) : _mm512_setzero_si512();
      }
      Transpose16(block);
      for (int64_t step = 0; step < steps; step++) {
        _mm512_storeu_si512(panel + (k + step) * kPanelColumns + column, block[step]);
      }
    }
  }
}

// How many steps of depth ahead of the arithmetic the panel is prefetched.
constexpr int64_t kPrefetchSteps = 8;

// a [kRows, depth] times the first 16 kVectors columns of a panel. The sum over this depth is complete before it is
// added to that of the chunks before.
template <int kRows, int kVectors>
void Tile(Matrix<float> a, const float* panel, int64_t depth, const Target<float>& to) {
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 14
  for (int row = 0; row < kRows; row++) {
    for (int v = 0; v < kVectors; v++) sums[row][v] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < depth; k++) {
    const float* columns = panel + k * kPanelColumns;
    __m512 numbers[kVectors];
    for (int v = 0; v < kVectors; v++) {
      numbers[v] = _mm512_loadu_ps(columns + 16 * v);
      __builtin_prefetch(columns + kPrefetchSteps * kPanelColumns + 16 * v);
    }
#pragma GCC unroll 14
    for (int row = 0; row < kRows; row++) {
      const __m512 factor = _mm512_set1_ps(a.data[row * a.stride + k]);
      for (int v = 0; v < kVectors; v++) sums[row][v] = _mm512_fmadd_ps(factor, numbers[v], sums[row][v]);
    }
  }
#pragma GCC unroll 14
  for (int row = 0; row < kRows; row++) {
    for (int v = 0; v < kVectors; v++) {
      const __mmask16 stored = static_cast<__mmask16>(to.inside >> (16 * v));
      const int64_t at = row * to.result_stride + 16 * v;
      __m512 sum = sums[row][v];
      if (!to.first_chunk) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(stored, to.result + at), sum);
      if (to.last_chunk && to.addend != nullptr) {
        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(stored, to.addend + at), sum);
      }
      _mm512_mask_storeu_ps(to.result + at, stored, sum);
    }
  }
}

using Float32Tile = void (*)(Matrix<float>, const float*, int64_t, const Target<float>&);
template <int kVectors>
inline constexpr Float32Tile kFloat32Tiles[kTileRows + 1] = {nullptr,
                                                             &Tile<1, kVectors>,
                                                             &Tile<2, kVectors>,
                                                             &Tile<3, kVectors>,
                                                             &Tile<4, kVectors>,
                                                             &Tile<5, kVectors>,
                                                             &Tile<6, kVectors>,
                                                             &Tile<7, kVectors>,
                                                             &Tile<8, kVectors>,
                                                             &Tile<9, kVectors>,
                                                             &Tile<10, kVectors>,
                                                             &Tile<11, kVectors>,
                                                             &Tile<12, kVectors>,
                                                             &Tile<13, kVectors>,
                                                             &Tile<14, kVectors>};

// Steps of depth that are summed by themselves: the error of a long sum grows with the square root of this.
constexpr int64_t kSummedSteps = 256;

// a [rows, depth] times a panel, at most a tile.
inline void MultiplyTile(Matrix<float> a, int64_t rows, const float* panel, int64_t depth, const Target<float>& to) {
  const auto tile = to.inside >> 16 != 0 ? kFloat32Tiles<2>[rows] : kFloat32Tiles<1>[rows];
  for (int64_t from = 0; from < depth; from += kSummedSteps) {
    const int64_t steps = std::min(kSummedSteps, depth - from);
    Target<float> target = to;
    target.first_chunk = to.first_chunk && from == 0;
    target.last_chunk = to.last_chunk && from + steps == depth;
    tile({a.data + from, a.stride}, panel + from * kPanelColumns, steps, target);
  }
}

}  // namespace lorasmith

#endif
