// Many products in one launch: grouped_product.cu.
#pragma once

#include <vector>

#include "cuda/host/launch.h"
#include "ops/grouped_product/grouped_product_shape.h"

namespace lorasmith::cuda {

// How the memory of the two matrices lies.
enum class ProductForm {
  kPlain,       // left [rows, depth], right [depth, columns]
  kTransposed,  // left [rows, depth], right [columns, depth]
  kOfRows,      // left [depth, rows], right [depth, columns]
};

// A product whose depth is not cut. Strides are the numbers of a row, as `form` has them.
ProductGroup WholeProduct(const void* left, const void* right, void* result, int64_t rows, int64_t columns,
                          int64_t depth, ProductForm form);

// How deep the pieces of a depth are. It depends on nothing else, so that a sum is in the same order in any company.
int64_t PieceDepth(int64_t depth);

// Adds the product to what is in the memory of its result.
void AddInPlace(ProductGroup* group);

// Results in Number; kOfRows has none.
template <typename Number>
void MultiplyGroups(Context& context, ProductForm form, const std::vector<ProductGroup>& groups);

// Results in float32, each piece of the depth one of its own.
template <typename Number>
void MultiplyPieces(Context& context, ProductForm form, const std::vector<ProductGroup>& groups);

// pieces [count, size] → their sum [size]
template <typename Number>
void SumPieces(Context& context, const float* pieces, int64_t count, int64_t size, Number* result);

}  // namespace lorasmith::cuda
