// Quantized weights on a GPU: decoded by kernels/dequantize.cu, and products with them by cuBLASLt, a piece of the
// weights after the other. What the ops compute is in native/dequantize.cc and native/product.cc.
#include <algorithm>

#include "../kernels/quantized_box.h"
#include "launch.h"
#include "multiply.h"
#include "quantized_operands.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;

static_assert(kModuleNumbers == QuantizedModule::kNumbers && kModuleValues == QuantizedModule::kValues &&
              kModuleNestedValues == QuantizedModule::kNestedValues);

template <typename Number>
constexpr TF_DataType kType = std::is_same_v<Number, float> ? TF_FLOAT : TF_BFLOAT16;

template <typename Number>
const Kernel<void(const uint8_t* codes, const uint8_t* scales, const float* nested_scales, const float* modules,
                  QuantizedBox box, Number* result)>
    kDequantize{"dequantize", "Dequantize" + TypeName<Number>()};

template <typename Number>
void Decode(Context& context, const QuantizedMatrix& matrix, QuantizedBox box, Number* result) {
  box.columns = matrix.columns;
  box.module_count = static_cast<int>(matrix.module_count);
  box.whole = matrix.columns % kQuantizedBlock == 0 && box.first_column % kDecodedAtOnce == 0 &&
              box.width % kDecodedAtOnce == 0;
  const int64_t work = box.whole ? box.rows * box.width / kDecodedAtOnce : box.rows * box.width;
  kDequantize<Number>.Launch(context, {std::min(kMostBlocks, DivideUp(work, kThreads))}, kThreads, 0, matrix.codes,
                             matrix.scales, matrix.nested_scales, matrix.modules, box, result);
}

template <typename Number>
struct Dequantize {
  void Compute(Context& context) const {
    const auto [matrix, first, count] = DequantizeInputs(context);
    if (context.failed()) return;
    Number* result = context.Output<Number>(0, {count, matrix.columns});
    if (context.failed()) return;
    QuantizedBox box{};
    box.first_row = first;
    box.rows = count;
    box.width = matrix.columns;
    Decode(context, matrix, box, result);
  }
};

template <typename Number>
struct LorasmithQuantizedProduct {
  explicit LorasmithQuantizedProduct(const Attributes& attributes)
      : shape(attributes), most_decoded(attributes.Int("most_decoded_bytes")) {}

  void Compute(Context& context) const {
    const QuantizedMatrix matrix = shape.Weights(context);
    if (context.failed()) return;
    const bool transposed = shape.transposed;
    Product product;
    product.type = kType<Number>;
    product.transpose_b = transposed;
    product.rows = context.Dim(0, 0);
    product.depth = shape.Depth();
    const int64_t result_columns = shape.ResultColumns();
    Number* result = context.Output<Number>(0, {product.rows, result_columns});
    // Columns of the result are computed with the rows of the weights, or with their columns.
    const int64_t fitting = most_decoded / (product.depth * static_cast<int64_t>(sizeof(Number)));
    const int64_t piece =
        std::min(result_columns, std::max(kQuantizedBlock, fitting / kQuantizedBlock * kQuantizedBlock));
    Number* decoded = context.Scratch<Number>(piece * product.depth);
    if (context.failed() || product.rows == 0) return;
    const Number* a = context.Input<Number>(0);
    product.result_stride = result_columns;
    for (int64_t first = 0; first < result_columns; first += piece) {
      product.columns = std::min(piece, result_columns - first);
      QuantizedBox box{};
      (transposed ? box.first_row : box.first_column) = first;
      box.rows = transposed ? product.columns : shape.rows;
      box.width = transposed ? shape.columns : product.columns;
      Decode(context, matrix, box, decoded);
      Multiply(context, product, a, decoded, nullptr, result + first);
    }
  }

  QuantizedProductShape shape;
  int64_t most_decoded;
};

const GpuOps kOps{
    {"LorasmithDequantize", GpuKernels<Dequantize>({"range"})},
    {"LorasmithQuantizedProduct", GpuKernels<LorasmithQuantizedProduct>()},
};

}  // namespace
}  // namespace lorasmith::cuda
