// Products of bfloat16 matrices with VDPBF16PS, which adds two products to a float32 at once: packing into panels, and
// a tile of the result that stays in registers.
#pragma once

#include "cpu/number.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"
#include "cpu/vector_bfloat16.h"

#if defined(__AVX512BF16__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

namespace lorasmith {

// How many pairs of depth ahead of the arithmetic the panel is prefetched.
constexpr int64_t kPrefetchPairs = 8;

inline __m512bh Pairs(__m512i bits) { return reinterpret_cast<__m512bh>(bits); }

// Thirty-two numbers of a row of b, zero where they are not inside.
inline __m512i RowPart(Matrix<BFloat16> b, int64_t row, int64_t column, __mmask32 inside) {
  return _mm512_maskz_loadu_epi16(inside, b.data + row * b.stride + column);
}

// Rows 2 k and 2 k + 1 of b → 32 pairs, for each k. [depth, columns] → [depth / 2, 32, 2]; columns beyond become zero,
// and so does what an odd depth lacks. RowPart reads b.
template <typename Source>
void PackPanel(const Source& b, int64_t depth, int64_t columns, BFloat16* panel) {
  const __mmask32 inside = FirstColumns(columns);
  alignas(64) uint16_t low[32], high[32];
  for (int i = 0; i < 16; i++) {
    low[2 * i] = static_cast<uint16_t>(i);
    low[2 * i + 1] = static_cast<uint16_t>(32 + i);
    high[2 * i] = static_cast<uint16_t>(16 + i);
    high[2 * i + 1] = static_cast<uint16_t>(48 + i);
  }
  const __m512i first = Load(low), second = Load(high);
  for (int64_t k = 0; k < depth; k += 2) {
    const __m512i even = RowPart(b, k, 0, inside);
    const __m512i odd = k + 1 < depth ? RowPart(b, k + 1, 0, inside) : _mm512_setzero_si512();
    _mm512_storeu_si512(panel + k * kPanelColumns, _mm512_permutex2var_epi16(even, first, odd));
    _mm512_storeu_si512(panel + k * kPanelColumns + 32, _mm512_permutex2var_epi16(even, second, odd));
  }
}

// The same from the transposed matrix: [columns, depth] → [depth / 2, 32, 2]
template <typename Source>
void PackTransposedPanel(const Source& b, int64_t depth, int64_t columns, BFloat16* panel) {
  for (int64_t column = 0; column < kPanelColumns; column += 16) {
    for (int64_t k = 0; k < depth; k += 32) {
      const int64_t steps = std::min<int64_t>(32, depth - k);
      const int64_t pairs = (steps + 1) / 2;
      const __mmask32 inside = FirstColumns(steps);
      __m512i block[16];
      for (int i = 0; i < 16; i++) {
        block[i] = column + i < columns ? RowPart(b, column + i, k, inside) : _mm512_setzero_si512();
      }
      Transpose16(block);
      for (int64_t pair = 0; pair < pairs; pair++) {
        _mm512_storeu_si512(panel + (k + 2 * pair) * kPanelColumns + 2 * column, block[pair]);
      }
    }
  }
}

// Where the sums of a row go: with the last chunk of depth into the result, with its addend.
inline void StoreSums(__m512 left, __m512 right, int64_t row, const Target<BFloat16>& to) {
  if (!to.last_chunk) {
    _mm512_storeu_ps(to.sums + row * to.sums_stride, left);
    _mm512_storeu_ps(to.sums + row * to.sums_stride + 16, right);
    return;
  }
  if (to.addend != nullptr) {
    alignas(64) BFloat16 addend[kPanelColumns];
    _mm512_store_si512(addend, _mm512_maskz_loadu_epi16(to.inside, to.addend + row * to.result_stride));
    left = _mm512_add_ps(left, LoadNumbers(addend));
    right = _mm512_add_ps(right, LoadNumbers(addend + 16));
  }
  const __m512bh rounded = _mm512_cvtne2ps_pbh(right, left);
  _mm512_mask_storeu_epi16(to.result + row * to.result_stride, to.inside, reinterpret_cast<__m512i>(rounded));
}

// a [kRows, depth] times a panel. With an odd depth, a has a zero behind each row.
template <int kRows>
void Tile(Matrix<BFloat16> a, const BFloat16* panel, int64_t depth, const Target<BFloat16>& to) {
  __m512 sums[kRows][2];
#pragma GCC unroll 14
  for (int row = 0; row < kRows; row++) {
    sums[row][0] = to.first_chunk ? _mm512_setzero_ps() : _mm512_loadu_ps(to.sums + row * to.sums_stride);
    sums[row][1] = to.first_chunk ? _mm512_setzero_ps() : _mm512_loadu_ps(to.sums + row * to.sums_stride + 16);
  }
  for (int64_t k = 0; k < depth; k += 2) {
    const BFloat16* columns = panel + k * kPanelColumns;
    const __m512bh left = Pairs(Load(columns)), right = Pairs(Load(columns + 32));
    __builtin_prefetch(columns + kPrefetchPairs * 2 * kPanelColumns);
    __builtin_prefetch(columns + kPrefetchPairs * 2 * kPanelColumns + 32);
#pragma GCC unroll 14
    for (int row = 0; row < kRows; row++) {
      int32_t pair;
      std::memcpy(&pair, a.data + row * a.stride + k, sizeof(pair));
      const __m512bh factors = Pairs(_mm512_set1_epi32(pair));
      sums[row][0] = _mm512_dpbf16_ps(sums[row][0], factors, left);
      sums[row][1] = _mm512_dpbf16_ps(sums[row][1], factors, right);
    }
  }
#pragma GCC unroll 14
  for (int row = 0; row < kRows; row++) StoreSums(sums[row][0], sums[row][1], row, to);
}

using TileOf = void (*)(Matrix<BFloat16>, const BFloat16*, int64_t, const Target<BFloat16>&);
inline constexpr TileOf kTiles[kTileRows + 1] = {nullptr,   &Tile<1>,  &Tile<2>,  &Tile<3>,  &Tile<4>,
                                                 &Tile<5>,  &Tile<6>,  &Tile<7>,  &Tile<8>,  &Tile<9>,
                                                 &Tile<10>, &Tile<11>, &Tile<12>, &Tile<13>, &Tile<14>};

}  // namespace lorasmith

#endif
