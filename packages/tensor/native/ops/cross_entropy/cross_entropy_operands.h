// Inputs and outputs of the cross entropy, on every device.
#pragma once

#include "cpu/kernel.h"

namespace lorasmith {

// logits [n, classes], labels [n] int32 → loss [n], gradient [n, classes] of the sum of the losses, correct [n]: 1
// where argmax is the label, else 0
template <typename Number>
struct CrossEntropyOperands {
  // `counts`: whether the op has the output `correct`.
  explicit CrossEntropyOperands(Context& context, bool counts = true)
      : rows(context.Dim(0, 0)), classes(context.Dim(0, 1)) {
    logits = context.Input<Number>(0);
    labels = context.Input<int32_t>(1);
    if (!context.Check(context.Size(1) == rows, "one label for each row of logits is needed")) return;
    loss = context.Output<float>(0, {rows});
    gradient = context.Output<Number>(1, {rows, classes});
    if (counts) correct = context.Output<float>(2, {rows});
  }

  int64_t rows;
  int64_t classes;
  const Number* logits;
  const int32_t* labels;
  float* loss = nullptr;
  Number* gradient = nullptr;
  float* correct = nullptr;
};

}  // namespace lorasmith
