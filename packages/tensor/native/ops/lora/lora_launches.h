// The products of low-rank adaptation on a GPU, each of all adapters in one launch. What the ops compute is in
// lora_products.h; here, too, every sum is in an order that follows from an adapter's own sizes. Launches hold
// as many adapters as their table has entries.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda/host/move.h"
#include "ops/dropout/dropout_launch.h"
#include "ops/grouped_product/grouped_product_launches.h"
#include "ops/lora/lora_matrix.h"
#include "ops/lora/lora_parts.h"

namespace lorasmith::cuda {

template <typename Number>
inline const Kernel<void(LoraMatrices matrices)> kLoraMatrices{"lora", "LoraMatrices" + TypeName<Number>()};

inline const Kernel<void(LoraMatrixGradients gradients)> kLoraGradients{"lora", "LoraGradients"};

inline int64_t PaddedRank(const Layer& layer) { return RoundUp(layer.rank, kLoraRankMultiple); }

inline int64_t RowsOf(const std::vector<Part>& parts) { return parts.back().saved_first + parts.back().count; }

// Of `low` of all adapters.
inline int64_t LowNumbersOf(const std::vector<Part>& parts) {
  return parts.back().low_first + parts.back().count * parts.back().columns;
}

// Makes matrices of parameters, with zeros around them, in one launch.
template <typename Number>
struct MatrixMaker {
  void Add(const LoraMatrix& matrix) { matrices.push_back(matrix); }

  // `to` [rows of layers, in]: A of all layers of an adapter, one below the other.
  void AddA(const Part& part, int64_t in, Number* to) {
    for (const Layer& layer : part.layers) {
      Add({part.a_rows[layer.column], to, static_cast<int>(layer.rank), static_cast<int>(in),
           static_cast<int>(PaddedRank(layer)), static_cast<int>(in), 0, static_cast<int>(in), 1.0f, 0});
      to += PaddedRank(layer) * in;
    }
  }

  // scale * B of a layer among `columns` of `to`, from `first_column` on.
  void AddB(const Layer& layer, int64_t columns, int64_t first_column, Number* to, int64_t to_stride) {
    Add({layer.b, to, static_cast<int>(layer.rows), static_cast<int>(layer.rank), static_cast<int>(layer.rows),
         static_cast<int>(columns), static_cast<int>(first_column), static_cast<int>(to_stride), layer.scale, 0});
  }

  void Make(Context& context) const {
    const auto blocks_of = [](const LoraMatrix& matrix) {
      return DivideUp(static_cast<int64_t>(matrix.all_rows) * matrix.all_columns, kLoraNumbers);
    };
    ForEachTable<LoraMatrices>(matrices, blocks_of, [&](const LoraMatrices& table, int64_t blocks) {
      kLoraMatrices<Number>.Launch(context, {blocks}, kLoraThreads, 0, table);
    });
  }

  std::vector<LoraMatrix> matrices;
};

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
    MatrixMaker<Number> maker;
    for (const Part& part : parts) {
      a.push_back(to);
      maker.AddA(part, in, to);
      to += part.columns * in;
      for (const Layer& layer : part.layers) {
        scaled_b.push_back(to);
        maker.AddB(layer, PaddedRank(layer), 0, to, PaddedRank(layer));
        to += layer.rows * PaddedRank(layer);
      }
    }
    maker.Make(context);
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

  // Has the left operand of the last product copied to rows with `stride` numbers: on the way, where a kernel can.
  void CopyLeft(Context& context, Number* to, int64_t stride) {
    ProductGroup& group = groups.back();
    if constexpr (std::is_same_v<Number, BFloat16>) {
      group.copy = to;
      group.copy_stride = static_cast<int>(stride);
    } else {
      CopyColumns(context, static_cast<const Number*>(group.left), group.left_stride, to, stride, group.rows,
                  group.depth);
    }
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

}  // namespace lorasmith::cuda
