// Inputs and outputs of the norms' ops, on every device.
#pragma once

#include "cpu/kernel.h"

namespace lorasmith {

// x [tokens, hidden] → each row less its mean
struct CentredOperands {
  explicit CentredOperands(Context& context) : rows(context.Dim(0, 0)), width(context.Dim(0, 1)) {
    x = context.Input<float>(0);
    result = context.Output<float>(0, {rows, width});
  }

  int64_t rows;
  int64_t width;
  const float* x;
  float* result;
};

// x [tokens, hidden], weight [hidden] → y [tokens, hidden], inverse_rms [tokens, 1]. All are null after a failure.
template <typename Number>
struct RmsNormOperands {
  explicit RmsNormOperands(Context& context) : rows(context.Dim(0, 0)), width(context.Dim(0, 1)) {
    x = context.Input<float>(0);
    weight = context.Input<float>(1);
    if (!context.Check(context.Size(1) == width, "weight must be as long as a row of x")) return;
    y = context.Output<Number>(0, {rows, width});
    inverse_rms = context.Output<float>(1, {rows, 1});
  }

  int64_t rows;
  int64_t width;
  const float* x;
  const float* weight;
  Number* y = nullptr;
  float* inverse_rms = nullptr;
};

// x, branch [tokens, hidden], weight [hidden] → x + branch, y, inverse_rms
template <typename Number>
struct AddRmsNormOperands {
  explicit AddRmsNormOperands(Context& context) : rows(context.Dim(0, 0)), width(context.Dim(0, 1)) {
    x = context.Input<float>(0);
    branch = context.Input<Number>(1);
    weight = context.Input<float>(2);
    if (!context.Check(context.Size(1) == rows * width, "branch must have the shape of x")) return;
    if (!context.Check(context.Size(2) == width, "weight must be as long as a row of x")) return;
    sum = context.Output<float>(0, {rows, width});
    y = context.Output<Number>(1, {rows, width});
    inverse_rms = context.Output<float>(2, {rows, 1});
  }

  int64_t rows;
  int64_t width;
  const float* x;
  const Number* branch;
  const float* weight;
  float* sum = nullptr;
  Number* y = nullptr;
  float* inverse_rms = nullptr;
};

// gradient [tokens, hidden] by y, x, weight, inverse_rms, residual [tokens, hidden] → by x in float32 and in T
template <typename Number>
struct RmsNormGradientOperands {
  explicit RmsNormGradientOperands(Context& context) : rows(context.Dim(1, 0)), width(context.Dim(1, 1)) {
    gradient = context.Input<Number>(0);
    x = context.Input<float>(1);
    weight = context.Input<float>(2);
    inverse_rms = context.Input<float>(3);
    residual = context.Input<float>(4);
    const bool fits = context.Size(0) == rows * width && context.Size(2) == width && context.Size(3) == rows &&
                      context.Size(4) == rows * width;
    if (!context.Check(fits, "gradient, x and residual must have one shape")) return;
    result = context.Output<float>(0, {rows, width});
    rounded = context.Output<Number>(1, {rows, width});
  }

  int64_t rows;
  int64_t width;
  const Number* gradient;
  const float* x;
  const float* weight;
  const float* inverse_rms;
  const float* residual;
  float* result = nullptr;
  Number* rounded = nullptr;
};

}  // namespace lorasmith
