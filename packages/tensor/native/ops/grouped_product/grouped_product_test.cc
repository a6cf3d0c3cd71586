// Many products in one launch.
#include <memory>

#include "cuda/test/guarded.h"
#include "ops/grouped_product/grouped_product_shape.h"

using namespace kernel_test;

namespace {

enum class Form { kPlain, kTransposed, kOfRows };
enum class Adds { kNothing, kInPlace, kOther };

struct Shape {
  int rows;
  int columns;
  int depth;
  // Numbers that follow each row of the operands and the result, and that are not theirs.
  int beyond = 0;
  // Of the depth.
  int pieces = 1;
  int piece_depth = 0;
};

int64_t Stride(const Shape& shape, int own) { return own + shape.beyond; }

// A product and its memory.
template <typename T, typename Result>
struct Product {
  Product(Form product_form, const Shape& product_shape)
      : form(product_form),
        shape(product_shape),
        left(LeftRows() * Stride(shape, LeftColumns())),
        right(RightRows() * Stride(shape, RightColumns())),
        result(static_cast<int64_t>(shape.pieces) * shape.rows * Stride(shape, shape.columns)),
        addend(shape.rows * AddendStride()),
        copy(shape.rows * CopyStride()) {
    left.FillRandom(), right.FillRandom(), addend.FillRandom();
    for (int64_t i = 0; i < result.size(); i++) Store(static_cast<float>(i % 7), &result[i]);
    for (int64_t i = 0; i < copy.size(); i++) Store(-1.0f, &copy[i]);
    before.assign(result.data(), result.data() + result.size());
  }

  int LeftRows() const { return form == Form::kOfRows ? shape.depth : shape.rows; }
  int LeftColumns() const { return form == Form::kOfRows ? shape.rows : shape.depth; }
  int RightRows() const { return form == Form::kTransposed ? shape.columns : shape.depth; }
  int RightColumns() const { return form == Form::kTransposed ? shape.depth : shape.columns; }

  double Left(int row, int k) const {
    const int64_t stride = Stride(shape, LeftColumns());
    return ToFloat(left_data()[form == Form::kOfRows ? k * stride + row : row * stride + k]);
  }
  double Right(int k, int column) const {
    const int64_t stride = Stride(shape, RightColumns());
    return ToFloat(right_data()[form == Form::kTransposed ? column * stride + k : k * stride + column]);
  }

  // Rows of the addend are as aligned as those of the result, and longer.
  int64_t AddendStride() const { return Stride(shape, shape.columns) + 8; }

  int64_t CopyStride() const { return shape.depth + shape.beyond; }

  ProductGroup Group(Adds adds) {
    ProductGroup group{};
    group.left = left.data(), group.right = right.data(), group.result = result.data();
    group.left_stride = static_cast<int>(Stride(shape, LeftColumns()));
    group.right_stride = static_cast<int>(Stride(shape, RightColumns()));
    group.result_stride = static_cast<int>(Stride(shape, shape.columns));
    group.piece_stride = shape.rows * Stride(shape, shape.columns);
    group.rows = shape.rows, group.columns = shape.columns, group.depth = shape.depth;
    group.pieces = shape.pieces;
    if (Copies()) group.copy = copy.data(), group.copy_stride = static_cast<int>(CopyStride());
    if (adds == Adds::kInPlace) group.addend = group.result, group.addend_stride = group.result_stride;
    if (adds == Adds::kOther) group.addend = addend.data(), group.addend_stride = static_cast<int>(AddendStride());
    group.piece_depth =
        shape.piece_depth > 0 ? shape.piece_depth : (shape.depth + kProductSlice - 1) / kProductSlice * kProductSlice;
    return group;
  }

  bool Copies() const { return sizeof(T) == 2 && sizeof(Result) == 4 && form != Form::kOfRows; }

  void CheckCopy() {
    for (int row = 0; row < shape.rows; row++) {
      const T* from = left_data() + row * Stride(shape, shape.depth);
      const T* to = copy.data() + row * CopyStride();
      Expect(memcmp(from, to, shape.depth * sizeof(T)) == 0, "the copy of an operand");
      for (int64_t k = shape.depth; k < CopyStride(); k++) Expect(ToFloat(to[k]) == -1, "a number beyond a copied row");
    }
  }

