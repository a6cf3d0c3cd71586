// Attribute, inputs and output of LorasmithGatheredSum, on every device.
#pragma once

#include "cpu/kernel.h"

namespace lorasmith {

// x [rows, width]; places [sums * count], which may be in a GPU's memory → sums [sums, width]
template <typename Number>
struct GatheredSumOperands {
  GatheredSumOperands(Context& context, int64_t count)
      : rows(context.Dim(0, 0)),
        width(context.Dim(0, 1)),
        x(context.Input<Number>(0)),
        places(context.Input<int32_t>(1)) {
    const int64_t all = context.Size(1);
    if (!context.Check(count > 0 && all % count == 0, "each sum has as many places")) return;
    sums = all / count;
    result = context.Output<Number>(0, {sums, width});
  }

  int64_t rows;
  int64_t width;
  const Number* x;
  const int32_t* places;
  int64_t sums = 0;
  Number* result = nullptr;
};

}  // namespace lorasmith
