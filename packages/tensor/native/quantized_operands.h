// Quantized weights as the inputs of an op.
#pragma once

#include "../../weight-io/native/quantized_matrix.h"
#include "kernel.h"

namespace lorasmith {

// Inputs `first` … `first` + 3 of an op: codes, scales, scales of scales, and the modules' numbers. The context fails
// where their sizes do not fit together.
inline QuantizedMatrix QuantizedOperand(Context& context, int first, int64_t rows, int64_t columns) {
  QuantizedMatrix matrix{};
  matrix.codes = context.Input<uint8_t>(first);
  matrix.scales = context.Input<uint8_t>(first + 1);
  const int64_t nested_count = context.Size(first + 2);
  matrix.nested_scales = nested_count == 0 ? nullptr : context.Input<float>(first + 2);
  matrix.modules = context.Input<float>(first + 3);
  matrix.module_count = context.Size(first + 3) / QuantizedModule::kNumbers;
  matrix.rows = rows;
  matrix.columns = columns;
  const int64_t numbers = rows * columns;
  const int64_t blocks = (numbers + kQuantizedBlock - 1) / kQuantizedBlock;
  const bool fits = rows > 0 && columns > 0 && matrix.module_count > 0 &&
                    context.Size(first + 3) == matrix.module_count * QuantizedModule::kNumbers &&
                    (matrix.module_count == 1 || columns % kQuantizedBlock == 0) &&
                    context.Size(first) == (numbers + 1) / 2 &&
                    context.Size(first + 1) == (nested_count == 0 ? blocks * 4 : blocks) &&
                    (nested_count == 0 || nested_count >= (blocks + kNestedBlock - 1) / kNestedBlock);
  context.Check(fits, "the parts of the quantized weights do not fit together");
  return matrix;
}

}  // namespace lorasmith
