// The adapters that LoRA's products compute with, as read from an op's inputs.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "cpu/kernel.h"
#include "ops/dropout/dropout.h"

namespace lorasmith {

// The numbers by which the input `layout` of LoRA's products describes its adapters: of each adapter the fields of
// PartField, then of each of its layers those of LayerField. A field named …Bits holds the bits of a float32.
// src/kernels/lora.ts writes them; a test compares the two lists.
enum PartField { kFirst, kCount, kOffset, kLayers, kRateBits, kScaleBits, kSeed0, kSeed1, kPartFields };

enum LayerField { kRank, kFirstRow, kRows, kLayerScaleBits, kLayerFields };

// An adapted layer of the group.
struct Layer {
  int64_t rank;
  // Of the group's output.
  int64_t first_row;
  int64_t rows;
  float scale;
  // Where its ranks begin in a row of `low`.
  int64_t column;
  const float* b;  // [rows, rank]
};

// An adapter with the rows it acts on.
struct Part {
  int64_t first;
  int64_t count;
  // Of its rows in x as it was saved: without the rows that no adapter acts on.
  int64_t saved_first;
  // Of its numbers in `low`.
  int64_t low_first;
  int64_t columns;
  const float* a;  // [sum of rank, in]
  // By column of `low`; null where a rank was rounded up.
  std::vector<const float*> a_rows;
  std::vector<Layer> layers;
  // Of its parameters in the group.
  int64_t numbers;
  bool has_dropout;
  DropoutMask mask;
};

inline float FloatOf(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The memory of an input that becomes an output: it is nobody else's.
template <typename Number>
Number* TakeOver(Context& context, int input, int output) {
  context.Forward(input, output);
  return const_cast<Number*>(context.Input<Number>(input));
}

// Reads the adapters; false after a failure.
template <typename Number>
bool ReadParts(Context& context, int layout_input, int64_t tokens, int64_t in, int64_t out, int64_t depth_step,
               std::vector<Part>* parts) {
  const int32_t* layout = context.Input<int32_t>(layout_input);
  const int64_t size = context.Size(layout_input);
  const int first_parameters = layout_input + 1;
  int64_t at = 0, next_row = 0, saved_first = 0, low_first = 0;
  for (int input = first_parameters; input < context.InputCount(); input++) {
    const float* parameters = context.Input<float>(input);
    if (!context.Check(at + kPartFields <= size, "the layout must describe every adapter")) return false;
    const int32_t* field = layout + at;
    at += kPartFields;
    Part part;
    part.first = field[kFirst];
    part.count = field[kCount];
    const bool lies_inside = part.first >= next_row && part.count > 0 && part.first + part.count <= tokens;
    if (!context.Check(lies_inside, "the adapters' rows must ascend, not overlap, and lie in the stream")) return false;
    next_row = part.first + part.count;
    const int64_t layers = field[kLayers], offset = field[kOffset];
    if (!context.Check(layers > 0 && at + layers * kLayerFields <= size, "the layout must describe every layer")) {
      return false;
    }
    int64_t ranks = 0, next = 0;
    part.columns = 0;
    for (int64_t i = 0; i < layers; i++, at += kLayerFields) {
      const int32_t* own = layout + at;
      const Layer layer{own[kRank], own[kFirstRow], own[kRows], FloatOf(own[kLayerScaleBits]), part.columns, nullptr};
      const bool fits = layer.rank > 0 && layer.first_row >= next && layer.rows > 0;
      if (!context.Check(fits, "the layers must lie in the group, in their order")) return false;
      next = layer.first_row + layer.rows;
      ranks += layer.rank;
      part.columns += RoundUp(layer.rank, depth_step);
      part.layers.push_back(layer);
    }
    part.numbers = ranks * in;
    for (const Layer& layer : part.layers) part.numbers += layer.rank * layer.rows;
    const bool holds = next <= out && offset >= 0 && offset + part.numbers <= context.Size(input);
    if (!context.Check(holds, "the group must lie in the parameters")) return false;
    part.a = parameters + offset;
    const float* b = part.a + ranks * in;
    const float* a = part.a;
    for (Layer& layer : part.layers) {
      layer.b = b;
      b += layer.rank * layer.rows;
      part.a_rows.resize(layer.column, nullptr);
      for (int64_t i = 0; i < layer.rank; i++, a += in) part.a_rows.push_back(a);
    }
    part.a_rows.resize(part.columns, nullptr);
    part.has_dropout = FloatOf(field[kRateBits]) > 0;
    part.mask = MaskOf<Number>(field + kSeed0, FloatOf(field[kRateBits]), FloatOf(field[kScaleBits]));
    part.saved_first = saved_first;
    part.low_first = low_first;
    saved_first += part.count;
    low_first += part.count * part.columns;
    parts->push_back(std::move(part));
  }
  return !context.failed() && context.Check(at == size, "the layout must describe the given adapters only");
}

}  // namespace lorasmith
