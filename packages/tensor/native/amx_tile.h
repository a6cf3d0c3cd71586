// Products of bfloat16 matrices in the tile registers of processors with AMX: 32 rows of the result by a panel of 32
// columns stay in four of the eight registers. The panels are those of bfloat16_tile.h.
#pragma once

#include "bfloat16_tile.h"

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
    Configure(rows);
    alignas(64) float results[kRows * kPanelColumns];
    float* sums = to.last_chunk ? results : to.sums;
    const int64_t sums_stride = to.last_chunk ? kPanelColumns : to.sums_stride;
    if (rows > kRegisterRows) {
      MultiplyBoth(a, panel, depth, to, sums, sums_stride);
    } else {
      MultiplyUpper(a, panel, depth, to, sums, sums_stride);
    }
    if (!to.last_chunk) return;
    for (int64_t row = 0; row < rows; row++) {
      const float* from = results + row * kPanelColumns;
      StoreSums(_mm512_load_ps(from), _mm512_load_ps(from + 16), row, to);
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

  LORASMITH_WITH_AMX static void MultiplyBoth(Matrix<BFloat16> a, const BFloat16* panel, int64_t depth,
                                              const Target<BFloat16>& to, float* sums, int64_t sums_stride) {
    const float* before = to.sums;
    const int64_t before_stride = to.sums_stride * sizeof(float);
    const int64_t a_stride = a.stride * sizeof(BFloat16);
    const BFloat16* lower = a.data + kRegisterRows * a.stride;
    if (to.first_chunk) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      _tile_loadd(0, before, before_stride);
      _tile_loadd(1, before + 16, before_stride);
      _tile_loadd(2, before + kRegisterRows * to.sums_stride, before_stride);
      _tile_loadd(3, before + kRegisterRows * to.sums_stride + 16, before_stride);
    }
    for (int64_t k = 0; k < depth; k += kDepth) {
      const BFloat16* columns = panel + k * kPanelColumns;
      Prefetch(columns + kDepth * kPanelColumns);
      _tile_loadd(6, columns, kPanelStride);
      _tile_loadd(4, a.data + k, a_stride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, columns + 32, kPanelStride);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, lower + k, a_stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    const int64_t stride = sums_stride * sizeof(float);
    _tile_stored(0, sums, stride);
    _tile_stored(1, sums + 16, stride);
    _tile_stored(2, sums + kRegisterRows * sums_stride, stride);
    _tile_stored(3, sums + kRegisterRows * sums_stride + 16, stride);
  }

  LORASMITH_WITH_AMX static void MultiplyUpper(Matrix<BFloat16> a, const BFloat16* panel, int64_t depth,
                                               const Target<BFloat16>& to, float* sums, int64_t sums_stride) {
    const int64_t before_stride = to.sums_stride * sizeof(float);
    if (to.first_chunk) {
      _tile_zero(0);
      _tile_zero(1);
    } else {
      _tile_loadd(0, to.sums, before_stride);
      _tile_loadd(1, to.sums + 16, before_stride);
    }
    for (int64_t k = 0; k < depth; k += kDepth) {
      const BFloat16* columns = panel + k * kPanelColumns;
      _tile_loadd(4, a.data + k, a.stride * sizeof(BFloat16));
      _tile_loadd(6, columns, kPanelStride);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, columns + 32, kPanelStride);
      _tile_dpbf16ps(1, 4, 7);
    }
    const int64_t stride = sums_stride * sizeof(float);
    _tile_stored(0, sums, stride);
    _tile_stored(1, sums + 16, stride);
  }

  // What the next registers of the panel are loaded from.
  static void Prefetch(const BFloat16* columns) {
    for (int64_t k = 0; k < kDepth; k++) __builtin_prefetch(columns + k * kPanelColumns);
  }

  // Bytes from a pair of depth to the next in a panel.
  static constexpr int64_t kPanelStride = 2 * kPanelColumns * sizeof(BFloat16);

  int64_t configured_rows_ = 0;
};

}  // namespace lorasmith

#endif
