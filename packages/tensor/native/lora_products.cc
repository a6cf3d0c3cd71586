// Low-rank adaptation of a group of linear layers (Hu et al. 2021, arXiv:2106.09685) by several adapters at once: each
// acts on its own rows of the stream, with its own ranks, layers and dropout.
//
// Nothing of one adapter is ever multiplied with anything of another, and every sum is in an order that follows from
// the adapter's own sizes: so neither the bits of its results nor its NaN depend on the others, or on the number of
// threads.
#include <algorithm>
#include <cstring>
#include <vector>

#include "dropout.h"
#include "kernel.h"
#include "lora_panels.h"
#include "parallel.h"

namespace lorasmith {
namespace {

// Tokens that are packed at once for a gradient: their panel stays in the second-level cache.
constexpr int64_t kTokenChunk = 1024;
// Panels of a gradient that a thread computes in one turn.
constexpr int64_t kGradientPanels = 4;
// Most rows of a thread's turn.
constexpr int64_t kMostRows = 32;
// Multiplications below which waking the other threads takes longer than computing.
constexpr int64_t kFewMultiplications = 1 << 18;

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

  int64_t Ranks() const {
    int64_t ranks = 0;
    for (const Layer& layer : layers) ranks += layer.rank;
    return ranks;
  }
};

// What `layout` has of each adapter, before what it has of each of its layers: rank, first row, rows, bits of the
// scale.
enum PartField { kFirst, kCount, kOffset, kLayers, kRateBits, kScaleBits, kSeed0, kSeed1, kPartFields };
constexpr int64_t kLayerFields = 4;

float FloatOf(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
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
      const Layer layer{layout[at], layout[at + 1], layout[at + 2], FloatOf(layout[at + 3]), part.columns, nullptr};
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

// Rows of a part, counted from its first.
struct Unit {
  int64_t part;
  int64_t begin;
  int64_t end;
};

// Units of at most so many rows: results stay the same for any number.
std::vector<Unit> UnitsOf(const std::vector<Part>& parts, int64_t most_rows) {
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
void PlacePanels(int64_t part, int64_t layer, int64_t columns, int64_t depth, std::vector<PanelPlace>* panels,
                 int64_t* numbers) {
  for (int64_t first = 0; first < columns; first += kWidestPanel) {
    const int64_t own = std::min(kWidestPanel, columns - first);
    panels->push_back({part, layer, first, own, PanelWidth(own), *numbers});
    *numbers += PanelWidth(own) * depth;
  }
}

int64_t MultiplicationsOf(const std::vector<Part>& parts, int64_t in) {
  int64_t all = 0;
  for (const Part& part : parts) {
    all += (part.count + 2) * part.columns * in;
    for (const Layer& layer : part.layers) all += (part.count + 2) * layer.rank * layer.rows;
  }
  return all;
}

// The memory of an input that becomes an output: it is nobody else's.
template <typename Number>
Number* TakeOver(Context& context, int input, int output) {
  context.Forward(input, output);
  return const_cast<Number*>(context.Input<Number>(input));
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

// Asks for rows of numbers that are used soon: of so many columns, `stride` apart. Where rows are far apart, the
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

// gradient [tokens, out], x [rows of the adapters, in], `low`, base [tokens, in] or [0], layout, parameters of each
// adapter → base + what comes through the adapters [tokens, in], or [0]; and the gradient by each adapter's parameters
// of the group
template <typename Number>
struct LoraBackward {
  void Compute(Context& context) const {
    WithPanels<Number>(context.Dim(1, 1), [&](auto panels) { Run<decltype(panels)>(context); });
  }

 private:
  // By the rows of one matrix of a part, or by its transposed columns.
  struct GradientPlace {
    int64_t part;
    // -1: A
    int64_t layer;
    int64_t first_panel;
    int64_t end_panel;
  };

  // What the products over a part's tokens need, [columns, tokens] each.
  template <typename Packed>
  struct Transposed {
    Packed* low;
    Packed* by_low;
    // [tokens, in] x where dropout left it; null without dropout
    Number* dropped;
    int64_t tokens;
  };

  template <typename Panels>
  static void Run(Context& context) {
    using Packed = typename Panels::Packed;
    const int64_t tokens = context.Dim(0, 0), out = context.Dim(0, 1), in = context.Dim(1, 1);
    const Number* gradient = context.Input<Number>(0);
    const Number* x = context.Input<Number>(1);
    const Number* low = context.Input<Number>(2);
    const bool wanted = context.Size(3) > 0;
    std::vector<Part> parts;
    if (!ReadParts<Number>(context, 4, tokens, in, out, Panels::kDepthStep, &parts)) return;
    const Part& last = parts.back();
    const bool fits = context.Dim(1, 0) == last.saved_first + last.count &&
                      context.Size(2) == last.low_first + last.count * last.columns &&
                      (!wanted || (context.Dim(3, 0) == tokens && context.Dim(3, 1) == in));
    if (!context.Check(fits, "what was saved must be of the adapters' rows")) return;
    // Each B and A, both as second matrices: the gradient times B, and that times A.
    std::vector<PanelPlace> panels;
    std::vector<int64_t> first_panels;
    int64_t packed_numbers = 0;
    for (size_t i = 0; i < parts.size(); i++) {
      first_panels.push_back(static_cast<int64_t>(panels.size()));
      const int64_t part = static_cast<int64_t>(i);
      for (size_t j = 0; j < parts[i].layers.size(); j++) {
        const Layer& layer = parts[i].layers[j];
        const int64_t depth = RoundUp(layer.rows, Panels::kDepthStep);
        PlacePanels(part, static_cast<int64_t>(j), layer.rank, depth, &panels, &packed_numbers);
      }
      if (wanted) PlacePanels(part, -1, in, parts[i].columns, &panels, &packed_numbers);
    }
    std::vector<Transposed<Packed>> transposed(parts.size());
    for (size_t i = 0; i < parts.size(); i++) {
      const Part& part = parts[i];
      Transposed<Packed>& own = transposed[i];
      own.tokens = RoundUp(part.count, Panels::kDepthStep);
      own.low = context.Scratch<Packed>(2 * part.columns * own.tokens);
      own.by_low = own.low + part.columns * own.tokens;
      own.dropped = part.has_dropout ? context.Scratch<Number>(part.count * in) : nullptr;
    }
    Packed* packed = context.Scratch<Packed>(packed_numbers);
    Number* result = TakeOver<Number>(context, 3, 0);
    std::vector<float*> gradients;
    for (size_t i = 0; i < parts.size(); i++) {
      gradients.push_back(context.Output<float>(static_cast<int>(i) + 1, {parts[i].numbers}));
    }
    if (context.failed()) return;

    const auto pack = [&](int64_t index) {
      const PanelPlace& place = panels[index];
      const Part& part = parts[place.part];
      if (place.layer < 0) {
        const auto row = [&](int64_t k) {
          const float* a = part.a_rows[k];
          return a == nullptr ? nullptr : a + place.first_column;
        };
        Panels::template Pack<float>(row, part.columns, place.columns, place.width, 1.0f, packed + place.at);
      } else {
        const Layer& layer = part.layers[place.layer];
        const auto row = [&](int64_t k) { return layer.b + k * layer.rank + place.first_column; };
        Panels::template Pack<float>(row, layer.rows, place.columns, place.width, layer.scale, packed + place.at);
      }
    };

    const std::vector<Unit> units = UnitsOf(parts, Panels::MostRows());
    const auto multiply = [&](int64_t index) {
      const Unit& unit = units[index];
      const int64_t rows = unit.end - unit.begin;
      const Part& part = parts[unit.part];
      const Transposed<Packed>& own = transposed[unit.part];
      const int64_t first = part.first + unit.begin;
      auto& memory = ThreadWorkspace<Panels, Number>();
      const Rows<Packed> by_output = Panels::RowsOf({gradient + first * out, out}, rows, out, &memory.rows);
      memory.low.assign(rows * part.columns, Packed{});
      Packed* by_low = memory.low.data();
      float sums[kMostRows * kWidestPanel];
      const PanelPlace* place = panels.data() + first_panels[unit.part];
      for (const Layer& layer : part.layers) {
        const int64_t depth = RoundUp(layer.rows, Panels::kDepthStep);
        Rows<Packed> by_layer{by_output.data + layer.first_row, by_output.stride};
        if (depth > layer.rows) by_layer = WithZeros(by_layer, rows, layer.rows, depth, &memory.panel);
        for (int64_t panel = 0; panel < PanelsOf(layer.rank); panel++, place++) {
          Panels::Multiply(by_layer, rows, packed + place->at, place->width, depth, sums, false);
          for (int64_t row = 0; row < rows; row++) {
            Number rounded[kWidestPanel];
            Round(sums + row * place->width, place->columns, rounded);
            Packed* to = by_low + row * part.columns + layer.column + place->first_column;
            for (int64_t i = 0; i < place->columns; i++) Assign(rounded[i], to + i);
          }
        }
      }
      const Number* own_low = low + part.low_first + unit.begin * part.columns;
      for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < part.columns; i++) {
          const int64_t at = i * own.tokens + unit.begin + row;
          Assign(own_low[row * part.columns + i], own.low + at);
          own.by_low[at] = by_low[row * part.columns + i];
        }
      }
      // The last unit of a part has the tokens that its number is rounded up by.
      for (int64_t token = part.count; unit.end == part.count && token < own.tokens; token++) {
        for (int64_t i = 0; i < part.columns; i++) {
          own.low[i * own.tokens + token] = own.by_low[i * own.tokens + token] = Packed{};
        }
      }
      if (part.has_dropout) {
        const Number* own_x = x + (part.saved_first + unit.begin) * in;
        Drop(part.mask, own_x, unit.begin * in, rows * in, own.dropped + unit.begin * in);
      }
      if (!wanted) return;
      Number* through = part.has_dropout ? Resized(rows * in, &memory.numbers) : nullptr;
      for (int64_t panel = 0; panel < PanelsOf(in); panel++, place++) {
        Panels::Multiply({by_low, part.columns}, rows, packed + place->at, place->width, part.columns, sums, false);
        Prefetch(result + first * in + place->first_column + kWidestPanel, in, rows,
                 panel + 1 < PanelsOf(in) ? kWidestPanel : 0);
        for (int64_t row = 0; row < rows; row++) {
          const int64_t at = row * in + place->first_column;
          const float* row_sums = sums + row * place->width;
          if (part.has_dropout) {
            Round(row_sums, place->columns, through + at);
          } else {
            AddSums(row_sums, place->columns, result + first * in + at);
          }
        }
      }
      if (!part.has_dropout) return;
      Drop(part.mask, through, unit.begin * in, rows * in, through);
      Number* to = result + first * in;
#pragma omp simd
      for (int64_t i = 0; i < rows * in; i++) Store(ToFloat(to[i]) + ToFloat(through[i]), to + i);
    };

    std::vector<GradientPlace> places;
    for (size_t i = 0; i < parts.size(); i++) {
      for (int64_t layer = -1; layer < static_cast<int64_t>(parts[i].layers.size()); layer++) {
        const int64_t all = PanelsOf(layer < 0 ? in : parts[i].layers[layer].rows);
        for (int64_t panel = 0; panel < all; panel += kGradientPanels) {
          places.push_back({static_cast<int64_t>(i), layer, panel, std::min(all, panel + kGradientPanels)});
        }
      }
    }
    const auto by_parameters = [&](int64_t index) {
      const GradientPlace& place = places[index];
      const Part& part = parts[place.part];
      const Transposed<Packed>& own = transposed[place.part];
      float* to = gradients[place.part];
      const Number* own_x = part.has_dropout ? own.dropped : x + part.saved_first * in;
      const int64_t first_column = place.first_panel * kWidestPanel;
      const int64_t tokens = std::min(part.count, kTokenChunk);
      if (place.layer < 0) {
        Prefetch(own_x + first_column, in, tokens, std::min(kGradientPanels * kWidestPanel, in - first_column));
      } else {
        const Layer& layer = part.layers[place.layer];
        Prefetch(gradient + part.first * out + layer.first_row + first_column, out, tokens,
                 std::min(kGradientPanels * kWidestPanel, layer.rows - first_column));
      }
      for (int64_t panel = place.first_panel; panel < place.end_panel; panel++) {
        const int64_t column = panel * kWidestPanel;
        if (place.layer < 0) {
          const int64_t columns = std::min(kWidestPanel, in - column);
          const float* sums =
              OverTokens<Panels>({own.by_low, own.tokens}, part.columns, {own_x + column, in}, part.count, columns);
          for (int64_t i = 0; i < part.columns; i++) {
            if (part.a_rows[i] == nullptr) continue;
            std::copy_n(sums + i * PanelWidth(columns), columns, to + (part.a_rows[i] - part.a) + column);
          }
          continue;
        }
        const Layer& layer = part.layers[place.layer];
        const int64_t columns = std::min(kWidestPanel, layer.rows - column);
        const int64_t width = PanelWidth(columns);
        const Number* by_output = gradient + part.first * out + layer.first_row + column;
        const float* sums = OverTokens<Panels>({own.low + layer.column * own.tokens, own.tokens}, layer.rank,
                                               {by_output, out}, part.count, columns);
        float* by_b = to + (layer.b - part.a) + column * layer.rank;
        for (int64_t row = 0; row < columns; row++) {
          for (int64_t i = 0; i < layer.rank; i++) by_b[row * layer.rank + i] = sums[i * width + row] * layer.scale;
        }
      }
    };
    const bool few = MultiplicationsOf(parts, in) < kFewMultiplications;
    ParallelPhases({{static_cast<int64_t>(panels.size()), pack},
                    {static_cast<int64_t>(units.size()), multiply},
                    {static_cast<int64_t>(places.size()), by_parameters}},
                   few);
  }

  static void Assign(float value, float* to) { *to = value; }
  static void Assign(BFloat16 value, BFloat16* to) { *to = value; }
  static void Assign(BFloat16 value, float* to) { *to = ToFloat(value); }

  // A copy that has zeros beyond its columns, where the next number may be another adapter's.
  template <typename Packed>
  static Rows<Packed> WithZeros(Rows<Packed> from, int64_t rows, int64_t columns, int64_t stride,
                                std::vector<Packed>* copy) {
    copy->assign(rows * stride, Packed{});
    for (int64_t row = 0; row < rows; row++) {
      std::copy_n(from.data + row * from.stride, columns, copy->data() + row * stride);
    }
    return {copy->data(), stride};
  }

  static Number* Resized(int64_t count, std::vector<Number>* numbers) {
    numbers->resize(count);
    return numbers->data();
  }

  // a [rows, tokens] times columns of b [tokens, …] → [rows, width of the panel], in the thread's memory
  template <typename Panels>
  static const float* OverTokens(Rows<typename Panels::Packed> a, int64_t rows, Rows<Number> b, int64_t tokens,
                                 int64_t columns) {
    auto& memory = ThreadWorkspace<Panels, Number>();
    const int64_t width = PanelWidth(columns);
    memory.sums.resize(rows * width);
    memory.panel.resize(kTokenChunk * width);
    for (int64_t from = 0; from < tokens; from += kTokenChunk) {
      const int64_t count = std::min(kTokenChunk, tokens - from);
      const auto row = [&](int64_t k) { return b.data + (from + k) * b.stride; };
      Panels::template Pack<Number>(row, count, columns, width, 1.0f, memory.panel.data());
      Panels::Multiply({a.data + from, a.stride}, rows, memory.panel.data(), width, RoundUp(count, Panels::kDepthStep),
                       memory.sums.data(), from > 0);
    }
    return memory.sums.data();
  }
};

}  // namespace

std::vector<OpDefinition> LoraProductOps() {
  return {
      {"LorasmithLoraForward",
       {"base: T", "x: T", "layout: int32", "parameters: N * float"},
       {"result: T", "low: T"},
       {"N: int"},
       CpuKernels<LoraForward>()},
      {"LorasmithLoraBackward",
       {"gradient: T", "x: T", "low: T", "base: T", "layout: int32", "parameters: N * float"},
       {"result: T", "gradients: N * float"},
       {"N: int"},
       CpuKernels<LoraBackward>()},
  };
}

}  // namespace lorasmith
