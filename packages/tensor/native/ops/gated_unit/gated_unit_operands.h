// Inputs and outputs of the gated units' ops, on every device.
#pragma once

#include "cpu/kernel.h"
#include "ops/activation/activation.h"

namespace lorasmith {

// gate_up [tokens, 2 * intermediate] → [tokens, intermediate]
template <typename Number>
struct GatedUnitOperands {
  GatedUnitOperands(Context& context, Activation activation) : rows(context.Dim(0, 0)), width(context.Dim(0, 1) / 2) {
    gate_up = context.Input<Number>(0);
    if (!CheckActivation(context, activation)) return;
    result = context.Output<Number>(0, {rows, width});
  }

  int64_t rows;
  int64_t width;
  const Number* gate_up;
  Number* result = nullptr;
};

// gradient [tokens, intermediate], gate_up [tokens, 2 * intermediate] → [tokens, 2 * intermediate]
template <typename Number>
struct GatedUnitGradientOperands {
  GatedUnitGradientOperands(Context& context, Activation activation)
      : rows(context.Dim(1, 0)), width(context.Dim(1, 1) / 2) {
    gradient = context.Input<Number>(0);
    gate_up = context.Input<Number>(1);
    if (!context.Check(context.Size(0) == rows * width, "gradient must be half as wide as gate_up")) return;
    if (!CheckActivation(context, activation)) return;
    result = context.Output<Number>(0, {rows, 2 * width});
  }

  int64_t rows;
  int64_t width;
  const Number* gradient;
  const Number* gate_up;
  Number* result = nullptr;
};

// gate_up [tokens, 2 * intermediate], gate and up of each number next to each other → [tokens, intermediate]
template <typename Number>
struct ClampedUnitOperands {
  explicit ClampedUnitOperands(Context& context) : count(context.Size(0) / 2) {
    gate_up = context.Input<Number>(0);
    if (!context.Check(context.Dim(0, 1) % 2 == 0, "each gate must have an up")) return;
    result = context.Output<Number>(0, {context.Dim(0, 0), context.Dim(0, 1) / 2});
  }

  int64_t count;
  const Number* gate_up;
  Number* result = nullptr;
};

// gradient [tokens, intermediate], gate_up → [tokens, 2 * intermediate]
template <typename Number>
struct ClampedUnitGradientOperands {
  explicit ClampedUnitGradientOperands(Context& context) : count(context.Size(0)) {
    gradient = context.Input<Number>(0);
    gate_up = context.Input<Number>(1);
    if (!context.Check(context.Size(1) == 2 * count, "gradient must be half as wide as gate_up")) return;
    result = context.Output<Number>(0, {context.Dim(1, 0), context.Dim(1, 1)});
  }

  int64_t count;
  const Number* gradient;
  const Number* gate_up;
  Number* result = nullptr;
};

}  // namespace lorasmith
