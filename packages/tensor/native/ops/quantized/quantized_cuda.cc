// Weights in 4 and 8 bits on a GPU: decoded by dequantize.cu, and products with them by cuBLASLt, a piece of
// the weights after the other. Those of experts are ops/grouped_product/grouped_product.cu's. Products of few rows are
// few_rows.cu's, which decodes nothing to memory. What the ops compute is in dequantize.cc and
// ops/product/product.cc.
#include <algorithm>

#include "cuda/host/launch.h"
#include "ops/grouped_product/grouped_product_launches.h"
#include "ops/product/multiply.h"
#include "ops/quantized/frozen_weight.h"
#include "ops/quantized/packed_operands.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = kDecodeThreads;

static_assert(kModuleNumbers == QuantizedModule::kNumbers && kModuleValues == QuantizedModule::kValues &&
              kModuleNestedValues == QuantizedModule::kNestedValues);

template <typename Number>
constexpr TF_DataType kType = std::is_same_v<Number, float> ? TF_FLOAT : TF_BFLOAT16;

template <typename Number>
const Kernel<void(const uint8_t* codes, const uint8_t* scales, const float* nested_scales, const float* modules,
                  QuantizedBox box, Number* result)>
    kDequantize{"dequantize", "Dequantize" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const uint8_t* codes, const float* scales, const int32_t* bands, ScaledBox box, Number* result)>
    kDequantizeScaled{"dequantize", "DequantizeScaled" + TypeName<Number>()};

using QuantizedFewRows =
    Kernel<void(const BFloat16* a, const uint8_t* codes, const uint8_t* scales, const float* nested_scales,
                const float* modules, QuantizedBox box, int32_t rows, BFloat16* result)>;
using ScaledFewRows = Kernel<void(const BFloat16* a, const uint8_t* codes, const float* scales, const int32_t* bands,
                                  ScaledBox box, int32_t rows, BFloat16* result)>;
const QuantizedFewRows kQuantizedFewRows8{"few_rows", "QuantizedFewRows8"};
const QuantizedFewRows kQuantizedFewRows16{"few_rows", "QuantizedFewRows16"};
const ScaledFewRows kScaledFewRows8{"few_rows", "ScaledFewRows8"};
const ScaledFewRows kScaledFewRows16{"few_rows", "ScaledFewRows16"};

using Part = DecodedPart;

QuantizedBox BoxOf(const QuantizedMatrix& matrix, const Part& part) {
  const bool whole = matrix.columns % kQuantizedBlock == 0 && part.IsWhole();
  return {
      matrix.columns, part.first_row, part.rows, part.first_column, part.width, static_cast<int>(matrix.module_count),
      whole,          part.pitch};
}

ScaledBox BoxOf(const ScaledMatrix& matrix, const Part& part) {
  const bool whole = matrix.columns % kDecodedAtOnce == 0 && part.IsWhole();
  return {matrix.columns, part.first_row,     part.rows, part.first_column, part.width,
          matrix.across,  matrix.block_shift, whole,     part.pitch};
}

template <typename Number>
void Decode(Context& context, const QuantizedMatrix& matrix, const Part& part, Number* result) {
  const QuantizedBox box = BoxOf(matrix, part);
  kDequantize<Number>.Launch(context, {part.Blocks(box.whole != 0)}, kThreads, 0, matrix.codes, matrix.scales,
                             matrix.nested_scales, matrix.modules, box, result);
}

template <typename Number>
void Decode(Context& context, const ScaledMatrix& matrix, const Part& part, Number* result) {
  const ScaledBox box = BoxOf(matrix, part);
  kDequantizeScaled<Number>.Launch(context, {part.Blocks(box.whole != 0)}, kThreads, 0, matrix.codes, matrix.scales,
                                   matrix.bands, box, result);
}

// Few rows times the transposed weights.
void MultiplyFew(Context& context, const QuantizedMatrix& matrix, int64_t rows, const BFloat16* a, BFloat16* result) {
  const QuantizedBox box = BoxOf(matrix, {0, matrix.rows, 0, matrix.columns});
  const QuantizedFewRows& kernel = rows > kMostFewRows / 2 ? kQuantizedFewRows16 : kQuantizedFewRows8;
  kernel.Launch(context, {DivideUp(matrix.rows, kFewRowsTile)}, kFewRowsThreads, 0, a, matrix.codes, matrix.scales,
                matrix.nested_scales, matrix.modules, box, static_cast<int32_t>(rows), result);
}

void MultiplyFew(Context& context, const ScaledMatrix& matrix, int64_t rows, const BFloat16* a, BFloat16* result) {
  const ScaledBox box = BoxOf(matrix, {0, matrix.rows, 0, matrix.columns});
  const ScaledFewRows& kernel = rows > kMostFewRows / 2 ? kScaledFewRows16 : kScaledFewRows8;
  kernel.Launch(context, {DivideUp(matrix.rows, kFewRowsTile)}, kFewRowsThreads, 0, a, matrix.codes, matrix.scales,
                matrix.bands, box, static_cast<int32_t>(rows), result);
}

