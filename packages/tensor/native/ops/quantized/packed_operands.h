// Weights in 4 and 8 bits as the inputs of an op.
#pragma once

#include <cstdint>

#include "../../weight-files/native/mxfp4_matrix.h"
#include "../../weight-files/native/quantized_matrix.h"
#include "../../weight-files/native/scaled_blocks.h"
#include "cpu/kernel.h"
#include "ops/grouped_product/grouped_product_operands.h"

namespace lorasmith {

// A product decodes at most so many numbers of a row at once. A block has a power of two of them that is not less, or
// reaches over the whole row.
constexpr int kLeastBlockShift = 5;
constexpr int kWholeRowShift = 62;

// Weights in 8 bits (E4M3) in memory: matrices that lie below each other, each with scales for blocks of its own. A row
// has a band, whose scales it shares with other rows of its block. Each product is rounded to float32.
// [rows, columns]
struct ScaledMatrix {
  const uint8_t* codes;
  const float* scales;   // [bands, across]
  const int32_t* bands;  // [rows]
  int64_t rows;
  int64_t columns;
  int64_t across;   // blocks in a row; the last one may be short
  int block_shift;  // of a column, to get its block

  float Scale(int64_t row, int64_t column) const { return scales[bands[row] * across + (column >> block_shift)]; }

  // A row; store(value, column) takes each number.
  template <typename Store>
  void DecodeRow(int64_t row, const Store& store) const {
    const float* values = E4M3Values();
    const uint8_t* own = codes + row * columns;
    for (int64_t block = 0, begin = 0; block < across; block++) {
      const float scale = Scale(row, begin);
      const int64_t end = block + 1 == across ? columns : (block + 1) << block_shift;
      for (; begin < end; begin++) store(values[own[begin]] * scale, begin);
    }
  }
};

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

// Weights in 4 bits.
struct QuantizedForm {
  using Matrix = QuantizedMatrix;
  static constexpr int kInputs = 4;

  explicit QuantizedForm(const Attributes&) {}

  QuantizedMatrix Operand(Context& context, int first, int64_t rows, int64_t columns) const {
    return QuantizedOperand(context, first, rows, columns);
  }
  // Whether products can decode them on the way.
  static bool HasWholeBlocks(const QuantizedMatrix& matrix) { return matrix.columns % kQuantizedBlock == 0; }
  // Whether each of the groups, one below the other, has modules of its own.
  static bool HasGroups(const QuantizedMatrix& matrix, int64_t groups) { return matrix.module_count % groups == 0; }
  // All weights, of which only those of one group can be decoded: its modules are found at once.
  static QuantizedMatrix OfGroup(QuantizedMatrix matrix, int64_t group, int64_t groups) {
    matrix.module_count /= groups;
    matrix.modules += group * matrix.module_count * QuantizedModule::kNumbers;
    return matrix;
  }
};

// Weights in 8 bits.
struct ScaledForm {
  using Matrix = ScaledMatrix;
  static constexpr int kInputs = 3;

  explicit ScaledForm(const Attributes& attributes) : block_shift(static_cast<int>(attributes.Int("block_shift"))) {}

  // Inputs `first` … `first` + 2 of an op: codes, scales and bands. What the bands are is not checked: on a GPU they
  // are not in the host's memory.
  ScaledMatrix Operand(Context& context, int first, int64_t rows, int64_t columns) const {
    ScaledMatrix matrix{};
    matrix.codes = context.Input<uint8_t>(first);
    matrix.scales = context.Input<float>(first + 1);
    matrix.bands = context.Input<int32_t>(first + 2);
    matrix.rows = rows;
    matrix.columns = columns;
    matrix.across = context.Dim(first + 1, 1);
    matrix.block_shift = block_shift;
    const bool is_size = block_shift >= kLeastBlockShift && block_shift <= kWholeRowShift;
    const bool fits = is_size && rows > 0 && columns > 0 && context.Size(first) == rows * columns &&
                      matrix.across == ((columns - 1) >> block_shift) + 1 && context.Dim(first + 1, 0) > 0 &&
                      context.Size(first + 2) == rows;
    context.Check(fits, "the parts of the scaled weights do not fit together");
    return matrix;
  }
  static bool HasWholeBlocks(const ScaledMatrix&) { return true; }
  static bool HasGroups(const ScaledMatrix&, int64_t) { return true; }
  static const ScaledMatrix& OfGroup(const ScaledMatrix& matrix, int64_t, int64_t) { return matrix; }

