// A rectangle of quantized weights, for the kernel that decodes it and for its host code.
#pragma once

#include "portable.h"

// Numbers that a thread decodes at once, where they are in one block.
constexpr int kDecodedAtOnce = 8;

// Layout of the numbers of a module: QuantizedModule of packages/weight-io.
constexpr int kModuleValues = 3;
constexpr int kModuleNestedValues = kModuleValues + 16;
constexpr int kModuleNumbers = kModuleNestedValues + 256;

struct QuantizedBox {
  int64_t columns;  // of the whole matrix
  int64_t first_row;
  int64_t rows;
  int64_t first_column;
  int64_t width;
  int module_count;
  // Whether no block crosses a row and the rectangle begins and ends at a multiple of kDecodedAtOnce.
  int whole;
};
