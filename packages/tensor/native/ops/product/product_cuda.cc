// Products of matrices on a GPU: TensorFlow's own ops and product.cc's.
#include <algorithm>

#include "cuda/host/launch.h"
#include "ops/grouped_product/grouped_product_launches.h"
#include "ops/grouped_product/grouped_product_operands.h"
#include "ops/product/multiply.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
constexpr TF_DataType kType = std::is_same_v<Number, float> ? TF_FLOAT : TF_BFLOAT16;

// a [rows, depth] · b [depth, columns] (+ addend [rows, columns]) → [rows, columns]
template <typename Number>
void Compute(Context& context, bool transpose_a, bool transpose_b, const Number* addend) {
  const std::vector<int64_t> a = context.Shape(0), b = context.Shape(1);
  if (!context.Check(a.size() == 2 && b.size() == 2, "a product is of two matrices")) return;
  Product product;
  product.type = kType<Number>;
  product.transpose_a = transpose_a;
  product.transpose_b = transpose_b;
  product.rows = a[transpose_a ? 1 : 0];
  product.depth = a[transpose_a ? 0 : 1];
  product.columns = b[transpose_b ? 0 : 1];
  if (!context.Check(b[transpose_b ? 1 : 0] == product.depth, "the matrices must have the same depth")) return;
  Number* result = context.Output<Number>(0, {product.rows, product.columns});
  Multiply(context, product, context.Input<Number>(0), context.Input<Number>(1), addend, result);
}

template <typename Number>
struct MatMul {
  explicit MatMul(const Attributes& attributes)
      : transpose_a(attributes.Bool("transpose_a")), transpose_b(attributes.Bool("transpose_b")) {}

  void Compute(Context& context) const { cuda::Compute<Number>(context, transpose_a, transpose_b, nullptr); }

  bool transpose_a;
  bool transpose_b;
};

template <typename Number>
struct LorasmithProduct {
  explicit LorasmithProduct(const Attributes& attributes) : transpose_b(attributes.Int("transpose_b") != 0) {}

  void Compute(Context& context) const { cuda::Compute<Number>(context, false, transpose_b, nullptr); }

  bool transpose_b;
};

template <typename Number>
struct LorasmithProductAdd {
  explicit LorasmithProductAdd(const Attributes& attributes) : transpose_b(attributes.Int("transpose_b") != 0) {}

  void Compute(Context& context) const {
    const bool fits = context.Shape(2) == std::vector<int64_t>{context.Dim(0, 0), context.Dim(1, transpose_b ? 0 : 1)};
    if (!context.Check(fits, "the addend must have the shape of the product")) return;
    cuda::Compute<Number>(context, false, transpose_b, context.Input<Number>(2));
  }

  bool transpose_b;
};

// A product for each group of rows, all in one launch.
template <typename Number>
struct GroupedProduct {
  explicit GroupedProduct(const Attributes& attributes) : transpose_b(attributes.Int("transpose_b") != 0) {}

  void Compute(Context& context) const {
    const GroupedDenseOperands<Number> o(context, transpose_b);
    if (context.failed()) return;
    const ProductForm form = transpose_b ? ProductForm::kTransposed : ProductForm::kPlain;
    std::vector<ProductGroup> groups;
    o.ForEachGroup([&](int64_t group, int64_t rows, const Number* a, Number* result) {
      groups.push_back(WholeProduct(a, o.OfGroup(group), result, rows, o.columns, o.depth, form));
    });
    MultiplyGroups<Number>(context, form, groups);
  }

  bool transpose_b;
};

// The axes before the last two, each as long as the longer one of both matrices'.
bool Broadcast(const std::vector<int64_t>& a, const std::vector<int64_t>& b, std::vector<int64_t>* batch) {
  const size_t axes = std::max(a.size(), b.size());
  for (size_t axis = 0; axis < axes; axis++) {
    const auto length = [&](const std::vector<int64_t>& shape) {
      return axis + shape.size() < axes ? 1 : shape[axis + shape.size() - axes];
    };
    const int64_t left = length(a), right = length(b);
    if (left != right && left != 1 && right != 1) return false;
    batch->push_back(left == 1 ? right : left);
  }
  return true;
}

