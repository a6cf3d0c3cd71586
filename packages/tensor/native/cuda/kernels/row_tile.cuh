// Where rows of a stream and their tiles are.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/portable.h"

// Tokens of a row: kSize of them, or fewer at its end.
struct Tile {
  int64_t start;  // of the row in the stream
  int length;     // of the row
  int first;      // of the tile in the row; not below length: the slot has no tile
};

template <int kSize = kRowTile>
__device__ __forceinline__ Tile FindTile(const int32_t* offsets, int rows, int slot) {
  int row = 0;
  for (int end = rows; end - row > 1;) {
    const int middle = (row + end) / 2;
    if (offsets[middle] / kSize + middle <= slot) {
      row = middle;
    } else {
      end = middle;
    }
  }
  const int start = offsets[row];
  return {start, offsets[row + 1] - start, (slot - start / kSize - row) * kSize};
}

// The row that has a token.
__device__ __forceinline__ int FindRow(const int32_t* offsets, int rows, int64_t token) {
  int row = 0;
  for (int end = rows; end - row > 1;) {
    const int middle = (row + end) / 2;
    if (offsets[middle] <= token) {
      row = middle;
    } else {
      end = middle;
    }
  }
  return row;
}
