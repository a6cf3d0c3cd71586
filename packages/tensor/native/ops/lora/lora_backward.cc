// The gradient of low-rank adaptation by several adapters: lora_products.h.
#include "ops/lora/lora_products.h"

namespace lorasmith {
namespace {

// Tokens that are packed at once for a gradient: their panel stays in the second-level cache.
constexpr int64_t kTokenChunk = 1024;
// Panels of a gradient that a thread computes in one turn.
constexpr int64_t kGradientPanels = 4;

// One run of the op, in three phases: the parts' B and A are packed; each unit of rows computes its gradients by `low`
// and by the input; then come the gradients by parameters, which sum over all tokens of a part.
template <typename Panels, typename Number>
class BackwardRun {
 public:
  explicit BackwardRun(Context& context)
      : tokens_(context.Dim(0, 0)),
        out_(context.Dim(0, 1)),
        in_(context.Dim(1, 1)),
        wanted_(context.Size(3) > 0),
        gradient_(context.Input<Number>(0)),
        x_(context.Input<Number>(1)),
        low_(context.Input<Number>(2)) {
    if (!ReadParts<Number>(context, 4, tokens_, in_, out_, Panels::kDepthStep, &parts_)) return;
    const Part& last = parts_.back();
    const bool fits = context.Dim(1, 0) == last.saved_first + last.count &&
                      context.Size(2) == last.low_first + last.count * last.columns &&
                      (!wanted_ || (context.Dim(3, 0) == tokens_ && context.Dim(3, 1) == in_));
    if (!context.Check(fits, "what was saved must be of the adapters' rows")) return;
    const int64_t packed_numbers = PlaceAll();
    for (const Part& part : parts_) {
      const int64_t tokens = RoundUp(part.count, Panels::kDepthStep);
      Packed* low = context.Scratch<Packed>(2 * part.columns * tokens);
      Number* dropped = part.has_dropout ? context.Scratch<Number>(part.count * in_) : nullptr;
      transposed_.push_back({low, low + part.columns * tokens, dropped, tokens});
    }
    packed_ = context.Scratch<Packed>(packed_numbers);
    result_ = TakeOver<Number>(context, 3, 0);
    for (size_t i = 0; i < parts_.size(); i++) {
      gradients_.push_back(context.Output<float>(static_cast<int>(i) + 1, {parts_[i].numbers}));
    }
    units_ = UnitsOf(parts_, Panels::MostRows());
  }

  void Compute() const {
    const auto pack = [&](int64_t index) { Pack(panels_[index]); };
    const auto multiply = [&](int64_t index) { Multiply(units_[index]); };
    const auto by_parameters = [&](int64_t index) { SumOverTokens(places_[index]); };
    ParallelPhases({{static_cast<int64_t>(panels_.size()), pack},
                    {static_cast<int64_t>(units_.size()), multiply},
                    {static_cast<int64_t>(places_.size()), by_parameters}},
                   MultiplicationsOf(parts_, in_) < kFewMultiplications);
  }

 private:
  using Packed = typename Panels::Packed;

  // Gradients by the rows of one matrix of a part, or by its transposed columns.
  struct GradientPlace {
    int64_t part;
    // -1: A
    int64_t layer;
    int64_t first_panel;
    int64_t end_panel;
  };

  // Operands of the products over a part's tokens, [columns, tokens] each.
  struct Transposed {
    Packed* low;
    Packed* by_low;
    // [tokens, in] x where dropout left it; null without dropout
    Number* dropped;
    int64_t tokens;
  };

  // Places each B and A, both as second matrices (the gradient times B, and that times A), and the gradients. Returns
  // how many numbers are packed.
  int64_t PlaceAll() {
    int64_t packed_numbers = 0;
    for (size_t i = 0; i < parts_.size(); i++) {
      first_panels_.push_back(static_cast<int64_t>(panels_.size()));
      const int64_t part = static_cast<int64_t>(i);
      const int64_t layers = static_cast<int64_t>(parts_[i].layers.size());
      for (int64_t j = 0; j < layers; j++) {
        const Layer& layer = parts_[i].layers[j];
        PlacePanels(part, j, layer.rank, RoundUp(layer.rows, Panels::kDepthStep), &panels_, &packed_numbers);
      }
      if (wanted_) PlacePanels(part, -1, in_, parts_[i].columns, &panels_, &packed_numbers);
      for (int64_t layer = -1; layer < layers; layer++) {
        const int64_t all = PanelsOf(layer < 0 ? in_ : parts_[i].layers[layer].rows);
        for (int64_t panel = 0; panel < all; panel += kGradientPanels) {
          places_.push_back({part, layer, panel, std::min(all, panel + kGradientPanels)});
        }
      }
    }
    return packed_numbers;
  }

  void Pack(const PanelPlace& place) const {
    const Part& part = parts_[place.part];
    if (place.layer < 0) {
      const auto row = [&](int64_t k) {
        const float* a = part.a_rows[k];
        return a == nullptr ? nullptr : a + place.first_column;
      };
      Panels::template Pack<float>(row, part.columns, place.columns, place.width, 1.0f, packed_ + place.at);
    } else {
      const Layer& layer = part.layers[place.layer];
      const auto row = [&](int64_t k) { return layer.b + k * layer.rank + place.first_column; };
      Panels::template Pack<float>(row, layer.rows, place.columns, place.width, layer.scale, packed_ + place.at);
    }
  }