  float Addend(Adds adds, int64_t at, int row, int column) {
    if (adds == Adds::kNothing) return 0;
    return ToFloat(adds == Adds::kInPlace ? before[at] : addend[row * AddendStride() + column]);
  }

  void Check(Adds adds) {
    const int64_t stride = Stride(shape, shape.columns);
    for (int piece = 0; piece < shape.pieces; piece++) {
      const int begin = shape.pieces == 1 ? 0 : std::min(piece * shape.piece_depth, shape.depth);
      const int end = shape.pieces == 1 ? shape.depth : std::min(begin + shape.piece_depth, shape.depth);
      for (int row = 0; row < shape.rows; row++) {
        for (int column = 0; column < stride; column++) {
          const int64_t at = (static_cast<int64_t>(piece) * shape.rows + row) * stride + column;
          if (column >= shape.columns) {
            Expect(memcmp(&result[at], &before[at], sizeof(Result)) == 0, "a number beyond a row is written");
            continue;
          }
          double sum = 0, size = 0;
          for (int k = begin; k < end; k++) {
            const double product = Left(row, k) * Right(k, column);
            sum += product, size += std::abs(product);
          }
          const float added = Addend(adds, at, row, column);
          sum += added, size += std::abs(added);
          if (!Near(sum, ToFloat(result[at]), 1.01 * kUnit<Result>, 1e-6 * size)) {
            Differs("product " + NameOf({shape.rows, shape.columns, shape.depth}) + " piece " + std::to_string(piece) +
                        " at " + NameOf({row, column}),
                    sum, ToFloat(result[at]));
          }
        }
      }
    }
  }

  Form form;
  Shape shape;
  Memory<T> left, right;
  Memory<Result> result, addend;
  Memory<T> copy;
  std::vector<Result> before;

 private:
  const T* left_data() const { return const_cast<Product*>(this)->left.data(); }
  const T* right_data() const { return const_cast<Product*>(this)->right.data(); }
};

template <typename T, typename Result>
void LaunchProducts(const std::string& kernel, const std::vector<Product<T, Result>*>& products, Adds adds) {
  const ProductTile tile = sizeof(T) == 4 ? kFloatProductTile : BFloat16ProductTile(sizeof(Result) == 4);
  ProductGroups groups{};
  int blocks = 0, pieces = 1;
  for (Product<T, Result>* product : products) {
    ProductGroup& group = groups.at[groups.count++] = product->Group(adds);
    group.first_block = blocks;
    blocks += (group.rows + tile.rows - 1) / tile.rows * ((group.columns + tile.columns - 1) / tile.columns);
    pieces = std::max(pieces, group.pieces);
  }
  Launch(kernel, dim3(blocks, pieces), tile.threads, tile.shared_bytes, groups);
}

// All at once; then each alone, which must give the same bytes.
template <typename T, typename Result>
void TestProducts(const std::string& kernel, Form form, const std::vector<Shape>& shapes, Adds adds) {
  std::vector<std::unique_ptr<Product<T, Result>>> products;
  std::vector<Product<T, Result>*> all;
  for (const Shape& shape : shapes) {
    products.push_back(std::make_unique<Product<T, Result>>(form, shape));
    all.push_back(products.back().get());
  }
  // What is not a number stays in its own product, and row.
  Product<T, Result>& broken = *all[1];
  for (int k = 0; k < broken.shape.depth; k++) {
    const int64_t stride = Stride(broken.shape, broken.LeftColumns());
    Store(NAN, &broken.left[form == Form::kOfRows ? k * stride : k]);
  }
  LaunchProducts(kernel, all, adds);
  for (Product<T, Result>* product : all) {
    if (run.compares) product->Check(adds);
    if (run.compares && product->Copies()) product->CheckCopy();
    std::vector<Result> together(product->result.data(), product->result.data() + product->result.size());
    memcpy(static_cast<void*>(product->result.data()), product->before.data(), product->result.bytes());
    LaunchProducts<T, Result>(kernel, {product}, adds);
    Expect(memcmp(together.data(), product->result.data(), product->result.bytes()) == 0,
           kernel + ": a product has other bytes alone");
  }
}

// Sizes that fill tiles and slices, that no vector divides, narrow and with more than a tile.
std::vector<Shape> WholeShapes() {
  if (small) return {{33, 40, 72, 8}, {2, 9, 37, 3}, {129, 8, 8}};
  return {{130, 136, 72, 8}, {2, 9, 37, 3}, {1, 1, 1}, {129, 8, 8}, {64, 261, 100, 4}};
}

// A second piece that is short, one that lies beyond the depth, and a depth of one slice.
std::vector<Shape> PieceShapes() {
  if (small) return {{40, 24, 80, 8, 2, 64}, {5, 7, 45, 1, 3, 32}};
  return {{130, 72, 112, 8, 2, 64}, {5, 7, 45, 1, 3, 32}, {131, 16, 64, 0, 1, 64}};
}

}  // namespace

