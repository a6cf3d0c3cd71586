// Linear layers with one adapter on all rows, on a GPU. What the adapter adds is part of the product with the frozen
// weights W [out, in], which have padding for it in memory, or in the memory to which they are decoded. So the wider
// one of input and output is not passed once more:
//
//   in < out    W has columns for scale B:   y = [x, low] · [W, scale B]ᵀ       [by x', by low] = g · [W, scale B]
//   else        W has rows for A:            [y', low] = x · [W; A]ᵀ            by x = [g, by low] · [W; A]
//
// The padding is written before each product, on the one stream: nothing of an adapter is there for another.
#include <algorithm>

#include "ops/lora/lora_launches.h"
#include "ops/product/multiply.h"
#include "ops/quantized/frozen_weight.h"

namespace lorasmith::cuda {
namespace {

// The frozen weights with the matrices of the adapter, its ranks rounded up to `columns` in all.
template <typename Weight, typename Number>
struct AdaptedWeight {
  // `product`: what the frozen weights are multiplied with.
  AdaptedWeight(Context& context, const typename Weight::Form& form, int weight_input, int64_t tokens, int64_t in,
                int64_t out, FrozenProduct product)
      : frozen(context, form, weight_input, in, out), in(in), out(out), has_columns(frozen.has_columns()) {
    if (!ReadParts<Number>(context, weight_input + Weight::kInputs, tokens, in, out, kLoraRankMultiple, &parts)) return;
    const Part& part = parts[0];
    columns = part.columns;
    int64_t rows = 0;
    for (const Layer& layer : part.layers) rows += layer.rows;
    const bool fits = columns <= kPadding && (has_columns || rows == out);
    const bool is_alone = parts.size() == 1 && part.count == tokens && !part.has_dropout;
    if (!context.Check(fits, "the adapter must fit into the padding of the weights")) return;
    if (!context.Check(is_alone, "one adapter must act on all rows, without dropout")) return;
    matrix = frozen.MatrixFor(context, product, columns);
    MakeMatrices(context);
  }

  const Part& part() const { return parts[0]; }

  Weight frozen;
  int64_t in;
  int64_t out;
  // Whether the padding is beyond the columns, not below the rows.
  bool has_columns;
  std::vector<Part> parts;
  int64_t columns = 0;
  // That of the padding: scale B [out, columns] with zeros between the layers, or A [columns, in].
  AdapterMatrix<Number> matrix;
  // [columns, in]
  const Number* a = nullptr;
  // Of each layer [rows, rank]; where it is that of the padding, of all together.
  std::vector<const Number*> scaled_b;

