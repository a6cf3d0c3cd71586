// Low-rank adaptation by several adapters on a GPU, beside a product with the frozen weights.
#include <algorithm>

#include "ops/lora/lora_launches.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
struct LoraForward {
  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(0, 0), out = context.Dim(0, 1), in = context.Dim(1, 1);
    const Number* x = context.Input<Number>(1);
    if (!context.Check(context.Dim(1, 0) == tokens, "the input and the output must have the same rows")) return;
    std::vector<Part> parts;
    if (!ReadParts<Number>(context, 2, tokens, in, out, kLoraRankMultiple, &parts)) return;
    Number* result = TakeOver<Number>(context, 0, 0);
    Number* low = context.Output<Number>(1, {LowNumbersOf(parts)});
    const Matrices<Number> matrices(context, parts, in);
    const DroppedRows<Number> dropped(context, parts, x, in, [](const Part& part) { return part.first; });
    LowProducts<Number> products(context, parts, in);
    if (context.failed()) return;
    for (size_t i = 0; i < parts.size(); i++) {
      const Part& part = parts[i];
      constexpr ProductForm kForm = ProductForm::kTransposed;
      products.Add(WholeProduct(dropped.rows[i], matrices.a[i], nullptr, part.count, part.columns, in, kForm), part, 0);
    }
    products.Compute(context, ProductForm::kTransposed, low);
    std::vector<ProductGroup> groups;
    ForEachLayer(parts, matrices, [&](const Part& part, const Layer& layer, const Number* scaled_b) {
      ProductGroup group =
          WholeProduct(low + part.low_first + layer.column, scaled_b, result + part.first * out + layer.first_row,
                       part.count, layer.rows, PaddedRank(layer), ProductForm::kTransposed);
      group.left_stride = static_cast<int>(part.columns);
      group.result_stride = static_cast<int>(out);
      AddInPlace(&group);
      groups.push_back(group);
    });
    MultiplyGroups<Number>(context, ProductForm::kTransposed, groups);
  }
};

template <typename Number>
struct LoraBackward {
  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(0, 0), out = context.Dim(0, 1), in = context.Dim(1, 1);
    const bool wanted = context.Size(3) > 0;
    const Number* gradient = context.Input<Number>(0);
    const Number* x = context.Input<Number>(1);
    const Number* low = context.Input<Number>(2);
    std::vector<Part> parts;
    if (!ReadParts<Number>(context, 4, tokens, in, out, kLoraRankMultiple, &parts)) return;
    const bool fits = context.Dim(1, 0) == RowsOf(parts) && context.Size(2) == LowNumbersOf(parts) &&
                      (!wanted || (context.Dim(3, 0) == tokens && context.Dim(3, 1) == in));
    if (!context.Check(fits, "what was saved must be of the adapters' rows")) return;
    Number* result = TakeOver<Number>(context, 3, 0);
    std::vector<float*> gradients;
    for (const Part& part : parts)
      gradients.push_back(context.Output<float>(static_cast<int>(gradients.size()) + 1, {part.numbers}));
    const Matrices<Number> matrices(context, parts, in);
    const DroppedRows<Number> dropped(context, parts, x, in, [](const Part& part) { return part.saved_first; });
    Number* by_low = context.Scratch<Number>(LowNumbersOf(parts));
    LowProducts<Number> products(context, parts, out);
    ParameterGradients<Number> by_parameters(context, parts, in, out);
    if (context.failed()) return;

    ForEachLayer(parts, matrices, [&](const Part& part, const Layer& layer, const Number* scaled_b) {
      ProductGroup group = WholeProduct(gradient + part.first * out + layer.first_row, scaled_b, nullptr, part.count,
                                        PaddedRank(layer), layer.rows, ProductForm::kPlain);
      group.left_stride = static_cast<int>(out);
      products.Add(group, part, layer.column);
    });
    products.Compute(context, ProductForm::kPlain, by_low);
    for (size_t i = 0; i < parts.size(); i++) {
      const Part& part = parts[i];
      by_parameters.Add(part, dropped.rows[i], by_low + part.low_first, gradient + part.first * out,
                        low + part.low_first, gradients[i]);
    }
    by_parameters.Compute();
    if (wanted) AddByInput(context, parts, matrices, by_low, in, result);
  }

 private:
  // result += by_low A, where dropout left x.
  static void AddByInput(Context& context, const std::vector<Part>& parts, const Matrices<Number>& matrices,
                         const Number* by_low, int64_t in, Number* result) {
    std::vector<ProductGroup> groups;
    const bool any = std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.has_dropout; });
    Number* products = any ? context.Scratch<Number>(RowsOf(parts) * in) : nullptr;
    if (context.failed()) return;
    for (size_t i = 0; i < parts.size(); i++) {
      const Part& part = parts[i];
      Number* to = part.has_dropout ? products + part.saved_first * in : result + part.first * in;
      ProductGroup group =
          WholeProduct(by_low + part.low_first, matrices.a[i], to, part.count, in, part.columns, ProductForm::kPlain);
      if (!part.has_dropout) AddInPlace(&group);
      groups.push_back(group);
    }
    MultiplyGroups<Number>(context, ProductForm::kPlain, groups);
    for (const Part& part : parts) {
      if (!part.has_dropout) continue;
      Number* to = result + part.first * in;
      LaunchDropout<Number>(context, part.mask, products + part.saved_first * in, part.count * in, to, to);
    }
  }
};

const GpuOps kOps{
    {"LorasmithLoraForward", GpuKernels<LoraForward>({"layout"})},
    {"LorasmithLoraBackward", GpuKernels<LoraBackward>({"layout"})},
};

}  // namespace
}  // namespace lorasmith::cuda
