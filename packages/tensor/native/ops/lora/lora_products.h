// What the forward and the backward op of low-rank adaptation share. They adapt a group of linear layers (Hu et al.
// 2021, arXiv:2106.09685) by several adapters at once: each acts on its own rows of the stream, with its own ranks,
// layers and dropout.
//
// Nothing of one adapter is ever multiplied with anything of another, and every sum is in an order that follows from
// the adapter's own sizes: so neither the bits of its results nor its NaN depend on the others, or on the number of
// threads.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "cpu/kernel.h"
#include "cpu/number.h"
#include "cpu/parallel.h"
#include "cpu/register.h"
#include "ops/lora/lora_parts.h"

#if defined(__AVX512BF16__)
#include "cpu/bfloat16_tile.h"
#include "cpu/vector.h"
#endif

namespace lorasmith {

// The second matrix of a product is in panels of 32 columns, of which the last may have 16; a tile of the result is in
// registers. The sum of an element has the same order whatever lies beside it.

// Columns of the widest panel, and what the width of every panel is a multiple of.
constexpr int64_t kWidestPanel = 32;
constexpr int64_t kPanelLanes = 16;

inline int64_t PanelsOf(int64_t columns) { return (columns + kWidestPanel - 1) / kWidestPanel; }

inline int64_t PanelWidth(int64_t columns_left) { return columns_left > kPanelLanes ? kWidestPanel : kPanelLanes; }

template <typename Number>
struct Rows {
  const Number* data;
  int64_t stride;
};

// Adds sums, rounded once.
template <typename Number>
inline void AddSums(const float* sums, int64_t count, Number* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) Store(ToFloat(to[i]) + sums[i], to + i);
}

template <typename Number>
inline void Round(const float* sums, int64_t count, Number* result) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) Store(sums[i], result + i);
}

// Computes in float32, on any processor. Matrices of another type are converted, with its rounding.
template <typename Number>
struct Float32Panels {
  using Packed = float;
  // The depth of every product is a multiple of this.
  static constexpr int64_t kDepthStep = 1;
  static constexpr int kTileRows = 6;

  // Rows of a thread's turn: whole tiles.
  static int64_t MostRows() { return 5 * kTileRows; }

  static float Of(float value) {
    Number rounded;
    Store(value, &rounded);
    return ToFloat(rounded);
  }

  // Rows of numbers as a first matrix; `copy` is memory for them.
  static Rows<float> RowsOf(Rows<Number> from, int64_t rows, int64_t depth, std::vector<float>* copy) {
    if constexpr (std::is_same_v<Number, float>) {
      return from;
    } else {
      copy->resize(rows * depth);
      for (int64_t row = 0; row < rows; row++) {
#pragma omp simd
        for (int64_t i = 0; i < depth; i++) (*copy)[row * depth + i] = ToFloat(from.data[row * from.stride + i]);
      }
      return {copy->data(), depth};
    }
  }

  // row(k)[0 … columns - 1] → [depth, width]. A null row is zero, as is what lies beyond the columns.
  template <typename Source, typename RowAt>
  static void Pack(RowAt row, int64_t depth, int64_t columns, int64_t width, float scale, float* panel) {
    for (int64_t k = 0; k < depth; k++) {
      const Source* from = row(k);
      float* to = panel + k * width;
      for (int64_t i = 0; i < width; i++) {
        to[i] = from != nullptr && i < columns ? Of(ToFloat(from[i]) * scale) : 0.0f;
      }
    }
  }

  // The same from the transposed matrix: column(i)[0 … depth - 1] → [depth, width].
  template <typename ColumnAt>
  static void PackTransposed(ColumnAt column, int64_t depth, int64_t columns, int64_t width, float scale,
                             float* panel) {
    for (int64_t i = 0; i < width; i++) {
      const float* from = i < columns ? column(i) : nullptr;
      for (int64_t k = 0; k < depth; k++) panel[k * width + i] = from == nullptr ? 0.0f : Of(from[k] * scale);
    }
  }

  // a [rows, depth] times a panel → sums [rows, width], or added to them.
  static void Multiply(Rows<float> a, int64_t rows, const float* panel, int64_t width, int64_t depth, float* sums,
                       bool accumulate) {
    while (rows > 0) {
      const int64_t some = rows >= kTileRows ? kTileRows : 1;
      const auto tile = some == kTileRows ? &Tile<kTileRows, 2> : &Tile<1, 2>;
      const auto last = some == kTileRows ? &Tile<kTileRows, 1> : &Tile<1, 1>;
      int64_t column = 0;
      for (; column + 2 * kLanes <= width; column += 2 * kLanes)
        tile(a, panel + column, width, depth, sums + column, accumulate);
      if (column < width) last(a, panel + column, width, depth, sums + column, accumulate);
      a.data += some * a.stride;
      sums += some * width;
      rows -= some;
    }
  }

