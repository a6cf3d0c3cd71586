// The output of low-rank adaptation by several adapters: lora_products.h.
#include "ops/lora/lora_products.h"

namespace lorasmith {
namespace {

// base [tokens, out], x [tokens, in], layout, parameters of each adapter → base + scale · B A dropout(x) [tokens, out],
// and `low`: A dropout(x) of each adapter [its rows, its columns]
template <typename Number>
struct LoraForward {
  void Compute(Context& context) const {
    WithPanels<Number>(context.Dim(1, 1), [&](auto panels) { Run<decltype(panels)>(context); });
  }

 private:
  template <typename Panels>
  static void Run(Context& context) {
    using Packed = typename Panels::Packed;
    const int64_t tokens = context.Dim(0, 0), out = context.Dim(0, 1), in = context.Dim(1, 1);
    const Number* x = context.Input<Number>(1);
    if (!context.Check(context.Dim(1, 0) == tokens, "the input and the output must have the same rows")) return;
    std::vector<Part> parts;
    if (!ReadParts<Number>(context, 2, tokens, in, out, Panels::kDepthStep, &parts)) return;
    // A and each B, both as second matrices: x times A transposed, and that times B transposed.
    std::vector<PanelPlace> panels;
    std::vector<int64_t> first_panels;
    int64_t packed_numbers = 0;
    for (size_t i = 0; i < parts.size(); i++) {
      first_panels.push_back(static_cast<int64_t>(panels.size()));
      const int64_t part = static_cast<int64_t>(i);
      PlacePanels(part, -1, parts[i].columns, in, &panels, &packed_numbers);
      for (size_t j = 0; j < parts[i].layers.size(); j++) {
        const Layer& layer = parts[i].layers[j];
        const int64_t depth = RoundUp(layer.rank, Panels::kDepthStep);
        PlacePanels(part, static_cast<int64_t>(j), layer.rows, depth, &panels, &packed_numbers);
      }
    }
    Packed* packed = context.Scratch<Packed>(packed_numbers);
    Number* result = TakeOver<Number>(context, 0, 0);
    Number* low = context.Output<Number>(1, {parts.back().low_first + parts.back().count * parts.back().columns});
    if (context.failed()) return;
    const auto pack = [&](int64_t index) {
      const PanelPlace& place = panels[index];
      const Part& part = parts[place.part];
      if (place.layer < 0) {
        const auto column = [&](int64_t i) { return part.a_rows[place.first_column + i]; };
        Panels::PackTransposed(column, in, place.columns, place.width, 1.0f, packed + place.at);
      } else {
        const Layer& layer = part.layers[place.layer];
        const auto column = [&](int64_t i) { return layer.b + (place.first_column + i) * layer.rank; };
        Panels::PackTransposed(column, layer.rank, place.columns, place.width, layer.scale, packed + place.at);
      }
    };
    const std::vector<Unit> units = UnitsOf(parts, Panels::MostRows());
    const auto multiply = [&](int64_t index) {
      const Unit& unit = units[index];
      const int64_t rows = unit.end - unit.begin;
      const Part& part = parts[unit.part];
      const int64_t first = part.first + unit.begin;
      auto& memory = ThreadWorkspace<Panels, Number>();
      const Number* own_x = x + first * in;
      Prefetch(own_x, in, rows, in);
      if (part.has_dropout) {
        memory.numbers.resize(rows * in);
        Drop(part.mask, own_x, unit.begin * in, rows * in, memory.numbers.data());
        own_x = memory.numbers.data();
      }
      const Rows<Packed> input = Panels::RowsOf({own_x, in}, rows, in, &memory.rows);
      Number* own_low = low + part.low_first + unit.begin * part.columns;
      float sums[kMostRows * kWidestPanel];
      const PanelPlace* place = panels.data() + first_panels[unit.part];
      for (; place < panels.data() + panels.size() && place->part == unit.part && place->layer < 0; place++) {
        Panels::Multiply(input, rows, packed + place->at, place->width, in, sums, false);
        for (int64_t row = 0; row < rows; row++) {
          Round(sums + row * place->width, place->columns, own_low + row * part.columns + place->first_column);
        }
      }
      const Rows<Packed> low_rows = Panels::RowsOf({own_low, part.columns}, rows, part.columns, &memory.low);
      for (const Layer& layer : part.layers) {
        const int64_t depth = RoundUp(layer.rank, Panels::kDepthStep);
        for (int64_t panel = 0; panel < PanelsOf(layer.rows); panel++, place++) {
          Panels::Multiply({low_rows.data + layer.column, low_rows.stride}, rows, packed + place->at, place->width,
                           depth, sums, false);
          Number* to = result + first * out + layer.first_row + place->first_column;
          Prefetch(to + kWidestPanel, out, rows, panel + 1 < PanelsOf(layer.rows) ? kWidestPanel : 0);
          for (int64_t row = 0; row < rows; row++) {
            AddSums(sums + row * place->width, place->columns, to + row * out);
          }
        }
      }
    };
    const bool few = MultiplicationsOf(parts, in) < kFewMultiplications;
    ParallelPhases({{static_cast<int64_t>(panels.size()), pack}, {static_cast<int64_t>(units.size()), multiply}}, few);
  }
};

}  // namespace

std::vector<OpDefinition> LoraForwardOps() {
  return {
      {"LorasmithLoraForward",
       {"base: T", "x: T", "layout: int32", "parameters: N * float"},
       {"result: T", "low: T"},
       {"N: int"},
       CpuKernels<LoraForward>()},
      // On GPUs alone, for one adapter.
      {"LorasmithAdaptedForward",
       {"x: T", "weight: T", "layout: int32", "parameters: N * float"},
       {"result: T", "low: T"},
       {"N: int", "out: int"},
       {}},
      // The same with weights in 4 and 8 bits, of which so many bytes are decoded at a time.
      {"LorasmithAdaptedQuantizedForward",
       {"x: T", "codes: uint8", "scales: uint8", "nested_scales: float", "modules: float", "layout: int32",
        "parameters: N * float"},
       {"result: T", "low: T"},
       {"N: int", "out: int", "most_decoded_bytes: int"},
       {}},
      {"LorasmithAdaptedScaledForward",
       {"x: T", "codes: uint8", "scales: float", "bands: int32", "layout: int32", "parameters: N * float"},
       {"result: T", "low: T"},
       {"N: int", "out: int", "most_decoded_bytes: int", "block_shift: int"},
       {}},
  };
}

}  // namespace lorasmith
