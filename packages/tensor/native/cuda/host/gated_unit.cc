// Gated linear units on a GPU: kernels/gated_unit.cu. What they compute is in native/gated_unit.cc.
#include <algorithm>

#include "../kernels/activation_kind.h"
#include "launch.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
const Kernel<void(const Number* gate_up, int64_t width, Activation activation, Number* result)> kGatedUnit{
    "gated_unit", "GatedUnit" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, const Number* gate_up, int64_t width, Activation activation, Number* result)>
    kGatedUnitGradient{"gated_unit", "GatedUnitGradient" + TypeName<Number>()};

// No more threads than a row has vectors, in whole warps.
template <typename Number>
unsigned ThreadsFor(int64_t width) {
  const int64_t vectors = DivideUp(width, 16 / sizeof(Number));
  return static_cast<unsigned>(std::clamp<int64_t>(RoundUp(vectors, 32), 32, 256));
}

Activation ActivationOf(const Attributes& attributes) { return static_cast<Activation>(attributes.Int("activation")); }

bool CheckActivation(Context& context, Activation activation) {
  const bool known = activation >= Activation::kRelu && activation < Activation::kCount;
  return context.Check(known, "activation must be the index of one");
}

// gate_up [tokens, 2 * intermediate] → [tokens, intermediate]
template <typename Number>
struct GatedUnit {
  explicit GatedUnit(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const int64_t rows = context.Dim(0, 0);
    const int64_t width = context.Dim(0, 1) / 2;
    const Number* gate_up = context.Input<Number>(0);
    if (!CheckActivation(context, activation)) return;
    Number* result = context.Output<Number>(0, {rows, width});
    kGatedUnit<Number>.Launch(context, {width == 0 ? 0 : rows}, ThreadsFor<Number>(width), 0, gate_up, width,
                              activation, result);
  }

  Activation activation;
};

// gradient [tokens, intermediate], gate_up [tokens, 2 * intermediate] → [tokens, 2 * intermediate]
template <typename Number>
struct GatedUnitGradient {
  explicit GatedUnitGradient(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const int64_t rows = context.Dim(1, 0);
    const int64_t width = context.Dim(1, 1) / 2;
    const Number* gradient = context.Input<Number>(0);
    const Number* gate_up = context.Input<Number>(1);
    if (!context.Check(context.Size(0) == rows * width, "gradient must be half as wide as gate_up")) return;
    if (!CheckActivation(context, activation)) return;
    Number* result = context.Output<Number>(0, {rows, 2 * width});
    kGatedUnitGradient<Number>.Launch(context, {width == 0 ? 0 : rows}, ThreadsFor<Number>(width), 0, gradient, gate_up,
                                      width, activation, result);
  }

  Activation activation;
};

const GpuOps kOps{
    {"LorasmithGatedUnit", GpuKernels<GatedUnit>()},
    {"LorasmithGatedUnitGradient", GpuKernels<GatedUnitGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
