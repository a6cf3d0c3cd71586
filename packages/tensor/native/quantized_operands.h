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

// The rows that LorasmithDequantize decodes.
struct DequantizeOperands {
  QuantizedMatrix matrix;
  int64_t first;
  int64_t count;
};

// Inputs 0 … 4 of LorasmithDequantize. The last is range [4]: rows and columns of the matrix, the first row and how
// many.
inline DequantizeOperands DequantizeInputs(Context& context) {
  if (!context.Check(context.Size(4) == 4, "a range has four numbers")) return {};
  const auto* range = context.Input<int32_t>(4);
  const int64_t rows = range[0], first = range[2], count = range[3];
  const QuantizedMatrix matrix = QuantizedOperand(context, 0, rows, range[1]);
  context.Check(first >= 0 && count >= 0 && first + count <= rows, "the rows are not the matrix's");
  return {matrix, first, count};
}

// The attributes of LorasmithQuantizedProduct, and what follows from them: a [n, depth] times the weights, or times the
// transposed weights.
struct QuantizedProductShape {
  explicit QuantizedProductShape(const Attributes& attributes)
      : transposed(attributes.Int("transpose_b") != 0),
        rows(attributes.Int("rows")),
        columns(attributes.Int("columns")) {}

  int64_t ResultColumns() const { return transposed ? rows : columns; }
  int64_t Depth() const { return transposed ? columns : rows; }

  // The weights, which follow the first input.
  QuantizedMatrix Weights(Context& context) const {
    const QuantizedMatrix matrix = QuantizedOperand(context, 1, rows, columns);
    context.Check(columns % kQuantizedBlock == 0, "a block of the quantized weights crosses a row");
    context.Check(context.Dim(0, 1) == Depth(), "the matrices must have the same depth");
    return matrix;
  }

  bool transposed;
  int64_t rows;
  int64_t columns;
};

}  // namespace lorasmith