int64_t ElementCount(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t length : shape) count *= length;
  return count;
}

// The position in a tensor with axes `shape` of the matrix that is number `index` in a batch with axes `batch`.
int64_t MatrixAt(int64_t index, const std::vector<int64_t>& batch, const std::vector<int64_t>& shape) {
  int64_t at = 0, stride = 1;
  for (size_t from_end = 1; from_end <= shape.size(); from_end++) {
    const int64_t length = shape[shape.size() - from_end];
    const int64_t here = index % batch[batch.size() - from_end];
    index /= batch[batch.size() - from_end];
    if (length > 1) at += here * stride;
    stride *= length;
  }
  return at;
}

// a […, rows, depth] · b […, depth, columns] → […, rows, columns]
template <typename Number>
struct BatchMatMul {
  explicit BatchMatMul(const Attributes& attributes)
      : transpose_a(attributes.Bool("adj_x")), transpose_b(attributes.Bool("adj_y")) {}

  void Compute(Context& context) const {
    std::vector<int64_t> a = context.Shape(0), b = context.Shape(1);
    if (!context.Check(a.size() >= 2 && b.size() >= 2, "a product is of matrices")) return;
    Product product;
    product.type = kType<Number>;
    product.transpose_a = transpose_a;
    product.transpose_b = transpose_b;
    product.rows = a[a.size() - (transpose_a ? 1 : 2)];
    product.depth = a[a.size() - (transpose_a ? 2 : 1)];
    product.columns = b[b.size() - (transpose_b ? 2 : 1)];
    if (!context.Check(b[b.size() - (transpose_b ? 1 : 2)] == product.depth, "the matrices must have the same depth")) {
      return;
    }
    a.resize(a.size() - 2);
    b.resize(b.size() - 2);
    std::vector<int64_t> batch;
    if (!context.Check(Broadcast(a, b, &batch), "the batches of matrices do not fit")) return;
    std::vector<int64_t> shape = batch;
    shape.insert(shape.end(), {product.rows, product.columns});
    Number* result = context.Output<Number>(0, shape);
    Multiply(context, product, batch, a, b, result);
  }

  bool transpose_a;
  bool transpose_b;

 private:
  // One call where the matrices of each side lie one after the other, or are one; else one for each row of the batch's
  // last axis.
  static void Multiply(Context& context, Product product, const std::vector<int64_t>& batch,
                       const std::vector<int64_t>& a, const std::vector<int64_t>& b, Number* result) {
    const Number* left = context.Input<Number>(0);
    const Number* right = context.Input<Number>(1);
    const int64_t count = ElementCount(batch);
    const auto is_whole = [&](const std::vector<int64_t>& own) { return ElementCount(own) == count; };
    const auto is_one = [&](const std::vector<int64_t>& own) { return ElementCount(own) == 1; };
    if ((is_whole(a) || is_one(a)) && (is_whole(b) || is_one(b))) {
      product.batch = count;
      product.share_a = !is_whole(a);
      product.share_b = !is_whole(b);
      return cuda::Multiply(context, product, left, right, nullptr, result);
    }
    product.batch = batch.back();
    product.share_a = a.empty() || a.back() == 1;
    product.share_b = b.empty() || b.back() == 1;
    for (int64_t first = 0; first < count; first += product.batch) {
      cuda::Multiply(context, product, left + MatrixAt(first, batch, a) * product.rows * product.depth,
                     right + MatrixAt(first, batch, b) * product.depth * product.columns, nullptr,
                     result + first * product.rows * product.columns);
    }
  }
};

const GpuOps kOps{
    {"MatMul", GpuKernels<MatMul>()},
    {"BatchMatMulV2", GpuKernels<BatchMatMul>()},
    {"LorasmithProduct", GpuKernels<LorasmithProduct>()},
    {"LorasmithProductAdd", GpuKernels<LorasmithProductAdd>()},
    {"LorasmithGroupedProduct", GpuKernels<GroupedProduct>({"offsets"})},
};

}  // namespace
}  // namespace lorasmith::cuda