  // The gradients of a unit's rows by `low` and by the input.
  void Multiply(const Unit& unit) const {
    const int64_t rows = unit.end - unit.begin;
    const Part& part = parts_[unit.part];
    auto& memory = ThreadWorkspace<Panels, Number>();
    memory.low.assign(rows * part.columns, Packed{});
    Packed* by_low = memory.low.data();
    const PanelPlace* place = MultiplyByB(unit, by_low);
    SaveTransposed(unit, by_low);
    if (part.has_dropout) {
      const Number* own_x = x_ + (part.saved_first + unit.begin) * in_;
      Drop(part.mask, own_x, unit.begin * in_, rows * in_, transposed_[unit.part].dropped + unit.begin * in_);
    }
    if (wanted_) MultiplyByA(unit, by_low, place);
  }

  // The gradient by the output times each B → by_low [rows, columns]. Returns the place of the first panel of A.
  const PanelPlace* MultiplyByB(const Unit& unit, Packed* by_low) const {
    const int64_t rows = unit.end - unit.begin;
    const Part& part = parts_[unit.part];
    const int64_t first = part.first + unit.begin;
    auto& memory = ThreadWorkspace<Panels, Number>();
    const Rows<Packed> by_output = Panels::RowsOf({gradient_ + first * out_, out_}, rows, out_, &memory.rows);
    float sums[kMostRows * kWidestPanel];
    const PanelPlace* place = panels_.data() + first_panels_[unit.part];
    for (const Layer& layer : part.layers) {
      const int64_t depth = RoundUp(layer.rows, Panels::kDepthStep);
      Rows<Packed> by_layer{by_output.data + layer.first_row, by_output.stride};
      if (depth > layer.rows) by_layer = WithZeros(by_layer, rows, layer.rows, depth, &memory.panel);
      for (int64_t panel = 0; panel < PanelsOf(layer.rank); panel++, place++) {
        Panels::Multiply(by_layer, rows, packed_ + place->at, place->width, depth, sums, false);
        for (int64_t row = 0; row < rows; row++) {
          Number rounded[kWidestPanel];
          Round(sums + row * place->width, place->columns, rounded);
          Packed* to = by_low + row * part.columns + layer.column + place->first_column;
          for (int64_t i = 0; i < place->columns; i++) Assign(rounded[i], to + i);
        }
      }
    }
    return place;
  }

