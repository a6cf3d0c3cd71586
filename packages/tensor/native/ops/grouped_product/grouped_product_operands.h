// Rows that are sorted by the matrix that each is multiplied with, and their products, on every device.
#pragma once

#include "cpu/kernel.h"
#include "cpu/row_offsets.h"

namespace lorasmith {

// The first input a [rows, depth]; offsets [groups + 1] in the host's memory: group i is rows offsets[i] …
// offsets[i + 1] - 1; and the output [rows, columns]. The matrices of the groups are inputs between the two.
template <typename Number>
struct GroupedProductOperands {
  // Depth and columns are those of the matrices, `offsets_input` is the number of that input.
  GroupedProductOperands(Context& context, int64_t groups, int64_t depth, int64_t columns, int offsets_input)
      : rows(context.Dim(0, 0)),
        depth(depth),
        columns(columns),
        groups(groups),
        a(context.Input<Number>(0)),
        offsets(context.Input<int32_t>(offsets_input)) {
    context.Check(context.Dim(0, 1) == depth, "the matrices must have the same depth");
    context.Check(depth > 0, "the depth must be at least 1");
    context.Check(context.Size(offsets_input) == groups + 1, "there must be an offset for each matrix, and the end");
    CheckRows(context, offsets, groups, rows);
    if (!context.failed()) result = context.Output<Number>(0, {rows, columns});
  }

  int64_t rows;
  int64_t depth;
  int64_t columns;
  int64_t groups;
  const Number* a;
  const int32_t* offsets;
  Number* result = nullptr;

  // Calls multiply(group, rows, a, result) for each group that has rows.
  template <typename Multiply>
  void ForEachGroup(const Multiply& multiply) const {
    for (int64_t group = 0; group < groups; group++) {
      const int64_t own = RowLength(offsets, group);
      if (own == 0 || columns == 0) continue;
      const int64_t first = offsets[group];
      multiply(group, own, a + first * depth, result + first * columns);
    }
  }
};

// The same with the second input b [groups, depth, columns], or [groups, columns, depth] where it is transposed: the
// inputs of LorasmithGroupedProduct.
template <typename Number>
struct GroupedDenseOperands : GroupedProductOperands<Number> {
  GroupedDenseOperands(Context& context, bool transposed)
      : GroupedProductOperands<Number>(context, context.Dim(1, 0), context.Dim(1, transposed ? 2 : 1),
                                       context.Dim(1, transposed ? 1 : 2), 2),
        b(context.Input<Number>(1)) {}

  const Number* OfGroup(int64_t group) const { return b + group * this->depth * this->columns; }

  const Number* b;
};

}  // namespace lorasmith