  int block_shift;
};

// Weights in MXFP4.
struct Mxfp4Form {
  using Matrix = Mxfp4Matrix;
  static constexpr int kInputs = 2;

  explicit Mxfp4Form(const Attributes&) {}

  // Inputs `first` and `first` + 1 of an op: codes and scales.
  Mxfp4Matrix Operand(Context& context, int first, int64_t rows, int64_t columns) const {
    const Mxfp4Matrix matrix{context.Input<uint8_t>(first), context.Input<uint8_t>(first + 1), rows, columns};
    const bool fits = rows > 0 && columns > 0 && columns % kMxfp4Block == 0 &&
                      context.Size(first) == rows * columns / 2 &&
                      context.Size(first + 1) == rows * columns / kMxfp4Block;
    context.Check(fits, "the parts of the MXFP4 weights do not fit together");
    return matrix;
  }
  static bool HasWholeBlocks(const Mxfp4Matrix&) { return true; }
  static bool HasGroups(const Mxfp4Matrix&, int64_t) { return true; }
  static const Mxfp4Matrix& OfGroup(const Mxfp4Matrix& matrix, int64_t, int64_t) { return matrix; }
};

// The rows that an op decodes.
template <typename Form>
struct DequantizeOperands {
  typename Form::Matrix matrix;
  int64_t first;
  int64_t count;
};

// The inputs of LorasmithDequantize and the ops for other forms. The last is range [4]: rows and columns of the
// matrix, the first row and how many.
template <typename Form>
DequantizeOperands<Form> DequantizeInputs(Context& context, const Form& form) {
  if (!context.Check(context.Size(Form::kInputs) == 4, "a range has four numbers")) return {};
  const auto* range = context.Input<int32_t>(Form::kInputs);
  const int64_t rows = range[0], first = range[2], count = range[3];
  const auto matrix = form.Operand(context, 0, rows, range[1]);
  context.Check(first >= 0 && count >= 0 && first + count <= rows, "the rows are not the matrix's");
  return {matrix, first, count};
}

// The attributes of LorasmithQuantizedProduct and LorasmithScaledProduct, and what follows from them: a [n, depth]
// times the weights, or times the transposed weights.
template <typename Form>
struct PackedProductShape {
  explicit PackedProductShape(const Attributes& attributes)
      : form(attributes),
        transposed(attributes.Int("transpose_b") != 0),
        rows(attributes.Int("rows")),
        columns(attributes.Int("columns")) {}

  int64_t ResultColumns() const { return transposed ? rows : columns; }
  int64_t Depth() const { return transposed ? columns : rows; }

  // The weights, which follow the first input.
  typename Form::Matrix Weights(Context& context) const {
    const auto matrix = form.Operand(context, 1, rows, columns);
    context.Check(Form::HasWholeBlocks(matrix), "products cannot decode blocks of this size");
    context.Check(context.Dim(0, 1) == Depth(), "the matrices must have the same depth");
    return matrix;
  }

  Form form;
  bool transposed;
  int64_t rows;
  int64_t columns;
};

// The same with weights [rows, columns] of each group, one group's below the other's, in the place of matrices.
template <typename Form, typename Number>
struct GroupedPackedOperands : GroupedProductOperands<Number> {
  GroupedPackedOperands(Context& context, const PackedProductShape<Form>& shape)
      : GroupedProductOperands<Number>(context, context.Size(1 + Form::kInputs) - 1, shape.Depth(),
                                       shape.ResultColumns(), 1 + Form::kInputs),
        matrix(shape.form.Operand(context, 1, this->groups * shape.rows, shape.columns)) {
    if (context.failed()) return;
    context.Check(Form::HasWholeBlocks(matrix), "products cannot decode blocks of this size");
    context.Check(Form::HasGroups(matrix, this->groups), "each group must have as many modules");
  }

  typename Form::Matrix OfGroup(int64_t group) const { return Form::OfGroup(matrix, group, this->groups); }

  typename Form::Matrix matrix;
};

}  // namespace lorasmith