 private:
  void MakeMatrices(Context& context) {
    MatrixMaker<Number> maker;
    const int64_t numbers = has_columns ? columns * in : out * columns;
    Number* to = context.Scratch<Number>(numbers);
    if (context.failed()) return;
    Number* of_a = has_columns ? to : matrix.at;
    maker.AddA(part(), in, of_a);
    a = of_a;
    int64_t next = 0;
    const auto clear = [&](int64_t end) {
      if (end > next) {
        maker.Add({nullptr, matrix.at + next * matrix.stride, 0, 0, static_cast<int>(end - next),
                   static_cast<int>(columns), 0, static_cast<int>(matrix.stride), 0, 0});
      }
    };
    for (const Layer& layer : part().layers) {
      if (has_columns) {
        clear(layer.first_row);
        maker.AddB(layer, columns, layer.column, matrix.at + layer.first_row * matrix.stride, matrix.stride);
        next = layer.first_row + layer.rows;
      } else {
        scaled_b.push_back(to);
        maker.AddB(layer, PaddedRank(layer), 0, to, PaddedRank(layer));
        to += layer.rows * PaddedRank(layer);
      }
    }
    if (has_columns) {
      clear(out);
      scaled_b.push_back(matrix.at);
    }
    maker.Make(context);
  }
};

// result [tokens, ·] = rows of `wide` + low times a matrix of the adapter
void AddTo(ProductGroup* group, const void* wide, int64_t wide_stride, int64_t low_stride, int64_t result_stride) {
  group->left_stride = static_cast<int>(low_stride);
  group->result_stride = static_cast<int>(result_stride);
  group->addend = wide;
  group->addend_stride = static_cast<int>(wide_stride);
}

template <typename Weight, typename Number>
struct AdaptedForward {
  explicit AdaptedForward(const Attributes& attributes) : form(attributes), out(attributes.Int("out")) {}

  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(0, 0), in = context.Dim(0, 1);
    constexpr FrozenProduct kProduct = FrozenProduct::kForward;
    const AdaptedWeight<Weight, Number> weight(context, form, 1, tokens, in, out, kProduct);
    if (context.failed()) return;
    const Number* x = context.Input<Number>(0);
    const int64_t columns = weight.columns;
    Number* result = context.Output<Number>(0, {tokens, out});
    Number* low = context.Output<Number>(1, {tokens * columns});
    if (context.failed()) return;
    if (weight.has_columns) {
      const int64_t stride = in + columns;
      Number* deep = context.Scratch<Number>(tokens * stride);
      LowProducts<Number> products(context, weight.parts, in);
      if (context.failed()) return;
      constexpr ProductForm kForm = ProductForm::kTransposed;
      products.Add(WholeProduct(x, weight.a, nullptr, tokens, columns, in, kForm), weight.part(), 0);
      products.CopyLeft(context, deep, stride);
      products.Compute(context, kForm, low);
      CopyColumns<Number>(context, low, columns, deep + in, stride, tokens, columns);
      weight.frozen.Multiply(context, deep, tokens, stride, out, result, kProduct);
      return;
    }
    const int64_t stride = out + columns;
    Number* wide = context.Scratch<Number>(tokens * stride);
    weight.frozen.Multiply(context, x, tokens, in, stride, wide, kProduct);
    CopyColumns(context, wide + out, stride, low, columns, tokens, columns);
    std::vector<ProductGroup> groups;
    for (size_t i = 0; i < weight.part().layers.size(); i++) {
      const Layer& layer = weight.part().layers[i];
      groups.push_back(WholeProduct(low + layer.column, weight.scaled_b[i], result + layer.first_row, tokens,
                                    layer.rows, PaddedRank(layer), ProductForm::kTransposed));
      AddTo(&groups.back(), wide + layer.first_row, stride, columns, out);
    }
    MultiplyGroups<Number>(context, ProductForm::kTransposed, groups);
  }

  typename Weight::Form form;
  int64_t out;
};

template <typename Weight, typename Number>
struct AdaptedBackward {
  using Adapted = AdaptedWeight<Weight, Number>;

  explicit AdaptedBackward(const Attributes& attributes) : form(attributes), wanted(attributes.Int("wanted") != 0) {}

  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(0, 0), out = context.Dim(0, 1), in = context.Dim(1, 1);
    const Adapted weight(context, form, 3, tokens, in, out, wanted ? FrozenProduct::kBackward : FrozenProduct::kNone);
    if (context.failed()) return;
    const bool fits = context.Dim(1, 0) == tokens && context.Size(2) == tokens * weight.columns;
    if (!context.Check(fits, "what was saved must be of the adapter's rows")) return;
    const Number* gradient = context.Input<Number>(0);
    const Number* x = context.Input<Number>(1);
    const Number* low = context.Input<Number>(2);
    Number* result = context.Output<Number>(0, {wanted ? tokens : 0, in});
    float* gradients = context.Output<float>(1, {weight.part().numbers});
    const int64_t deep_stride = out + weight.columns;
    const bool is_deep = wanted && !weight.has_columns;
    Number* by_low = context.Scratch<Number>(tokens * weight.columns);
    Number* deep = is_deep ? context.Scratch<Number>(tokens * deep_stride) : nullptr;
    if (context.failed()) return;
    if (weight.has_columns && wanted) {
      AddByInput(context, weight, gradient, tokens, by_low, result);
    } else {
      MultiplyByLow(context, weight, gradient, tokens, by_low, deep);
    }
    ParameterGradients<Number> by_parameters(context, weight.parts, in, out);
    if (context.failed()) return;
    by_parameters.Add(weight.part(), x, by_low, gradient, low, gradients);
    by_parameters.Compute();
    if (!is_deep) return;
    CopyColumns<Number>(context, by_low, weight.columns, deep + out, deep_stride, tokens, weight.columns);
    weight.frozen.Multiply(context, deep, tokens, deep_stride, in, result, FrozenProduct::kBackward);
  }

  typename Weight::Form form;
  bool wanted;