 private:
  // Columns of a panel of `width`.
  template <int kRows, int kVectors>
  static void Tile(Rows<float> a, const float* panel, int64_t width, int64_t depth, float* result, bool accumulate) {
    Vector sums[kRows][kVectors];
    for (int row = 0; row < kRows; row++) {
      for (int v = 0; v < kVectors; v++) {
        const Vector* before = reinterpret_cast<const Vector*>(result + row * width + v * kLanes);
        sums[row][v] = accumulate ? *before : Vector{};
      }
    }
    for (int64_t k = 0; k < depth; k++) {
      Vector columns[kVectors];
      for (int v = 0; v < kVectors; v++) {
        columns[v] = *reinterpret_cast<const Vector*>(panel + k * width + v * kLanes);
      }
      for (int row = 0; row < kRows; row++) {
        const float factor = a.data[row * a.stride + k];
        for (int v = 0; v < kVectors; v++) sums[row][v] += factor * columns[v];
      }
    }
    for (int row = 0; row < kRows; row++) {
      for (int v = 0; v < kVectors; v++) {
        *reinterpret_cast<Vector*>(result + row * width + v * kLanes) = sums[row][v];
      }
    }
  }
};

#if defined(__AVX512BF16__)

// The first `count` of 16 lanes; all where there are more, none where there are no more.
inline __mmask16 FirstLanes(int64_t count) {
  return static_cast<__mmask16>((1u << std::clamp<int64_t>(count, 0, kPanelLanes)) - 1);
}

inline void AddSums(const float* sums, int64_t count, BFloat16* to) {
  for (int64_t i = 0; i < count; i += kPanelLanes) {
    const __mmask16 inside = FirstLanes(count - i);
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(inside, to + i));
    const __m512 numbers = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    const __m512 sum = _mm512_add_ps(numbers, _mm512_maskz_loadu_ps(inside, sums + i));
    _mm256_mask_storeu_epi16(to + i, inside, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sum)));
  }
}

inline void Round(const float* sums, int64_t count, BFloat16* result) {
  for (int64_t i = 0; i < count; i += kPanelLanes) {
    const __mmask16 inside = FirstLanes(count - i);
    const __m512 numbers = _mm512_maskz_loadu_ps(inside, sums + i);
    _mm256_mask_storeu_epi16(result + i, inside, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(numbers)));
  }
}

// Computes with VDPBF16PS, which adds two products to a float32 at once: panels hold pairs of depth.
struct BFloat16Panels {
  using Packed = BFloat16;
  static constexpr int64_t kDepthStep = 2;

  // Rows of a thread's turn: whole tiles.
  static int64_t MostRows() {
#if defined(LORASMITH_AMX)
    if (MayUseAmx()) return AmxTiles::kRows;
#endif
    return 2 * kTileRows;
  }

  static Rows<BFloat16> RowsOf(Rows<BFloat16> from, int64_t rows, int64_t depth, std::vector<BFloat16>* copy) {
    // Rows at a multiple of this distance compete for the same cache lines.
    constexpr int64_t kSharedBytes = 2048;
    constexpr int64_t kLine = 64 / sizeof(BFloat16);
    if (from.stride * sizeof(BFloat16) % kSharedBytes != 0 || rows < 4) return from;
    const int64_t stride = RoundUp(depth, kLine) + kLine;
    copy->resize(rows * stride);
    for (int64_t row = 0; row < rows; row++) {
      std::memcpy(copy->data() + row * stride, from.data + row * from.stride, depth * sizeof(BFloat16));
    }
    return {copy->data(), stride};
  }

