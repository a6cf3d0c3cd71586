// Gated linear units (Shazeer 2020, arXiv:2002.05202): f(gate) * up, gate and up side by side in one row. With f = silu
// it is SwiGLU.
#include "cpu/kernel.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"
#include "ops/activation/activation.h"
#include "ops/gated_unit/gated_unit_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kRowsPerPiece = 8;

template <typename F, typename Number>
struct Rows {
  static void Unit(const Number* gate, const Number* up, int64_t width, Number* to) {
#pragma omp simd
    for (int64_t i = 0; i < width; i++) Store(F::Value(ToFloat(gate[i])) * ToFloat(up[i]), to + i);
  }

  static void Gradient(const Number* gate, const Number* up, const Number* from, int64_t width, Number* by_gate,
                       Number* by_up) {
#pragma omp simd
    for (int64_t i = 0; i < width; i++) {
      const ValueAndSlope f = F::Both(ToFloat(gate[i]));
      const float d = ToFloat(from[i]);
      Store(d * ToFloat(up[i]) * f.slope, by_gate + i);
      Store(d * f.value, by_up + i);
    }
  }
};

#if defined(__AVX512BF16__)

inline __m512 Sigmoid(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  // exp(87) is finite; beyond that the sigmoid stays at its reciprocal.
  const __m512 opposite = _mm512_min_ps(_mm512_set1_ps(87.0f), _mm512_sub_ps(_mm512_setzero_ps(), x));
  return ReciprocalOf(_mm512_add_ps(one, ExpOf(opposite)));
}

// Only the activation that most models have is written out.
struct VectorSilu {
  static void Unit(const BFloat16* gate, const BFloat16* up, int64_t width, BFloat16* to) {
    const int64_t whole = width / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
      const __m512 g = LoadNumbers(gate + i);
      StoreNumbers(_mm512_mul_ps(_mm512_mul_ps(g, Sigmoid(g)), LoadNumbers(up + i)), to + i);
    }
    Rows<Silu, BFloat16>::Unit(gate + whole, up + whole, width - whole, to + whole);
  }

  static void Gradient(const BFloat16* gate, const BFloat16* up, const BFloat16* from, int64_t width, BFloat16* by_gate,
                       BFloat16* by_up) {
    const int64_t whole = width / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
      const __m512 g = LoadNumbers(gate + i);
      const __m512 d = LoadNumbers(from + i);
      const __m512 sigmoid = Sigmoid(g);
      const __m512 silu = _mm512_mul_ps(g, sigmoid);
      const __m512 slope = _mm512_add_ps(sigmoid, _mm512_fnmadd_ps(silu, sigmoid, silu));
      StoreNumbers(_mm512_mul_ps(_mm512_mul_ps(d, LoadNumbers(up + i)), slope), by_gate + i);
      StoreNumbers(_mm512_mul_ps(d, silu), by_up + i);
    }
    Rows<Silu, BFloat16>::Gradient(gate + whole, up + whole, from + whole, width - whole, by_gate + whole,
                                   by_up + whole);
  }
};

template <typename F, typename Number>
using RowsOf =
    std::conditional_t<std::is_same_v<F, Silu> && std::is_same_v<Number, BFloat16>, VectorSilu, Rows<F, Number>>;

#else

template <typename F, typename Number>
using RowsOf = Rows<F, Number>;

#endif

template <typename Number>
struct GatedUnit {
  explicit GatedUnit(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const GatedUnitOperands<Number> o(context, activation);
    if (context.failed()) return;
    WithActivation(activation, [&](auto f) {
      ParallelRanges(o.rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
          const Number* gate = o.gate_up + row * 2 * o.width;
          RowsOf<decltype(f), Number>::Unit(gate, gate + o.width, o.width, o.result + row * o.width);
        }
      });
    });
  }

  Activation activation;
};

template <typename Number>
struct GatedUnitGradient {
  explicit GatedUnitGradient(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const GatedUnitGradientOperands<Number> o(context, activation);
    if (context.failed()) return;
    WithActivation(activation, [&](auto f) {
      ParallelRanges(o.rows, kRowsPerPiece, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
          const Number* gate = o.gate_up + row * 2 * o.width;
          Number* by_gate = o.result + row * 2 * o.width;
          const Number* from = o.gradient + row * o.width;
          RowsOf<decltype(f), Number>::Gradient(gate, gate + o.width, from, o.width, by_gate, by_gate + o.width);
        }
      });
    });
  }

  Activation activation;
};

}  // namespace

std::vector<OpDefinition> GatedUnitOps() {
  const char* activation = "activation: int";
  return {
      {"LorasmithGatedUnit", {"gate_up: T"}, {"result: T"}, {activation}, CpuKernels<GatedUnit>()},
      {"LorasmithGatedUnitGradient",
       {"gradient: T", "gate_up: T"},
       {"result: T"},
       {activation},
       CpuKernels<GatedUnitGradient>()},
  };
}

namespace {

// The gated unit of gpt-oss: (up + 1) f(gate) with f(x) = x sigmoid(1.702 x), gate at most the limit and up within ±
// the limit. Where one is clamped, its gradient is zero.

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