 private:
  // Both by_low and result = gradient W + by_low A.
  static void AddByInput(Context& context, const Adapted& weight, const Number* gradient, int64_t tokens,
                         Number* by_low, Number* result) {
    const int64_t in = weight.in, columns = weight.columns, stride = in + columns;
    Number* wide = context.Scratch<Number>(tokens * stride);
    weight.frozen.Multiply(context, gradient, tokens, weight.out, stride, wide, FrozenProduct::kBackward);
    CopyColumns(context, wide + in, stride, by_low, columns, tokens, columns);
    ProductGroup group = WholeProduct(by_low, weight.a, result, tokens, in, columns, ProductForm::kPlain);
    AddTo(&group, wide, stride, columns, in);
    MultiplyGroups<Number>(context, ProductForm::kPlain, {group});
  }

  // `deep`: where the gradient is copied to, with place for by_low behind each row; null: nowhere.
  static void MultiplyByLow(Context& context, const Adapted& weight, const Number* gradient, int64_t tokens,
                            Number* by_low, Number* deep) {
    LowProducts<Number> products(context, weight.parts, weight.out);
    if (context.failed()) return;
    const auto add = [&](const Number* rows, const Number* scaled_b, int64_t right_stride, int64_t depth,
                         int64_t columns, int64_t column) {
      ProductGroup group = WholeProduct(rows, scaled_b, nullptr, tokens, columns, depth, ProductForm::kPlain);
      group.left_stride = static_cast<int>(weight.out);
      group.right_stride = static_cast<int>(right_stride);
      products.Add(group, weight.part(), column);
    };
    if (weight.has_columns) {
      add(gradient, weight.scaled_b[0], weight.matrix.stride, weight.out, weight.columns, 0);
    } else {
      for (size_t i = 0; i < weight.scaled_b.size(); i++) {
        const Layer& layer = weight.part().layers[i];
        const int64_t rank = PaddedRank(layer);
        add(gradient + layer.first_row, weight.scaled_b[i], rank, layer.rows, rank, layer.column);
        if (deep != nullptr) products.CopyLeft(context, deep + layer.first_row, weight.out + weight.columns);
      }
    }
    products.Compute(context, ProductForm::kPlain, by_low);
  }
};

// a [rows, in] · Wᵀ, or a [rows, out] · W, without the padding
template <typename Number>
struct PaddedProduct {
  explicit PaddedProduct(const Attributes& attributes)
      : transposed(attributes.Int("transpose_b") != 0), out(attributes.Int("rows")), in(attributes.Int("columns")) {}

  void Compute(Context& context) const {
    Product product;
    product.type = kType<Number>;
    product.rows = context.Dim(0, 0);
    product.depth = transposed ? in : out;
    product.columns = transposed ? out : in;
    product.transpose_b = transposed;
    product.b_stride = context.Dim(1, 1);
    const bool fits = context.Dim(0, 1) == product.depth && context.Dim(1, 0) >= out && product.b_stride >= in;
    if (!context.Check(fits, "the matrices must have the same depth")) return;
    Number* result = context.Output<Number>(0, {product.rows, product.columns});
    Multiply(context, product, context.Input<Number>(0), context.Input<Number>(1), nullptr, result);
  }

  bool transposed;
  int64_t out;
  int64_t in;
};

template <typename Number>
using StoredForward = AdaptedForward<StoredWeight<Number>, Number>;
template <typename Number>
using StoredBackward = AdaptedBackward<StoredWeight<Number>, Number>;
template <typename Number>
using QuantizedForward = AdaptedForward<DecodedWeight<QuantizedForm, Number>, Number>;
template <typename Number>
using QuantizedBackward = AdaptedBackward<DecodedWeight<QuantizedForm, Number>, Number>;
template <typename Number>
using ScaledForward = AdaptedForward<DecodedWeight<ScaledForm, Number>, Number>;
template <typename Number>
using ScaledBackward = AdaptedBackward<DecodedWeight<ScaledForm, Number>, Number>;

const GpuOps kOps{
    {"LorasmithAdaptedForward", GpuKernels<StoredForward>({"layout"})},
    {"LorasmithAdaptedBackward", GpuKernels<StoredBackward>({"layout"})},
    {"LorasmithAdaptedQuantizedForward", GpuKernels<QuantizedForward>({"layout"})},
    {"LorasmithAdaptedQuantizedBackward", GpuKernels<QuantizedBackward>({"layout"})},
    {"LorasmithAdaptedScaledForward", GpuKernels<ScaledForward>({"layout"})},
    {"LorasmithAdaptedScaledBackward", GpuKernels<ScaledBackward>({"layout"})},
    {"LorasmithPaddedProduct", GpuKernels<PaddedProduct>()},
};

}  // namespace
}  // namespace lorasmith::cuda
