// Tiles of the rows of a stream, as kernels and the host code that launches them number them. Row i is tokens
// offsets[i] … offsets[i + 1] - 1.
#pragma once

#include "cuda/kernels/portable.h"

// Tokens of a tile, where a kernel has no other number.
constexpr int kRowTile = 64;

// Upper bound of the tiles of all rows: a grid's x. Row i has the slots from offsets[i] / tile + i on.
HOST_DEVICE constexpr int64_t RowSlots(int64_t tokens, int64_t rows, int tile = kRowTile) {
  return tokens / tile + rows;
}
