// What the kernels between the vector of all parameters and LoRA's matrices are told of a group's layers: LoraLayout.
// The matrices have zeros beyond the sum of all ranks, so that their rows are aligned for products.
#pragma once

#include "portable.h"

constexpr int kMaxLoraLayers = 8;
// The columns of scale · B are a multiple of it: 16 bytes of bfloat16.
constexpr int kLoraWidthMultiple = 8;

struct LoraLayer {
  int64_t first_row;
  int64_t rows;
  // Of the layer's B in the group's parameters.
  int64_t b_offset;
  int rank;
  // Of the layer's rank in all ranks.
  int first_column;
  float scale;
};

struct LoraBlocks {
  // Numbers of A among the parameters, and with the rows of zeros that follow them.
  int64_t a_size;
  int64_t padded_a_size;
  // Rows of scale · B, and its columns with those of zeros.
  int64_t out;
  int width;
  int layers;
  LoraLayer layer[kMaxLoraLayers];
};

// The first blocks of a launch each have some numbers of A, the others some rows of B.
constexpr int kLoraNumbersPerBlock = 4096;
HOST_DEVICE constexpr int64_t LoraBlocksOfA(int64_t padded_a_size) {
  return (padded_a_size + kLoraNumbersPerBlock - 1) / kLoraNumbersPerBlock;
}
HOST_DEVICE constexpr int64_t LoraRowsPerBlock(int width) {
  return width >= kLoraNumbersPerBlock ? 1 : kLoraNumbersPerBlock / (width > 0 ? width : 1);
}
