// Low-rank adaptation by several adapters on a GPU: each product is one launch for all of them, kernels/lora.cu makes
// the matrices. What the ops compute is in native/lora_products.h; here, too, every sum is in an order that follows
// from an adapter's own sizes. Launches hold as many adapters as their table has entries.
#include <algorithm>

#include "../kernels/lora_matrix.h"
#include "dropout_launch.h"
#include "grouped_product.h"
#include "lora_parts.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
const Kernel<void(LoraMatrices matrices)> kLoraMatrices{"lora", "LoraMatrices" + TypeName<Number>()};

const Kernel<void(LoraMatrixGradients gradients)> kLoraGradients{"lora", "LoraGradients"};

int64_t PaddedRank(const Layer& layer) { return RoundUp(layer.rank, kLoraRankMultiple); }

int64_t RowsOf(const std::vector<Part>& parts) { return parts.back().saved_first + parts.back().count; }

// Of `low` of all adapters.
int64_t LowNumbersOf(const std::vector<Part>& parts) {
  return parts.back().low_first + parts.back().count * parts.back().columns;
}

// The matrices of all adapters as products use them, with ranks rounded up.
template <typename Number>
struct Matrices {
  Matrices(Context& context, const std::vector<Part>& parts, int64_t in) {
    int64_t numbers = 0;
    for (const Part& part : parts) {
      numbers += part.columns * in;
      for (const Layer& layer : part.layers) numbers += layer.rows * PaddedRank(layer);
    }
    Number* to = context.Scratch<Number>(numbers);
    if (context.failed()) return;
    std::vector<LoraMatrix> matrices;
    const auto place = [&](const float* from, int64_t rows, int64_t columns, int64_t all_rows, int64_t all_columns,
                           float scale) {
      matrices.push_back({from, to, static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(all_rows),
                          static_cast<int>(all_columns), scale, 0});
      to += all_rows * all_columns;
    };
    for (const Part& part : parts) {
      a.push_back(to);
      for (const Layer& layer : part.layers)
        place(part.a_rows[layer.column], layer.rank, in, PaddedRank(layer), in, 1.0f);
      for (const Layer& layer : part.layers) {
        scaled_b.push_back(to);
        place(layer.b, layer.rows, layer.rank, layer.rows, PaddedRank(layer), layer.scale);
      }
    }
    const auto blocks_of = [](const LoraMatrix& matrix) {
      return DivideUp(static_cast<int64_t>(matrix.all_rows) * matrix.all_columns, kLoraNumbers);
    };
    ForEachTable<LoraMatrices>(matrices, blocks_of, [&](const LoraMatrices& table, int64_t blocks) {
      kLoraMatrices<Number>.Launch(context, {blocks}, kLoraThreads, 0, table);
    });
  }

  // [columns, in] of each adapter.
  std::vector<const Number*> a;
  // scale * B [rows, rank] of each layer of each adapter.
  std::vector<const Number*> scaled_b;
};

// Calls use(part, layer, scale * B) for each layer of each adapter.
template <typename Number, typename Use>
void ForEachLayer(const std::vector<Part>& parts, const Matrices<Number>& matrices, const Use& use) {
  size_t index = 0;
  for (const Part& part : parts)
    for (const Layer& layer : part.layers) use(part, layer, matrices.scaled_b[index++]);
}

// Products whose depth is cut in pieces, and their sum: [rows, rank] of each adapter or layer, in the form of `low`.
template <typename Number>
struct LowProducts {
  LowProducts(Context& context, const std::vector<Part>& parts, int64_t depth)
      : size(LowNumbersOf(parts)), piece_depth(PieceDepth(depth)), count(DivideUp(depth, piece_depth)) {
    pieces = context.Scratch<float>(count * size);
  }

  void Add(ProductGroup group, const Part& part, int64_t column) {
    group.result = pieces + part.low_first + column;
    group.result_stride = static_cast<int>(part.columns);
    group.piece_stride = size;
    group.pieces = static_cast<int>(count);
    group.piece_depth = static_cast<int>(piece_depth);
    groups.push_back(group);
  }

  void Compute(Context& context, ProductForm form, Number* low) const {
    if (context.failed()) return;
    MultiplyPieces<Number>(context, form, groups);
    SumPieces(context, pieces, count, size, low);
  }

  int64_t size;
  int64_t piece_depth;
  int64_t count;
  float* pieces;
  std::vector<ProductGroup> groups;
};

// The rows of each adapter in x, where dropout left them. `x_row` gives the first row of an adapter in x.
template <typename Number>
struct DroppedRows {
  template <typename RowOf>
  DroppedRows(Context& context, const std::vector<Part>& parts, const Number* x, int64_t in, const RowOf& x_row) {
    const bool any = std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.has_dropout; });
    Number* dropped = any ? context.Scratch<Number>(RowsOf(parts) * in) : nullptr;
    if (context.failed()) return;
    for (const Part& part : parts) {
      const Number* own = x + x_row(part) * in;
      if (part.has_dropout) {
        Number* to = dropped + part.saved_first * in;
        LaunchDropout<Number>(context, part.mask, own, part.count * in, nullptr, to);
        own = to;
      }
      rows.push_back(own);
    }
  }

  std::vector<const Number*> rows;
};

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
      groups.push_back(group);
    });
    MultiplyGroups<Number>(context, ProductForm::kTransposed, groups, true);
  }
};

