// Rows of a weight into which an adapter is merged, as merged_weight.cu and the host have them.
#pragma once

#include "cuda/kernels/portable.h"

// What a block of threads has of a weight; a thread has a column of it.
constexpr int kMergedTileRows = 8;
constexpr int kMergedTileColumns = 256;

// A sum over the rank is at most so long; else it is two of half the rank. As in weight-files's merge_rows.h.
constexpr int kMergedChain = 384;

// Squares are those of numbers times this, so that tiny ones do not underflow.
constexpr float kSquareScale = 1 << 20;

// The dtype of a weight in the base's files.
enum class StoredType : int32_t { kFloat32, kFloat16, kBFloat16 };

// Rows of one layer, or of one that is not adapted, whose rank is 0.
struct MergedRows {
  const float* a;  // [rank, in]
  const float* b;  // [rows, rank]
  int64_t rows;
  int64_t in;
  int rank;
  float scale;
  StoredType stored;
};

HOST_DEVICE constexpr int64_t MergedBlocks(int64_t rows, int64_t in) {
  return (rows + kMergedTileRows - 1) / kMergedTileRows * ((in + kMergedTileColumns - 1) / kMergedTileColumns);
}