  // row(k)[0 … columns - 1] → [depth / 2, width, 2]; the depth is rounded up, with zeros.
  template <typename Source, typename RowAt>
  static void Pack(RowAt row, int64_t depth, int64_t columns, int64_t width, float scale, BFloat16* panel) {
    alignas(64) uint16_t order[32];
    for (int i = 0; i < 32; i++) order[i] = static_cast<uint16_t>(i / 2 + (i % 2) * 16);
    const __m512i interleave = Load(order);
    for (int64_t k = 0; k < depth; k += 2) {
      const Source* even = row(k);
      const Source* odd = k + 1 < depth ? row(k + 1) : nullptr;
      for (int64_t first = 0; first < width; first += kPanelLanes) {
        const __mmask16 inside = FirstLanes(columns - first);
        const __m512i pairs = Both(even, odd, first, inside, scale);
        _mm512_storeu_si512(panel + k * width + 2 * first, _mm512_permutexvar_epi16(interleave, pairs));
      }
    }
  }

  template <typename ColumnAt>
  static void PackTransposed(ColumnAt column, int64_t depth, int64_t columns, int64_t width, float scale,
                             BFloat16* panel) {
    const __m512 factor = _mm512_set1_ps(scale);
    for (int64_t first = 0; first < width; first += kPanelLanes) {
      const float* from[kPanelLanes];
      for (int64_t i = 0; i < kPanelLanes; i++) from[i] = first + i < columns ? column(first + i) : nullptr;
      for (int64_t k = 0; k < depth; k += 32) {
        const __mmask16 left = FirstLanes(depth - k), right = FirstLanes(depth - k - 16);
        __m512i block[16];
        for (int64_t i = 0; i < kPanelLanes; i++) {
          block[i] = _mm512_setzero_si512();
          if (from[i] == nullptr) continue;
          const __m512 low = _mm512_mul_ps(_mm512_maskz_loadu_ps(left, from[i] + k), factor);
          const __m512 high = _mm512_mul_ps(_mm512_maskz_loadu_ps(right, from[i] + k + 16), factor);
          block[i] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
        }
        Transpose16(block);
        const int64_t pairs = std::min<int64_t>(16, (depth - k + 1) / 2);
        for (int64_t pair = 0; pair < pairs; pair++) {
          _mm512_storeu_si512(panel + (k + 2 * pair) * width + 2 * first, block[pair]);
        }
      }
    }
  }

  static void Multiply(Rows<BFloat16> a, int64_t rows, const BFloat16* panel, int64_t width, int64_t depth, float* sums,
                       bool accumulate) {
#if defined(LORASMITH_AMX)
    if (depth % AmxTiles::kDepth == 0 && MayUseAmx()) {
      AmxTiles().Multiply({a.data, a.stride}, rows, panel, width, depth, sums, accumulate);
      return;
    }
#endif
    for (int64_t row = 0; row < rows; row += kTileRows) {
      const int64_t some = std::min<int64_t>(kTileRows, rows - row);
      const SumsTile tile = width == kWidestPanel ? kSumsTiles<2>[some] : kSumsTiles<1>[some];
      tile({a.data + row * a.stride, a.stride}, panel, depth, sums + row * width, accumulate);
    }
  }

 private:
  // Sixteen numbers of each row, those of the even row first.
  static __m512i Both(const float* even, const float* odd, int64_t first, __mmask16 inside, float scale) {
    const __m512 factor = _mm512_set1_ps(scale);
    const auto numbers = [&](const float* row) {
      return row == nullptr ? _mm512_setzero_ps() : _mm512_mul_ps(_mm512_maskz_loadu_ps(inside, row + first), factor);
    };
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(numbers(odd), numbers(even)));
  }

  // As they are: only matrices of float32 are scaled.
  static __m512i Both(const BFloat16* even, const BFloat16* odd, int64_t first, __mmask16 inside, float) {
    const auto numbers = [&](const BFloat16* row) {
      return row == nullptr ? _mm256_setzero_si256() : _mm256_maskz_loadu_epi16(inside, row + first);
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(numbers(even)), numbers(odd), 1);
  }

  template <int kRows, int kVectors>
  static void Tile(Rows<BFloat16> a, const BFloat16* panel, int64_t depth, float* result, bool accumulate) {
    constexpr int64_t kWidth = kVectors * kPanelLanes;
    __m512 sums[kRows][kVectors];
#pragma GCC unroll 14
    for (int row = 0; row < kRows; row++) {
      for (int v = 0; v < kVectors; v++) {
        sums[row][v] = accumulate ? _mm512_loadu_ps(result + row * kWidth + v * kPanelLanes) : _mm512_setzero_ps();
      }
    }
    for (int64_t k = 0; k < depth; k += 2) {
      __m512bh columns[kVectors];
      for (int v = 0; v < kVectors; v++) columns[v] = Pairs(Load(panel + k * kWidth + v * 2 * kPanelLanes));
#pragma GCC unroll 14
      for (int row = 0; row < kRows; row++) {
        int32_t pair;
        std::memcpy(&pair, a.data + row * a.stride + k, sizeof(pair));
        const __m512bh factors = Pairs(_mm512_set1_epi32(pair));
        for (int v = 0; v < kVectors; v++) sums[row][v] = _mm512_dpbf16_ps(sums[row][v], factors, columns[v]);
      }
    }
#pragma GCC unroll 14
    for (int row = 0; row < kRows; row++) {
      for (int v = 0; v < kVectors; v++) _mm512_storeu_ps(result + row * kWidth + v * kPanelLanes, sums[row][v]);
    }
  }

  using SumsTile = void (*)(Rows<BFloat16>, const BFloat16*, int64_t, float*, bool);
  template <int kVectors>
  static constexpr SumsTile kSumsTiles[kTileRows + 1] = {nullptr,
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
};

