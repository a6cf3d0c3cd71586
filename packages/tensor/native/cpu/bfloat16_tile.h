// Products of bfloat16 matrices with VDPBF16PS, which adds two products to a float32 at once: packing into panels, and
// a tile of the result that stays in registers.
#pragma once

#include "cpu/number.h"
#include "cpu/tile.h"
#include "cpu/vector.h"

#if defined(__AVX512BF16__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#if __has_include(<amxbf16intrin.h>)
#define LORASMITH_AMX 1

#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

// The same in the tile registers of processors with AMX: 32 rows of the result by a panel of 32 columns stay in four of
// the eight registers.
#if defined(LORASMITH_AMX)

#define LORASMITH_WITH_AMX __attribute__((target("amx-tile,amx-bf16")))

// Rows and bytes of a tile register.
constexpr int64_t kRegisterRows = 16;
constexpr int64_t kRegisterBytes = 64;

// Whether the processor has AMX and Linux lets this process use it; asks Linux once.
inline bool MayUseAmx() {
  static const bool may = [] {
    constexpr int64_t kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr int64_t kTileData = 18;
    return __builtin_cpu_supports("amx-bf16") && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return may;
}

// The tile registers of a thread. Their contents are lost when the object ends, so that Linux need not save them.
class AmxTiles {
 public:
  // Depth of a register: the depth of a product is a multiple, with zeros in both matrices.
  static constexpr int64_t kDepth = 32;
  static constexpr int64_t kRows = 2 * kRegisterRows;

  AmxTiles() = default;
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  LORASMITH_WITH_AMX ~AmxTiles() { _tile_release(); }

  // a [rows, depth] times a panel, at most kRows rows. The sum of an element has the same order for any number of rows.
  LORASMITH_WITH_AMX void Multiply(Matrix<BFloat16> a, int64_t rows, const BFloat16* panel, int64_t depth,
                                   const Target<BFloat16>& to) {
    const Sums before{to.first_chunk ? nullptr : to.sums, to.sums_stride};
    if (!to.last_chunk) {
      Compute(a, rows, panel, kPanelColumns, depth, before, {to.sums, to.sums_stride});
      return;
    }
    alignas(64) float results[kRows * kPanelColumns];
    Compute(a, rows, panel, kPanelColumns, depth, before, {results, kPanelColumns});
    for (int64_t row = 0; row < rows; row++) {
      const float* from = results + row * kPanelColumns;
      StoreSums(_mm512_load_ps(from), _mm512_load_ps(from + 16), row, to);
    }
  }

  // a [rows, depth] times a panel of 16 or 32 columns → sums [rows, columns], or added to them; any number of rows.
  LORASMITH_WITH_AMX void Multiply(Matrix<BFloat16> a, int64_t rows, const BFloat16* panel, int64_t columns,
                                   int64_t depth, float* sums, bool accumulate) {
    for (int64_t row = 0; row < rows; row += kRows) {
      float* own = sums + row * columns;
      Compute({a.data + row * a.stride, a.stride}, std::min(kRows, rows - row), panel, columns, depth,
              {accumulate ? own : nullptr, columns}, {own, columns});
    }
  }

 private:
  // Registers 0 to 3 hold the sums (upper left, upper right, lower left, lower right), 4 and 5 the upper and lower rows
  // of a, 6 and 7 the left and right columns of the panel.
  struct alignas(64) Configuration {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  };

  LORASMITH_WITH_AMX void Configure(int64_t rows) {
    if (rows == configured_rows_) return;
    configured_rows_ = rows;
    const auto upper = static_cast<uint8_t>(std::min(rows, kRegisterRows));
    const auto lower = static_cast<uint8_t>(rows - upper);
    const uint8_t counts[8] = {upper, upper, lower, lower, upper, lower, kRegisterRows, kRegisterRows};
    Configuration configuration;
    for (int i = 0; i < 8; i++) {
      configuration.rows[i] = counts[i];
      configuration.bytes[i] = counts[i] == 0 ? 0 : kRegisterBytes;
    }
    _tile_loadconfig(&configuration);
  }

  // A tile's sums in memory, rows `stride` apart; null: zero.
  struct Sums {
    float* data;
    int64_t stride;
  };

  LORASMITH_WITH_AMX void Compute(Matrix<BFloat16> a, int64_t rows, const BFloat16* panel, int64_t columns,
                                  int64_t depth, const Sums& before, const Sums& after) {
    Configure(rows);
    const bool lower = rows > kRegisterRows;
    if (columns == kPanelColumns) {
      lower ? Products<true, true>(a, panel, depth, before, after)
            : Products<false, true>(a, panel, depth, before, after);
    } else {
      lower ? Products<true, false>(a, panel, depth, before, after)
            : Products<false, false>(a, panel, depth, before, after);
    }
  }

  // Without kLower at most 16 rows, without kRight 16 columns.
  template <bool kLower, bool kRight>
  LORASMITH_WITH_AMX static void Products(Matrix<BFloat16> a, const BFloat16* panel, int64_t depth, const Sums& before,
                                          const Sums& after) {
    constexpr int64_t kColumns = kRight ? kPanelColumns : kPanelColumns / 2;
    // Bytes from a pair of depth to the next.
    constexpr int64_t kPanelStride = 2 * kColumns * sizeof(BFloat16);
    const int64_t a_stride = a.stride * sizeof(BFloat16);
    const BFloat16* lower = a.data + kRegisterRows * a.stride;
    if (before.data == nullptr) {
      _tile_zero(0);
      if (kRight) _tile_zero(1);
      if (kLower) _tile_zero(2);
      if (kLower && kRight) _tile_zero(3);
    } else {
      const int64_t stride = before.stride * sizeof(float);
      _tile_loadd(0, before.data, stride);
      if (kRight) _tile_loadd(1, before.data + 16, stride);
      if (kLower) _tile_loadd(2, before.data + kRegisterRows * before.stride, stride);
      if (kLower && kRight) _tile_loadd(3, before.data + kRegisterRows * before.stride + 16, stride);
    }
    for (int64_t k = 0; k < depth; k += kDepth) {
      const BFloat16* pairs = panel + k * kColumns;
      if (kLower && kRight) Prefetch(pairs + kDepth * kColumns);
      _tile_loadd(6, pairs, kPanelStride);
      _tile_loadd(4, a.data + k, a_stride);
      _tile_dpbf16ps(0, 4, 6);
      if (kRight) {
        _tile_loadd(7, pairs + 32, kPanelStride);
        _tile_dpbf16ps(1, 4, 7);
      }
      if (kLower) {
        _tile_loadd(5, lower + k, a_stride);
        _tile_dpbf16ps(2, 5, 6);
        if (kRight) _tile_dpbf16ps(3, 5, 7);
      }
    }
    const int64_t stride = after.stride * sizeof(float);
    _tile_stored(0, after.data, stride);
    if (kRight) _tile_stored(1, after.data + 16, stride);
    if (kLower) _tile_stored(2, after.data + kRegisterRows * after.stride, stride);
    if (kLower && kRight) _tile_stored(3, after.data + kRegisterRows * after.stride + 16, stride);
  }

  // What the next registers of the panel are loaded from.
  static void Prefetch(const BFloat16* columns) {
    for (int64_t k = 0; k < kDepth; k++) __builtin_prefetch(columns + k * kPanelColumns);
  }

  int64_t configured_rows_ = 0;
};

#endif

// A product of bfloat16 matrices with one panel, in AMX's tile registers where the processor has them; for attention.

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
