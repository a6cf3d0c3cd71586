// A product of bfloat16 matrices with one panel, in AMX's tile registers where the processor has them; for attention.
#pragma once

#include "cpu/amx_tile.h"
#include "cpu/bfloat16_tile.h"

#if defined(__AVX512BF16__)

#include <algorithm>

namespace lorasmith {

// Rows of a tile of the result.
inline int64_t PanelTileRows() {
#if defined(LORASMITH_AMX)
  if (MayUseAmx()) return AmxTiles::kRows;
#endif
  return kTileRows;
}

// a [rows, depth] times a panel → sums [rows, 32], rows `stride` apart, overwritten or added to. The depth is a
// multiple of 32.
inline void MultiplyPanel(Matrix<BFloat16> a, int64_t rows, const BFloat16* panel, int64_t depth, float* sums,
                          int64_t stride, bool add) {
  const auto tile = [&](int64_t row) { return Matrix<BFloat16>{a.data + row * a.stride, a.stride}; };
  const auto to = [&](int64_t row) {
    return Target<BFloat16>{nullptr, 0, nullptr, sums + row * stride, stride, !add, false};
  };
#if defined(LORASMITH_AMX)
  if (MayUseAmx()) {
    AmxTiles tiles;
    for (int64_t row = 0; row < rows; row += AmxTiles::kRows) {
      tiles.Multiply(tile(row), std::min(AmxTiles::kRows, rows - row), panel, depth, to(row));
    }
    return;
  }
#endif
  for (int64_t row = 0; row < rows; row += kTileRows) {
    kTiles[std::min<int64_t>(kTileRows, rows - row)](tile(row), panel, depth, to(row));
  }
}

}  // namespace lorasmith

#endif