template <typename Number>
const Kernel<void(const uint8_t* codes, const uint8_t* scales, int64_t count, Number* result)> kDequantizeMxfp4{
    "dequantize", "DequantizeMxfp4" + TypeName<Number>()};

// Whole rows: a product decodes all weights of a group at a time.
template <typename Number>
void Decode(Context& context, const Mxfp4Matrix& matrix, const Part& part, Number* result) {
  const int64_t first = part.first_row * matrix.columns, count = part.rows * matrix.columns;
  kDequantizeMxfp4<Number>.Launch(context, {part.Blocks(true)}, kThreads, 0, matrix.codes + first / 2,
                                  matrix.scales + first / kMxfp4Block, count, result);
}

// Decode whole groups of the weights, one behind the other. `first`: the box of group 0.
template <typename Number>
const Kernel<void(const uint8_t* codes, const uint8_t* scales, const float* nested_scales, const float* modules,
                  QuantizedBox first, DecodedGroups groups, Number* result)>
    kDequantizeGroups{"dequantize", "DequantizeGroups" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const uint8_t* codes, const float* scales, const int32_t* bands, ScaledBox first,
                  DecodedGroups groups, Number* result)>
    kDequantizeScaledGroups{"dequantize", "DequantizeScaledGroups" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const uint8_t* codes, const uint8_t* scales, int64_t count, DecodedGroups groups, Number* result)>
    kDequantizeMxfp4Groups{"dequantize", "DequantizeMxfp4Groups" + TypeName<Number>()};

template <typename Number>
void DecodeGroups(Context& context, const QuantizedMatrix& matrix, const Part& first, const DecodedGroups& groups,
                  int64_t count, Number* result) {
  kDequantizeGroups<Number>.Launch(context, {first.Blocks(true), count}, kThreads, 0, matrix.codes, matrix.scales,
                                   matrix.nested_scales, matrix.modules, BoxOf(matrix, first), groups, result);
}

template <typename Number>
void DecodeGroups(Context& context, const ScaledMatrix& matrix, const Part& first, const DecodedGroups& groups,
                  int64_t count, Number* result) {
  const ScaledBox box = BoxOf(matrix, first);
  kDequantizeScaledGroups<Number>.Launch(context, {first.Blocks(box.whole != 0), count}, kThreads, 0, matrix.codes,
                                         matrix.scales, matrix.bands, box, groups, result);
}

template <typename Number>
void DecodeGroups(Context& context, const Mxfp4Matrix& matrix, const Part& first, const DecodedGroups& groups,
                  int64_t count, Number* result) {
  kDequantizeMxfp4Groups<Number>.Launch(context, {first.Blocks(true), count}, kThreads, 0, matrix.codes, matrix.scales,
                                        first.rows * first.width, groups, result);
}

template <typename Form, typename Number>
struct Dequantize {
  explicit Dequantize(const Attributes& attributes) : form(attributes) {}

  void Compute(Context& context) const {
    const auto [matrix, first, count] = DequantizeInputs(context, form);
    if (context.failed()) return;
    Number* result = context.Output<Number>(0, {count, matrix.columns});
    if (context.failed()) return;
    Decode(context, matrix, Part{first, count, 0, matrix.columns}, result);
  }

  Form form;
};

template <typename Form, typename Number>
struct PackedProduct {
  explicit PackedProduct(const Attributes& attributes)
      : shape(attributes), most_decoded(attributes.Int("most_decoded_bytes")) {}

  void Compute(Context& context) const {
    const auto matrix = shape.Weights(context);
    if (context.failed()) return;
    const bool transposed = shape.transposed;
    Product product;
    product.type = kType<Number>;
    product.transpose_b = transposed;
    product.rows = context.Dim(0, 0);
    product.depth = shape.Depth();
    const int64_t result_columns = shape.ResultColumns();
    Number* result = context.Output<Number>(0, {product.rows, result_columns});
    const Number* a = context.Input<Number>(0);
    if (context.failed() || product.rows == 0) return;
    if constexpr (std::is_same_v<Number, BFloat16>) {
      if (transposed && product.rows <= kMostFewRows && shape.columns % kFewRowsDepth == 0) {
        return MultiplyFew(context, matrix, product.rows, a, result);
      }
    }
    // Columns of the result are computed with the rows of the weights, or with their columns.
    const int64_t fitting = most_decoded / (product.depth * static_cast<int64_t>(sizeof(Number)));
    const int64_t piece =
        std::min(result_columns, std::max(kQuantizedBlock, fitting / kQuantizedBlock * kQuantizedBlock));
    Number* decoded = context.Scratch<Number>(piece * product.depth);
    if (context.failed()) return;
    product.result_stride = result_columns;
    for (int64_t first = 0; first < result_columns; first += piece) {
      product.columns = std::min(piece, result_columns - first);
      const Part part =
          transposed ? Part{first, product.columns, 0, shape.columns} : Part{0, shape.rows, first, product.columns};
      Decode(context, matrix, part, decoded);
      Multiply(context, product, a, decoded, nullptr, result + first);
    }
  }

