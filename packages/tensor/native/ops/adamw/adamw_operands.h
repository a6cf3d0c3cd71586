// Inputs and outputs of AdamW's ops, on every device.
#pragma once

#include "cpu/kernel.h"
#include "ops/adamw/adamw_step.h"

namespace lorasmith {

// parameters, gradient [n], moments, rate_factors [n] or [0], square_sum [1] of the scaled gradient, step → parameters
// [n] and moments after the step. Moments are float [n]; or bytes, MomentBytes(n): then an eighth input has the tables
// of their codes.
template <typename Moment>
struct AdamWOperands {
  static constexpr bool kIsQuantized = sizeof(Moment) == 1;

  explicit AdamWOperands(Context& context) : count(context.Size(0)) {
    const int64_t factors = context.Size(4);
    const int64_t moments = kIsQuantized ? MomentBytes(count) : count;
    const bool fits = context.Size(1) == count && context.Size(2) == moments && context.Size(3) == moments &&
                      (factors == 0 || factors == count);
    if (!context.Check(fits, "parameters, gradient, moments and rate factors must be equally many")) return;
    if (!context.Check(context.Size(5) == 1, "the square sum must be one number")) return;
    if (!context.Check(context.Size(6) == kAdamWStepNumbers, "step must have the numbers of AdamWStep")) return;
    if constexpr (kIsQuantized) {
      if (!context.Check(context.Size(7) == 2 * kMomentCodes, "there must be a table for each moment")) return;
      tables = context.Input<float>(7);
    }
    parameters = context.Input<float>(0);
    gradient = context.Input<float>(1);
    first = context.Input<Moment>(2);
    second = context.Input<Moment>(3);
    rate_factors = factors == 0 ? nullptr : context.Input<float>(4);
    square_sum = context.Input<float>(5);
    step = reinterpret_cast<const AdamWStep*>(context.Input<float>(6));
    new_parameters = context.Output<float>(0, {count});
    new_first = context.Output<Moment>(1, {moments});
    new_second = context.Output<Moment>(2, {moments});
  }

  int64_t count;
  const float* parameters = nullptr;
  const float* gradient = nullptr;
  const Moment* first = nullptr;
  const Moment* second = nullptr;
  // Null where all rates are the same.
  const float* rate_factors = nullptr;
  const float* square_sum = nullptr;
  const AdamWStep* step = nullptr;
  // What the codes of the first moment stand for, ascending, then those of the second.
  const float* tables = nullptr;
  float* new_parameters = nullptr;
  Moment* new_first = nullptr;
  Moment* new_second = nullptr;
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