KERNEL_TEST(GroupedProductFloat32) {
  for (Adds adds : {Adds::kNothing, Adds::kInPlace, Adds::kOther})
    TestProducts<float, float>("GroupedProductFloat32", Form::kPlain, WholeShapes(), adds);
  TestProducts<float, float>("GroupedProductFloat32", Form::kPlain, PieceShapes(), Adds::kNothing);
}
KERNEL_TEST(GroupedProductTransposedFloat32) {
  for (Adds adds : {Adds::kNothing, Adds::kInPlace, Adds::kOther})
    TestProducts<float, float>("GroupedProductTransposedFloat32", Form::kTransposed, WholeShapes(), adds);
  TestProducts<float, float>("GroupedProductTransposedFloat32", Form::kTransposed, PieceShapes(), Adds::kNothing);
}
KERNEL_TEST(GroupedProductOfRowsFloat32) {
  TestProducts<float, float>("GroupedProductOfRowsFloat32", Form::kOfRows, PieceShapes(), Adds::kNothing);
}
KERNEL_TEST(GroupedProductBFloat16) {
  for (Adds adds : {Adds::kNothing, Adds::kInPlace, Adds::kOther})
    TestProducts<bf16, bf16>("GroupedProductBFloat16", Form::kPlain, WholeShapes(), adds);
}
KERNEL_TEST(GroupedProductTransposedBFloat16) {
  for (Adds adds : {Adds::kNothing, Adds::kInPlace, Adds::kOther})
    TestProducts<bf16, bf16>("GroupedProductTransposedBFloat16", Form::kTransposed, WholeShapes(), adds);
}
KERNEL_TEST(ProductPiecesBFloat16) {
  TestProducts<bf16, float>("ProductPiecesBFloat16", Form::kPlain, PieceShapes(), Adds::kNothing);
}
KERNEL_TEST(ProductPiecesTransposedBFloat16) {
  TestProducts<bf16, float>("ProductPiecesTransposedBFloat16", Form::kTransposed, PieceShapes(), Adds::kNothing);
}
KERNEL_TEST(ProductPiecesOfRowsBFloat16) {
  TestProducts<bf16, float>("ProductPiecesOfRowsBFloat16", Form::kOfRows, PieceShapes(), Adds::kNothing);
}

namespace {

template <typename T>
void TestSumPieces(int count, int64_t size) {
  Memory<float> pieces(count * size);
  Memory<T> result(size);
  pieces.FillRandom();
  Launch("SumPieces" + kTypeName<T>, GridOf(size), 256, 0, static_cast<const float*>(pieces.data()), count, size,
         result.data());
  for (int64_t i = 0; i < size; i++) {
    float sum = 0;
    for (int piece = 0; piece < count; piece++) sum += pieces[piece * size + i];
    T expected;
    Store(sum, &expected);
    Expect(memcmp(&expected, &result[i], sizeof(T)) == 0, "a sum of pieces");
  }
}

}  // namespace

KERNEL_TEST(SumPieces) {
  for (int count : {1, 3}) TestSumPieces<float>(count, 1037), TestSumPieces<bf16>(count, 1037);
}