  PackedProductShape<Form> shape;
  int64_t most_decoded;
};

// One launch decodes the weights of as many groups as memory allows, and another multiplies with them. Groups without
// rows are left out. The kernel that multiplies is that of dense groups, so the bits are the same.
template <typename Form, typename Number>
struct GroupedPackedProduct {
  explicit GroupedPackedProduct(const Attributes& attributes)
      : shape(attributes), most_decoded(attributes.Int("most_decoded_bytes")) {}

  void Compute(Context& context) const {
    const GroupedPackedOperands<Form, Number> o(context, shape);
    if (context.failed()) return;
    const ProductForm form = shape.transposed ? ProductForm::kTransposed : ProductForm::kPlain;
    std::vector<int> numbers;
    std::vector<ProductGroup> products;
    o.ForEachGroup([&](int64_t group, int64_t rows, const Number* a, Number* result) {
      numbers.push_back(static_cast<int>(group));
      products.push_back(WholeProduct(a, nullptr, result, rows, o.columns, o.depth, form));
    });
    const auto count = static_cast<int64_t>(products.size());
    if (count == 0) return;
    const int64_t size = shape.rows * shape.columns, at_once = AtOnce(count, size);
    Number* decoded = context.Scratch<Number>(at_once * size);
    for (int64_t first = 0; first < count && !context.failed(); first += at_once) {
      const int64_t own = std::min(at_once, count - first);
      DecodedGroups groups{};
      std::copy_n(numbers.begin() + first, own, groups.at);
      DecodeGroups(context, o.OfGroup(0), Part{0, shape.rows, 0, shape.columns}, groups, own, decoded);
      const auto begin = products.begin() + first;
      for (int64_t i = 0; i < own; i++) begin[i].right = decoded + i * size;
      MultiplyGroups<Number>(context, form, {begin, begin + own});
    }
  }

 private:
  // Groups of a launch: as few launches as memory and tables allow, and about as many groups in each.
  int64_t AtOnce(int64_t count, int64_t size) const {
    const int64_t most = std::min<int64_t>(DecodedGroups::kMost, ProductGroups::kMost);
    const int64_t fitting = most_decoded / (size * static_cast<int64_t>(sizeof(Number)));
    return DivideUp(count, DivideUp(count, std::clamp<int64_t>(fitting, 1, most)));
  }

  PackedProductShape<Form> shape;
  int64_t most_decoded;
};

template <typename Number>
using DequantizeQuantized = Dequantize<QuantizedForm, Number>;
template <typename Number>
using DequantizeScaled = Dequantize<ScaledForm, Number>;
template <typename Number>
using QuantizedProduct = PackedProduct<QuantizedForm, Number>;
template <typename Number>
using ScaledProduct = PackedProduct<ScaledForm, Number>;
template <typename Number>
using DequantizeMxfp4 = Dequantize<Mxfp4Form, Number>;
template <typename Number>
using GroupedQuantizedProduct = GroupedPackedProduct<QuantizedForm, Number>;
template <typename Number>
using GroupedScaledProduct = GroupedPackedProduct<ScaledForm, Number>;
template <typename Number>
using GroupedMxfp4Product = GroupedPackedProduct<Mxfp4Form, Number>;

const GpuOps kOps{
    {"LorasmithDequantize", GpuKernels<DequantizeQuantized>({"range"})},
    {"LorasmithDequantizeScaled", GpuKernels<DequantizeScaled>({"range"})},
    {"LorasmithQuantizedProduct", GpuKernels<QuantizedProduct>()},
    {"LorasmithScaledProduct", GpuKernels<ScaledProduct>()},
    {"LorasmithDequantizeMxfp4", GpuKernels<DequantizeMxfp4>({"range"})},
    {"LorasmithGroupedQuantizedProduct", GpuKernels<GroupedQuantizedProduct>({"offsets"})},
    {"LorasmithGroupedScaledProduct", GpuKernels<GroupedScaledProduct>({"offsets"})},
    {"LorasmithGroupedMxfp4Product", GpuKernels<GroupedMxfp4Product>({"offsets"})},
};

}  // namespace

template <typename Number>
void DecodePart(Context& context, const QuantizedMatrix& matrix, const DecodedPart& part, Number* result) {
  Decode(context, matrix, part, result);
}

template <typename Number>
void DecodePart(Context& context, const ScaledMatrix& matrix, const DecodedPart& part, Number* result) {
  Decode(context, matrix, part, result);
}

template void DecodePart(Context&, const QuantizedMatrix&, const DecodedPart&, float*);
template void DecodePart(Context&, const QuantizedMatrix&, const DecodedPart&, BFloat16*);
template void DecodePart(Context&, const ScaledMatrix&, const DecodedPart&, float*);
template void DecodePart(Context&, const ScaledMatrix&, const DecodedPart&, BFloat16*);

}  // namespace lorasmith::cuda
