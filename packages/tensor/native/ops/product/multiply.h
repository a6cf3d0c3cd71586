// Products of matrices by cuBLASLt.
#pragma once

#include <cstdint>

#include "cpu/kernel.h"

namespace lorasmith::cuda {

// result [batch, rows, columns] = a [batch, rows, depth] · b [batch, depth, columns], all row-major; a transposed one
// is stored with its last two axes swapped. Sums are in float32 and in the same order every time.
struct Product {
  TF_DataType type = TF_FLOAT;
  int64_t batch = 1;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;
  bool transpose_a = false;
  bool transpose_b = false;
  // One matrix for the whole batch.
  bool share_a = false;
  bool share_b = false;
  // Numbers from a row of the memory to the next, for a single matrix; 0: as many as it has columns.
  int64_t b_stride = 0;
  int64_t result_stride = 0;
};

// `addend`: of the result's shape, added before the result is rounded; null for none. Any size may be 0.
void Multiply(Context& context, const Product& product, const void* a, const void* b, const void* addend, void* result);

// Products that were computed.
uint64_t ProductCount();

// Times that cuBLASLt was asked for algorithms.
uint64_t AlgorithmQueryCount();

}  // namespace lorasmith::cuda
