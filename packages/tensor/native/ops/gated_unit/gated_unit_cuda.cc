// Gated linear units on a GPU: gated_unit.cu. What they compute is in gated_unit.cc.
#include <algorithm>

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

// The gated unit of gpt-oss.

constexpr int64_t kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;

template <typename Number>
const Kernel<void(const Number* gate_up, int64_t count, float limit, Number* result)> kClampedUnit{
    "gated_unit", "ClampedUnit" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, const Number* gate_up, int64_t count, float limit, Number* result)>
    kClampedUnitGradient{"gated_unit", "ClampedUnitGradient" + TypeName<Number>()};

// A thread for the pairs of each vector of 16 bytes, or of several.
template <typename Number>
Grid GridOf(int64_t count) {
  return {std::min(kMostBlocks, DivideUp(2 * count, kThreads * 16 / static_cast<int64_t>(sizeof(Number))))};
}

template <typename Number>
struct ClampedUnit {
  explicit ClampedUnit(const Attributes& attributes) : limit(attributes.Float("limit")) {}

  void Compute(Context& context) const {
    const ClampedUnitOperands<Number> o(context);
    kClampedUnit<Number>.Launch(context, GridOf<Number>(o.count), kThreads, 0, o.gate_up, o.count, limit, o.result);
  }

  float limit;
};

template <typename Number>
struct ClampedUnitGradient {
  explicit ClampedUnitGradient(const Attributes& attributes) : limit(attributes.Float("limit")) {}

  void Compute(Context& context) const {
    const ClampedUnitGradientOperands<Number> o(context);
    kClampedUnitGradient<Number>.Launch(context, GridOf<Number>(o.count), kThreads, 0, o.gradient, o.gate_up, o.count,
                                        limit, o.result);
  }

  float limit;
};

const GpuOps kOps{
    {"LorasmithGatedUnit", GpuKernels<GatedUnit>()},
    {"LorasmithGatedUnitGradient", GpuKernels<GatedUnitGradient>()},
    {"LorasmithClampedUnit", GpuKernels<ClampedUnit>()},
    {"LorasmithClampedUnitGradient", GpuKernels<ClampedUnitGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
