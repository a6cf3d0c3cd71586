// The gated unit of gpt-oss: (up + 1) f(gate) with f(x) = x sigmoid(1.702 x), gate at most the limit and up within ±
// the limit. Where one is clamped, its gradient is zero.
#include "cpu/kernel.h"
#include "cpu/parallel.h"
#include "ops/activation/activation.h"
#include "ops/clamped_unit/clamped_unit_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kNumbersPerPiece = 1 << 13;

template <typename Number>
struct ClampedUnit {
  explicit ClampedUnit(const Attributes& attributes) : limit(attributes.Float("limit")) {}

  void Compute(Context& context) const {
    const ClampedUnitOperands<Number> o(context);
    if (context.failed()) return;
    ParallelRanges(o.count, kNumbersPerPiece, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; i++) {
        const float gate = ToFloat(o.gate_up[2 * i]), up = ToFloat(o.gate_up[2 * i + 1]);
        Store((Clamped(up) + 1.0f) * QuickGelu::Value(gate > limit ? limit : gate), o.result + i);
      }
    });
  }

  // A NaN stays one.
  float Clamped(float up) const { return up > limit ? limit : (up < -limit ? -limit : up); }

  float limit;
};

template <typename Number>
struct ClampedUnitGradient : ClampedUnit<Number> {
  using ClampedUnit<Number>::ClampedUnit;
  using ClampedUnit<Number>::limit;

  void Compute(Context& context) const {
    const ClampedUnitGradientOperands<Number> o(context);
    if (context.failed()) return;
    ParallelRanges(o.count, kNumbersPerPiece, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; i++) {
        const float gate = ToFloat(o.gate_up[2 * i]), up = ToFloat(o.gate_up[2 * i + 1]);
        const float d = ToFloat(o.gradient[i]);
        const ValueAndSlope f = QuickGelu::Both(gate > limit ? limit : gate);
        const float by_gate = d * (this->Clamped(up) + 1.0f) * f.slope, by_up = d * f.value;
        Store(gate > limit ? 0.0f : by_gate, o.result + 2 * i);
        Store(up > limit || up < -limit ? 0.0f : by_up, o.result + 2 * i + 1);
      }
    });
  }
};

}  // namespace

std::vector<OpDefinition> ClampedUnitOps() {
  const char* limit = "limit: float";
  return {
      {"LorasmithClampedUnit", {"gate_up: T"}, {"result: T"}, {limit}, CpuKernels<ClampedUnit>()},
      {"LorasmithClampedUnitGradient",
       {"gradient: T", "gate_up: T"},
       {"result: T"},
       {limit},
       CpuKernels<ClampedUnitGradient>()},
  };
}

}  // namespace lorasmith