  // Keeps `low` and its gradient for the products over the tokens.
  void SaveTransposed(const Unit& unit, const Packed* by_low) const {
    const Part& part = parts_[unit.part];
    const Transposed& own = transposed_[unit.part];
    const Number* own_low = low_ + part.low_first + unit.begin * part.columns;
    for (int64_t row = 0; row < unit.end - unit.begin; row++) {
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
  }

  // Adds by_low times A, through dropout, to the gradient by the input.
  void MultiplyByA(const Unit& unit, const Packed* by_low, const PanelPlace* place) const {
    const int64_t rows = unit.end - unit.begin;
    const Part& part = parts_[unit.part];
    const int64_t first = part.first + unit.begin;
    auto& memory = ThreadWorkspace<Panels, Number>();
    float sums[kMostRows * kWidestPanel];
    Number* through = part.has_dropout ? Resized(rows * in_, &memory.numbers) : nullptr;
    for (int64_t panel = 0; panel < PanelsOf(in_); panel++, place++) {
      Panels::Multiply({by_low, part.columns}, rows, packed_ + place->at, place->width, part.columns, sums, false);
      Prefetch(result_ + first * in_ + place->first_column + kWidestPanel, in_, rows,
               panel + 1 < PanelsOf(in_) ? kWidestPanel : 0);
      for (int64_t row = 0; row < rows; row++) {
        const int64_t at = row * in_ + place->first_column;
        const float* row_sums = sums + row * place->width;
        if (part.has_dropout) {
          Round(row_sums, place->columns, through + at);
        } else {
          AddSums(row_sums, place->columns, result_ + first * in_ + at);
        }
      }
    }
    if (!part.has_dropout) return;
    Drop(part.mask, through, unit.begin * in_, rows * in_, through);
    Number* to = result_ + first * in_;
#pragma omp simd
    for (int64_t i = 0; i < rows * in_; i++) Store(ToFloat(to[i]) + ToFloat(through[i]), to + i);
  }

  void SumOverTokens(const GradientPlace& place) const {
    const Part& part = parts_[place.part];
    const int64_t first_column = place.first_panel * kWidestPanel;
    const int64_t tokens = std::min(part.count, kTokenChunk);
    if (place.layer < 0) {
      const Number* x = part.has_dropout ? transposed_[place.part].dropped : x_ + part.saved_first * in_;
      Prefetch(x + first_column, in_, tokens, std::min(kGradientPanels * kWidestPanel, in_ - first_column));
      for (int64_t panel = place.first_panel; panel < place.end_panel; panel++) {
        SumByA(place.part, x, panel * kWidestPanel);
      }
    } else {
      const Layer& layer = part.layers[place.layer];
      const Number* by_output = gradient_ + part.first * out_ + layer.first_row;
      Prefetch(by_output + first_column, out_, tokens,
               std::min(kGradientPanels * kWidestPanel, layer.rows - first_column));
      for (int64_t panel = place.first_panel; panel < place.end_panel; panel++) {
        SumByB(place.part, layer, by_output, panel * kWidestPanel);
      }
    }
  }

  // The gradients by the columns of A from `column`. x [tokens, in] of the part
  void SumByA(int64_t index, const Number* x, int64_t column) const {
    const Part& part = parts_[index];
    const Transposed& own = transposed_[index];
    const int64_t columns = std::min(kWidestPanel, in_ - column);
    const float* sums = OverTokens({own.by_low, own.tokens}, part.columns, {x + column, in_}, part.count, columns);
    for (int64_t i = 0; i < part.columns; i++) {
      if (part.a_rows[i] == nullptr) continue;
      std::copy_n(sums + i * PanelWidth(columns), columns, gradients_[index] + (part.a_rows[i] - part.a) + column);
    }
  }

  // The gradients by the rows of a layer's B from `first_row`. by_output [tokens, rows of the layer], `out_` apart
  void SumByB(int64_t index, const Layer& layer, const Number* by_output, int64_t first_row) const {
    const Part& part = parts_[index];
    const Transposed& own = transposed_[index];
    const int64_t columns = std::min(kWidestPanel, layer.rows - first_row);
    const int64_t width = PanelWidth(columns);
    const float* sums = OverTokens({own.low + layer.column * own.tokens, own.tokens}, layer.rank,
                                   {by_output + first_row, out_}, part.count, columns);
    float* by_b = gradients_[index] + (layer.b - part.a) + first_row * layer.rank;
    for (int64_t row = 0; row < columns; row++) {
      for (int64_t i = 0; i < layer.rank; i++) by_b[row * layer.rank + i] = sums[i * width + row] * layer.scale;
    }
  }

  static void Assign(float value, float* to) { *to = value; }
  static void Assign(BFloat16 value, BFloat16* to) { *to = value; }
  static void Assign(BFloat16 value, float* to) { *to = ToFloat(value); }

  // A copy that has zeros beyond its columns, where the next number may be another adapter's.
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
  static const float* OverTokens(Rows<Packed> a, int64_t rows, Rows<Number> b, int64_t tokens, int64_t columns) {
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

  int64_t tokens_;
  int64_t out_;
  int64_t in_;
  // Whether the gradient by the input is wanted.
  bool wanted_;
  const Number* gradient_;
  const Number* x_;
  const Number* low_;
  std::vector<Part> parts_;
  std::vector<PanelPlace> panels_;
  std::vector<int64_t> first_panels_;
  std::vector<GradientPlace> places_;
  std::vector<Transposed> transposed_;
  std::vector<Unit> units_;
  Packed* packed_ = nullptr;
  Number* result_ = nullptr;
  std::vector<float*> gradients_;
};

// gradient [tokens, out], x [rows of the adapters, in], `low`, base [tokens, in] or [0], layout, parameters of each
// adapter → base + the gradient through the adapters [tokens, in], or [0]; and the gradient by each adapter's
// parameters of the group
template <typename Number>
struct LoraBackward {
  void Compute(Context& context) const {
    WithPanels<Number>(context.Dim(1, 1), [&](auto panels) {
      const BackwardRun<decltype(panels), Number> run(context);
      if (!context.failed()) run.Compute();
    });
  }
};

}  // namespace

std::vector<OpDefinition> LoraBackwardOps() {
  return {
      {"LorasmithLoraBackward",
       {"gradient: T", "x: T", "low: T", "base: T", "layout: int32", "parameters: N * float"},
       {"result: T", "gradients: N * float"},
       {"N: int"},
       CpuKernels<LoraBackward>()},
      // On GPUs alone, for one adapter.
      {"LorasmithAdaptedBackward",
       {"gradient: T", "x: T", "low: T", "weight: T", "layout: int32", "parameters: N * float"},
       {"result: T", "gradients: N * float"},
       {"N: int", "wanted: int"},
       {}},
      // The same with weights in 4 and 8 bits, of which so many bytes are decoded at a time.
      {"LorasmithAdaptedQuantizedBackward",
       {"gradient: T", "x: T", "low: T", "codes: uint8", "scales: uint8", "nested_scales: float", "modules: float",
        "layout: int32", "parameters: N * float"},
       {"result: T", "gradients: N * float"},
       {"N: int", "wanted: int", "most_decoded_bytes: int"},
       {}},
      {"LorasmithAdaptedScaledBackward",
       {"gradient: T", "x: T", "low: T", "codes: uint8", "scales: float", "bands: int32", "layout: int32",
        "parameters: N * float"},
       {"result: T", "gradients: N * float"},
       {"N: int", "wanted: int", "most_decoded_bytes: int", "block_shift: int"},
       {}},
  };
}

}  // namespace lorasmith
