// The attribute of the ops that have an activation, on every device.
#pragma once

#include "cuda/kernels/activation_kind.h"
#include "kernel.h"

namespace lorasmith {

inline Activation ActivationOf(const Attributes& attributes) {
  return static_cast<Activation>(attributes.Int("activation"));
}

inline bool CheckActivation(Context& context, Activation activation) {
  const bool known = activation >= Activation::kRelu && activation < Activation::kCount;
  return context.Check(known, "activation must be the index of one");
}

}  // namespace lorasmith
