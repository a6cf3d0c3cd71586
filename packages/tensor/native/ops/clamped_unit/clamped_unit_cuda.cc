// The gated unit of gpt-oss on a GPU: clamped_unit.cu. What it computes is in clamped_unit.cc.
#include <algorithm>

#include "cuda/host/launch.h"
#include "ops/clamped_unit/clamped_unit_operands.h"

namespace lorasmith::cuda {
namespace {

constexpr int64_t kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;

template <typename Number>
const Kernel<void(const Number* gate_up, int64_t count, float limit, Number* result)> kClampedUnit{
    "clamped_unit", "ClampedUnit" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, const Number* gate_up, int64_t count, float limit, Number* result)>
    kClampedUnitGradient{"clamped_unit", "ClampedUnitGradient" + TypeName<Number>()};

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
    {"LorasmithClampedUnit", GpuKernels<ClampedUnit>()},
    {"LorasmithClampedUnitGradient", GpuKernels<ClampedUnitGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
