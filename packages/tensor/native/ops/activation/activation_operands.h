// The inputs and outputs of the ops that have an activation, on every device.
#pragma once

#include <vector>

#include "cpu/kernel.h"
#include "ops/activation/activation_kind.h"

namespace lorasmith {

inline Activation ActivationOf(const Attributes& attributes) {
  return static_cast<Activation>(attributes.Int("activation"));
}

inline bool CheckActivation(Context& context, Activation activation) {
  const bool known = activation >= Activation::kRelu && activation < Activation::kCount;
  return context.Check(known, "activation must be the index of one");
}

// x of any shape → f(x). All are null after a failure.
template <typename Number>
struct ActivationOperands {
  ActivationOperands(Context& context, Activation activation) : shape(context.Shape(0)), size(context.Size(0)) {
    x = context.Input<Number>(0);
    if (!CheckActivation(context, activation)) return;
    result = context.Output<Number>(0, shape);
  }

  std::vector<int64_t> shape;
  int64_t size;
  const Number* x;
  Number* result = nullptr;
};

// gradient by f(x), x of the same shape → gradient by x
template <typename Number>
struct ActivationGradientOperands {
  ActivationGradientOperands(Context& context, Activation activation) : shape(context.Shape(1)), size(context.Size(1)) {
    gradient = context.Input<Number>(0);
    x = context.Input<Number>(1);
    if (!context.Check(context.Size(0) == size, "gradient and x must have one shape")) return;
    if (!CheckActivation(context, activation)) return;
    result = context.Output<Number>(0, shape);
  }

  std::vector<int64_t> shape;
  int64_t size;
  const Number* gradient;
  const Number* x;
  Number* result = nullptr;
};

}  // namespace lorasmith
