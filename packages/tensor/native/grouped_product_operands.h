// Inputs and output of LorasmithGroupedProduct, on every device.
#pragma once

#include "kernel.h"
#include "row_offsets.h"

namespace lorasmith {

// a [rows, depth], sorted by the matrix that each row is multiplied with; b [groups, depth, columns], or
// [groups, columns, depth] where it is transposed; offsets [groups + 1] in the host's memory: group i is rows
// offsets[i] … offsets[i + 1] - 1 → result [rows, columns]
template <typename Number>
struct GroupedProductOperands {
  GroupedProductOperands(Context& context, bool transposed)
      : rows(context.Dim(0, 0)),
        depth(context.Dim(0, 1)),
        columns(context.Dim(1, transposed ? 1 : 2)),
        groups(context.Dim(1, 0)) {
    a = context.Input<Number>(0);
    b = context.Input<Number>(1);
    offsets = context.Input<int32_t>(2);
    context.Check(context.Dim(1, transposed ? 2 : 1) == depth, "the matrices must have the same depth");
    context.Check(depth > 0, "the depth must be at least 1");
    context.Check(context.Size(2) == groups + 1, "there must be an offset for each matrix, and the end");
    CheckRows(context, offsets, groups, rows);
    if (!context.failed()) result = context.Output<Number>(0, {rows, columns});
  }

  int64_t rows;
  int64_t depth;
  int64_t columns;
  int64_t groups;
  const Number* a;
  const Number* b;
  const int32_t* offsets;
  Number* result = nullptr;

  // Calls multiply(rows, a, b, result) for each group that has rows.
  template <typename Multiply>
  void ForEachGroup(const Multiply& multiply) const {
    for (int64_t group = 0; group < groups; group++) {
      const int64_t own = RowLength(offsets, group);
      if (own == 0 || columns == 0) continue;
      const int64_t first = offsets[group];
      multiply(own, a + first * depth, b + group * depth * columns, result + first * columns);
    }
  }
};

}  // namespace lorasmith
