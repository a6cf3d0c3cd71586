// Inputs and outputs of AdamW's ops, on every device.
#pragma once

#include "cuda/kernels/adamw_step.h"
#include "kernel.h"

namespace lorasmith {

// parameters, gradient, first, second [n], rate_factors [n] or [0], square_sum [1] of the scaled gradient, step →
// parameters and moments after the step, [n] each
struct AdamWOperands {
  explicit AdamWOperands(Context& context) : count(context.Size(0)) {
    const int64_t factors = context.Size(4);
    const bool fits = context.Size(1) == count && context.Size(2) == count && context.Size(3) == count &&
                      (factors == 0 || factors == count);
    if (!context.Check(fits, "parameters, gradient, moments and rate factors must be equally many")) return;
    if (!context.Check(context.Size(5) == 1, "the square sum must be one number")) return;
    if (!context.Check(context.Size(6) == kAdamWStepNumbers, "step must have the numbers of AdamWStep")) return;
    parameters = context.Input<float>(0);
    gradient = context.Input<float>(1);
    first = context.Input<float>(2);
    second = context.Input<float>(3);
    rate_factors = factors == 0 ? nullptr : context.Input<float>(4);
    square_sum = context.Input<float>(5);
    step = reinterpret_cast<const AdamWStep*>(context.Input<float>(6));
    new_parameters = context.Output<float>(0, {count});
    new_first = context.Output<float>(1, {count});
    new_second = context.Output<float>(2, {count});
  }

  int64_t count;
  const float* parameters = nullptr;
  const float* gradient = nullptr;
  const float* first = nullptr;
  const float* second = nullptr;
  // Null where all rates are the same.
  const float* rate_factors = nullptr;
  const float* square_sum = nullptr;
  const AdamWStep* step = nullptr;
  float* new_parameters = nullptr;
  float* new_first = nullptr;
  float* new_second = nullptr;
};

// x [n], factor [1] → the sum of (factor x)², [1]
struct SquareSumOperands {
  explicit SquareSumOperands(Context& context) : count(context.Size(0)) {
    if (!context.Check(context.Size(1) == 1, "the factor must be one number")) return;
    x = context.Input<float>(0);
    factor = context.Input<float>(1);
    result = context.Output<float>(0, {1});
  }

  int64_t count;
  const float* x = nullptr;
  const float* factor = nullptr;
  float* result = nullptr;
};

}  // namespace lorasmith
