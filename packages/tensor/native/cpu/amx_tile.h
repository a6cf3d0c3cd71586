// Products of bfloat16 matrices in the tile registers of processors with AMX: 32 rows of the result by a panel of 32
// columns stay in four of the eight registers. The panels are those of bfloat16_tile.h.
#pragma once

#include "cpu/bfloat16_tile.h"

#if defined(__AVX512BF16__) && __has_include(<amxbf16intrin.h>)
#define LORASMITH_AMX 1

#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#define LORASMITH_WITH_AMX __attribute__((target("amx-tile,amx-bf16")))

namespace lorasmith {

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

}  // namespace lorasmith

#endif
