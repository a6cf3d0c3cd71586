// What the kernels between the vector of all parameters and LoRA's matrices are told of a group's layers: LoraLayout.
#pragma once

#include "portable.h"

constexpr int kMaxLoraLayers = 8;

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
  // Numbers of A, and rows of scale · B with their columns.
  int64_t a_size;
  int64_t out;
  int total_rank;
  int layers;
  LoraLayer layer[kMaxLoraLayers];
};

// The first blocks of a launch each have some numbers of A, the others some rows of B.
constexpr int kLoraNumbersPerBlock = 4096;
HOST_DEVICE constexpr int64_t LoraBlocksOfA(int64_t a_size) {
  return (a_size + kLoraNumbersPerBlock - 1) / kLoraNumbersPerBlock;
}
HOST_DEVICE constexpr int64_t LoraRowsPerBlock(int total_rank) {
  return total_rank >= kLoraNumbersPerBlock ? 1 : kLoraNumbersPerBlock / (total_rank > 0 ? total_rank : 1);
}
