#include <algorithm>

#include "cpu/number.h"
#include "ops/grouped_product/grouped_product_launches.h"

namespace lorasmith::cuda {
namespace {

using Groups = Kernel<void(ProductGroups groups)>;

template <typename Number>
struct GroupKernels;

template <>
struct GroupKernels<float> {
  static const Groups& Whole(ProductForm form) {
    return form == ProductForm::kPlain ? kPlain : form == ProductForm::kTransposed ? kTransposed : kOfRows;
  }
  static const Groups& Pieces(ProductForm form) { return Whole(form); }
  static constexpr ProductTile Tile(bool) { return kFloatProductTile; }

  static const Groups kPlain, kTransposed, kOfRows;
};

const Groups GroupKernels<float>::kPlain{"grouped_product", "GroupedProductFloat32"};
const Groups GroupKernels<float>::kTransposed{"grouped_product", "GroupedProductTransposedFloat32"};
const Groups GroupKernels<float>::kOfRows{"grouped_product", "GroupedProductOfRowsFloat32"};

template <>
struct GroupKernels<BFloat16> {
  static const Groups& Whole(ProductForm form) { return form == ProductForm::kPlain ? kPlain : kTransposed; }
  static const Groups& Pieces(ProductForm form) {
    return form == ProductForm::kPlain        ? kPiecesPlain
           : form == ProductForm::kTransposed ? kPiecesTransposed
                                              : kPiecesOfRows;
  }
  static constexpr ProductTile Tile(bool of_pieces) { return BFloat16ProductTile(of_pieces); }

  static const Groups kPlain, kTransposed, kPiecesPlain, kPiecesTransposed, kPiecesOfRows;
};

const Groups GroupKernels<BFloat16>::kPlain{"grouped_product", "GroupedProductBFloat16"};
const Groups GroupKernels<BFloat16>::kTransposed{"grouped_product", "GroupedProductTransposedBFloat16"};
const Groups GroupKernels<BFloat16>::kPiecesPlain{"grouped_product", "ProductPiecesBFloat16"};
const Groups GroupKernels<BFloat16>::kPiecesTransposed{"grouped_product", "ProductPiecesTransposedBFloat16"};
const Groups GroupKernels<BFloat16>::kPiecesOfRows{"grouped_product", "ProductPiecesOfRowsBFloat16"};

template <typename Number>
const Kernel<void(const float* pieces, int32_t count, int64_t size, Number* result)> kSumPieces{
    "grouped_product", "SumPieces" + TypeName<Number>()};

void Launch(Context& context, const Groups& kernel, const ProductTile& tile, const std::vector<ProductGroup>& groups) {
  int pieces = 1;
  for (const ProductGroup& group : groups) pieces = std::max(pieces, group.pieces);
  const auto blocks_of = [&](const ProductGroup& group) {
    return DivideUp(group.rows, tile.rows) * DivideUp(group.columns, tile.columns);
  };
  ForEachTable<ProductGroups>(groups, blocks_of, [&](const ProductGroups& table, int64_t blocks) {
    kernel.Launch(context, {blocks, pieces}, tile.threads, tile.shared_bytes, table);
  });
}

// The depth alone says how it is cut, so that a sum has the same order beside any other products.
constexpr int64_t kMostPieces = 8;
constexpr int64_t kLeastPieceDepth = 1024;

}  // namespace

ProductGroup WholeProduct(const void* left, const void* right, void* result, int64_t rows, int64_t columns,
                          int64_t depth, ProductForm form) {
  ProductGroup group{};
  group.left = left;
  group.right = right;
  group.result = result;
  group.left_stride = static_cast<int>(form == ProductForm::kOfRows ? rows : depth);
  group.right_stride = static_cast<int>(form == ProductForm::kTransposed ? depth : columns);
  group.result_stride = static_cast<int>(columns);
  group.rows = static_cast<int>(rows);
  group.columns = static_cast<int>(columns);
  group.depth = static_cast<int>(depth);
  group.pieces = 1;
  group.piece_depth = static_cast<int>(RoundUp(depth, kProductSlice));
  return group;
}

void AddInPlace(ProductGroup* group) {
  group->addend = group->result;
  group->addend_stride = group->result_stride;
}

int64_t PieceDepth(int64_t depth) {
  return std::max(kLeastPieceDepth, RoundUp(DivideUp(depth, kMostPieces), kProductSlice));
}

template <typename Number>
void MultiplyGroups(Context& context, ProductForm form, const std::vector<ProductGroup>& groups) {
  using Kernels = GroupKernels<Number>;
  Launch(context, Kernels::Whole(form), Kernels::Tile(false), groups);
}

template <typename Number>
void MultiplyPieces(Context& context, ProductForm form, const std::vector<ProductGroup>& groups) {
  using Kernels = GroupKernels<Number>;
  Launch(context, Kernels::Pieces(form), Kernels::Tile(true), groups);
}

template <typename Number>
void SumPieces(Context& context, const float* pieces, int64_t count, int64_t size, Number* result) {
  constexpr unsigned kThreads = 256;
  constexpr int64_t kMostBlocks = 1 << 16;
  const Grid grid{std::min(DivideUp(size, kThreads), kMostBlocks)};
  kSumPieces<Number>.Launch(context, grid, kThreads, 0, pieces, static_cast<int32_t>(count), size, result);
}

template void MultiplyGroups<float>(Context&, ProductForm, const std::vector<ProductGroup>&);
template void MultiplyGroups<BFloat16>(Context&, ProductForm, const std::vector<ProductGroup>&);
template void MultiplyPieces<float>(Context&, ProductForm, const std::vector<ProductGroup>&);
template void MultiplyPieces<BFloat16>(Context&, ProductForm, const std::vector<ProductGroup>&);
template void SumPieces<float>(Context&, const float*, int64_t, int64_t, float*);
template void SumPieces<BFloat16>(Context&, const float*, int64_t, int64_t, BFloat16*);

}  // namespace lorasmith::cuda
