// Gated linear units on a GPU: gated_unit.cu. What they compute is in gated_unit.cc.
#include "cuda/host/launch.h"
#include "ops/gated_unit/gated_unit_operands.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
const Kernel<void(const Number* gate_up, int64_t width, Activation activation, Number* result)> kGatedUnit{
    "gated_unit", "GatedUnit" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, const Number* gate_up, int64_t width, Activation activation, Number* result)>
    kGatedUnitGradient{"gated_unit", "GatedUnitGradient" + TypeName<Number>()};

template <typename Number>
struct GatedUnit {
  explicit GatedUnit(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const GatedUnitOperands<Number> o(context, activation);
    kGatedUnit<Number>.Launch(context, {o.width == 0 ? 0 : o.rows}, ThreadsOfRow<Number>(o.width), 0, o.gate_up,
                              o.width, activation, o.result);
  }

  Activation activation;
};

template <typename Number>
struct GatedUnitGradient {
  explicit GatedUnitGradient(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const GatedUnitGradientOperands<Number> o(context, activation);
    kGatedUnitGradient<Number>.Launch(context, {o.width == 0 ? 0 : o.rows}, ThreadsOfRow<Number>(o.width), 0,
                                      o.gradient, o.gate_up, o.width, activation, o.result);
  }

  Activation activation;
};

const GpuOps kOps{
    {"LorasmithGatedUnit", GpuKernels<GatedUnit>()},
    {"LorasmithGatedUnitGradient", GpuKernels<GatedUnitGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