// The gradients by the matrices of all adapters: pieces of products over their rows, and what they sum to.
template <typename Number>
class ParameterGradients {
 public:
  ParameterGradients(Context& context, const std::vector<Part>& parts, int64_t in, int64_t out)
      : context_(context), in_(in), out_(out) {
    int64_t numbers = 0;
    for (const Part& part : parts) numbers += PiecesOf(part) * NumbersOf(part);
    pieces_ = context.Scratch<float>(numbers);
  }

  // x [rows, in] where dropout left it, by_low and low [rows, columns], gradient [rows, out] of one adapter.
  void Add(const Part& part, const Number* x, const Number* by_low, const Number* gradient, const Number* low,
           float* result) {
    // By A, transposed: its long side has the rows of blocks.
    Product(part, x, in_, in_, by_low, part.columns);
    float* to = result;
    for (const Layer& layer : part.layers) {
      Collect(part, in_, part.columns, layer.column, layer.rank, to, 1, static_cast<int>(in_), 1.0f);
      to += layer.rank * in_;
    }
    pieces_ += PiecesOf(part) * in_ * part.columns;
    for (const Layer& layer : part.layers) {
      const int64_t rank = PaddedRank(layer);
      Product(part, gradient + layer.first_row, layer.rows, out_, low + layer.column, rank);
      Collect(part, layer.rows, rank, 0, layer.rank, to, static_cast<int>(layer.rank), 1, layer.scale);
      to += layer.rows * layer.rank;
      pieces_ += PiecesOf(part) * layer.rows * rank;
    }
  }

  void Compute() {
    MultiplyPieces<Number>(context_, ProductForm::kOfRows, groups_);
    const auto blocks_of = [](const LoraMatrixGradient& gradient) {
      return DivideUp(static_cast<int64_t>(gradient.rows) * gradient.columns, kLoraNumbers);
    };
    ForEachTable<LoraMatrixGradients>(gradients_, blocks_of, [&](const LoraMatrixGradients& table, int64_t blocks) {
      kLoraGradients.Launch(context_, {blocks}, kLoraThreads, 0, table);
    });
  }

 private:
  static int64_t PiecesOf(const Part& part) { return DivideUp(part.count, PieceDepth(part.count)); }

  int64_t NumbersOf(const Part& part) const {
    int64_t numbers = in_ * part.columns;
    for (const Layer& layer : part.layers) numbers += layer.rows * PaddedRank(layer);
    return numbers;
  }

  // leftᵀ [rows, tokens] · right [tokens, columns]
  void Product(const Part& part, const Number* left, int64_t rows, int64_t stride, const Number* right,
               int64_t columns) {
    ProductGroup group = WholeProduct(left, right, pieces_, rows, columns, part.count, ProductForm::kOfRows);
    group.left_stride = static_cast<int>(stride);
    group.right_stride = static_cast<int>(part.columns);
    group.piece_stride = rows * columns;
    group.pieces = static_cast<int>(PiecesOf(part));
    group.piece_depth = static_cast<int>(PieceDepth(part.count));
    groups_.push_back(group);
  }

  // Of pieces [rows, stride], `columns` of them from the first.
  void Collect(const Part& part, int64_t rows, int64_t stride, int64_t first, int64_t columns, float* to,
               int to_row_stride, int to_column_stride, float scale) {
    gradients_.push_back({pieces_ + first, to, rows * stride, static_cast<int>(PiecesOf(part)), static_cast<int>(rows),
                          static_cast<int>(columns), static_cast<int>(stride), to_row_stride, to_column_stride, scale,
                          0});
  }

  Context& context_;
  int64_t in_;
  int64_t out_;
  float* pieces_;
  std::vector<ProductGroup> groups_;
  std::vector<LoraMatrixGradient> gradients_;
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
    std::vector<ProductGroup> added, dropped;
    const bool any = std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.has_dropout; });
    Number* products = any ? context.Scratch<Number>(RowsOf(parts) * in) : nullptr;
    if (context.failed()) return;
    for (size_t i = 0; i < parts.size(); i++) {
      const Part& part = parts[i];
      Number* to = part.has_dropout ? products + part.saved_first * in : result + part.first * in;
      (part.has_dropout ? dropped : added)
          .push_back(WholeProduct(by_low + part.low_first, matrices.a[i], to, part.count, in, part.columns,
                                  ProductForm::kPlain));
    }
    MultiplyGroups<Number>(context, ProductForm::kPlain, added, true);
    MultiplyGroups<Number>(context, ProductForm::kPlain, dropped, false);
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
