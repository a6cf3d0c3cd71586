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
#include "cpu/parallel.h"
#include "ops/lora/lora_panels.h"
#include "ops/lora/lora_parts.h"

namespace lorasmith {

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
