// A rectangle of weights in 4 or 8 bits, for the kernels that decode it and for their host code.
#pragma once

#include "cuda/kernels/portable.h"

// Numbers that a thread decodes at once, where they are in one block.
constexpr int kDecodedAtOnce = 8;

// Products of few rows: the most rows, the rows of the weights that a block has, its threads, and what the depth is a
// multiple of.
constexpr int kMostFewRows = 16;
constexpr int kFewRowsTile = 16;
constexpr int kFewRowsThreads = 256;
constexpr int kFewRowsDepth = 64;

// Layout of the numbers of a module: QuantizedModule of packages/weight-files.
constexpr int kModuleValues = 3;
constexpr int kModuleNestedValues = kModuleValues + 16;
constexpr int kModuleNumbers = kModuleNestedValues + 256;

// Groups of rows that one launch decodes, one behind the other: the matrices of experts. Blocks (x, i) have group
// at[i].
struct DecodedGroups {
  static constexpr int kMost = 64;
  int at[kMost];
};

struct QuantizedBox {
  int64_t columns;  // of the whole matrix
  int64_t first_row;
  int64_t rows;
  int64_t first_column;
  int64_t width;
  int module_count;
  // Whether no block crosses a row, and the rectangle and the rows of the result begin and end at multiples of
  // kDecodedAtOnce.
  int whole;
  // Numbers from a row of the result to the next; 0: the width.
  int64_t pitch;
};

// The same of weights in 8 bits; see packed_operands.h.
struct ScaledBox {
  int64_t columns;  // of the whole matrix
  int64_t first_row;
  int64_t rows;
  int64_t first_column;
  int64_t width;
  int64_t across;
  int block_shift;
  // Whether rows, also of the result, and the rectangle begin and end at multiples of kDecodedAtOnce.
  int whole;
  // Numbers from a row of the result to the next; 0: the width.
  int64_t pitch;
};
