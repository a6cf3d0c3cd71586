// Products of one launch, as grouped_product.cu and the host number them.
#pragma once

#include "cuda/kernels/portable.h"

// result [rows, columns] = left [rows, depth] · right [depth, columns]. A stride counts the numbers from a row of the
// memory to the next. Where the depth is cut in pieces, each piece has a result of its own.
struct ProductGroup {
  const void* left;
  const void* right;
  void* result;
  // [rows, columns] that is added to the product, of the result's type; null: nothing. It may be the result.
  const void* addend;
  // Where left [rows, depth] is copied on the way, for pieces in bfloat16; null: nowhere.
  void* copy;
  // From the result of a piece to the next.
  int64_t piece_stride;
  int left_stride;
  int right_stride;
  int result_stride;
  int addend_stride;
  int copy_stride;
  int rows;
  int columns;
  int depth;
  int pieces;
  // A multiple of kProductSlice. Pieces that begin beyond the depth are zeros.
  int piece_depth;
  int first_block;
};

using ProductGroups = LaunchTable<ProductGroup>;

// Numbers of the depth that are in shared memory at one time.
constexpr int kProductSlice = 32;
constexpr int kProductStages = 3;
constexpr int kProductPitch = kProductSlice + 8;

// What a block has of a result.
struct ProductTile {
  int rows;
  int columns;
  int threads;
  int shared_bytes;
};

// Of bfloat16 on tensor cores, each warp 32 rows and 64 columns; results of pieces are narrow.
HOST_DEVICE constexpr ProductTile BFloat16ProductTile(bool of_pieces) {
  return of_pieces ? ProductTile{128, 64, 128, kProductStages * 192 * kProductPitch * 2}
                   : ProductTile{128, 128, 256, kProductStages * 256 * kProductPitch * 2};
}

constexpr ProductTile kFloatProductTile{64, 64, 256, 0};