#endif

// Most rows of a thread's turn.
constexpr int64_t kMostRows = 32;
// Multiplications below which waking the other threads takes longer than computing.
constexpr int64_t kFewMultiplications = 1 << 18;

// Rows of a part, counted from its first.
struct Unit {
  int64_t part;
  int64_t begin;
  int64_t end;
};

// Units of at most `most_rows` rows: results stay the same for any number.
inline std::vector<Unit> UnitsOf(const std::vector<Part>& parts, int64_t most_rows) {
  int64_t rows = 0;
  for (const Part& part : parts) rows += part.count;
  const int64_t most = std::clamp(RoundUp(rows / (8 * Threads()), most_rows / 2), most_rows / 2, most_rows);
  std::vector<Unit> units;
  for (size_t i = 0; i < parts.size(); i++) {
    for (int64_t begin = 0; begin < parts[i].count; begin += most) {
      units.push_back({static_cast<int64_t>(i), begin, std::min(parts[i].count, begin + most)});
    }
  }
  return units;
}

// A panel to be packed, of one matrix of a part.
struct PanelPlace {
  int64_t part;
  // -1: A
  int64_t layer;
  int64_t first_column;
  int64_t columns;
  int64_t width;
  // Where it lies in the packed memory.
  int64_t at;
};

// Places panels of a matrix one after the other.
inline void PlacePanels(int64_t part, int64_t layer, int64_t columns, int64_t depth, std::vector<PanelPlace>* panels,
                        int64_t* numbers) {
  for (int64_t first = 0; first < columns; first += kWidestPanel) {
    const int64_t own = std::min(kWidestPanel, columns - first);
    panels->push_back({part, layer, first, own, PanelWidth(own), *numbers});
    *numbers += PanelWidth(own) * depth;
  }
}

inline int64_t MultiplicationsOf(const std::vector<Part>& parts, int64_t in) {
  int64_t all = 0;
  for (const Part& part : parts) {
    all += (part.count + 2) * part.columns * in;
    for (const Layer& layer : part.layers) all += (part.count + 2) * layer.rank * layer.rows;
  }
  return all;
}

// A thread's memory, reused.
template <typename Panels, typename Number>
struct Workspace {
  std::vector<typename Panels::Packed> rows;
  std::vector<typename Panels::Packed> low;
  std::vector<Number> numbers;
  std::vector<typename Panels::Packed> panel;
  std::vector<float> sums;
};

template <typename Panels, typename Number>
Workspace<Panels, Number>& ThreadWorkspace() {
  static thread_local Workspace<Panels, Number> workspace;
  return workspace;
}

// Asks for rows of `columns` numbers, `stride` apart, that are used soon. Where rows are far apart, the
// processor does not foresee them by itself.
template <typename Number>
void Prefetch(const Number* data, int64_t stride, int64_t rows, int64_t columns) {
  constexpr int64_t kLine = 64 / sizeof(Number);
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t i = 0; i < columns; i += kLine) __builtin_prefetch(data + row * stride + i);
  }
}

// Calls run with the panels for rows of `in` numbers: bfloat16 where they fit its steps of depth, else float32.
template <typename Number, typename Body>
void WithPanels(int64_t in, const Body& run) {
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<Number, BFloat16>) {
    if (in % BFloat16Panels::kDepthStep == 0) {
      run(BFloat16Panels{});
      return;
    }
  }
#endif
  run(Float32Panels<Number>{});
}

}  // namespace lorasmith
