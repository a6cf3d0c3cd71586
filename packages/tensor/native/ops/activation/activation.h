// Activation functions and their slopes, in float32 and in forms that the compiler vectorises, and the inputs and
// outputs of the ops that have one, on every device.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/kernel.h"
#include "cpu/number.h"
#include "ops/activation/activation_kind.h"

namespace lorasmith {

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

// tanh within 4 units in the last place: a polynomial near 0 (Cephes, tanhf.c), where 1 - 2 / (exp(2x) + 1) loses
// digits.
inline float Tanh(float x) {
  const float square = x * x;
  float p = -5.70498872745e-3f;
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const float near = p * square * x + x;
  const float magnitude = __builtin_fabsf(x);
  const float far = __builtin_copysignf(1.0f - 2.0f / (Exp(2.0f * magnitude) + 1.0f), x);
  return magnitude < 0.625f ? near : far;
}

// The error function within 4e-7: a rational approximation on ±4 (Eigen, generic_fast_erf_float), beyond which it is
// ±1.
inline float Erf(float value) {
  const float x = value < -4.0f ? -4.0f : (value > 4.0f ? 4.0f : value);
  const float square = x * x;
  float p = -2.72614225801306e-10f;
  p = p * square + 2.77068142495902e-08f;
  p = p * square - 2.10102402082508e-06f;
  p = p * square - 5.69250639462346e-05f;
  p = p * square - 7.34990630326855e-04f;
  p = p * square - 2.95459980854025e-03f;
  p = p * square - 1.60960333262415e-02f;
  float q = -1.45660718464996e-05f;
  q = q * square - 2.13374055278905e-04f;
  q = q * square - 1.68282697438203e-03f;
  q = q * square - 7.37332916720468e-03f;
  q = q * square - 1.42647390514189e-02f;
  return x * p / q;
}

// f(x) and f'(x).
struct ValueAndSlope {
  float value;
  float slope;
};

// A NaN stays one.
struct Relu {
  static float Value(float x) { return x < 0.0f ? 0.0f : x; }
  static ValueAndSlope Both(float x) { return {Value(x), x > 0.0f ? 1.0f : 0.0f}; }
};

struct SigmoidUnit {
  static float Value(float x) { return Sigmoid(x); }
  static ValueAndSlope Both(float x) {
    const float y = Sigmoid(x);
    return {y, y * (1.0f - y)};
  }
};

struct TanhUnit {
  static float Value(float x) { return Tanh(x); }
  static ValueAndSlope Both(float x) {
    const float y = Tanh(x);
    return {y, 1.0f - y * y};
  }
};

struct Silu {
  static float Value(float x) { return x * Sigmoid(x); }
  static ValueAndSlope Both(float x) {
    const float sigmoid = Sigmoid(x);
    const float silu = x * sigmoid;
    return {silu, sigmoid + silu * (1.0f - sigmoid)};
  }
};

// The exact GELU (arXiv:1606.08415): x Φ(x), slope Φ(x) + x φ(x).
struct Gelu {
  static float Cumulative(float x) { return (Erf(x * 0.707106781f) + 1.0f) * 0.5f; }
  static float Value(float x) { return x * Cumulative(x); }
  static ValueAndSlope Both(float x) {
    const float cumulative = Cumulative(x);
    return {x * cumulative, cumulative + x * (Exp(x * x * -0.5f) * 0.398942280f)};
  }
};

// max(x, 0)² (So et al. 2021, arXiv:2109.08668).
struct Relu2 {
  static float Value(float x) { return Relu::Value(x) * Relu::Value(x); }
  static ValueAndSlope Both(float x) { return {Value(x), Relu::Value(x) * 2.0f}; }
};

// x (1 + t) / 2 with t = tanh(√(2/π) (x + 0.044715 x³)).
struct GeluTanh {
  static constexpr float kScale = 0.797884561f;
  static constexpr float kCubic = 0.044715f;
  static float Height(float x) { return Tanh((x + x * x * x * kCubic) * kScale); }
  static float Value(float x) { return x * 0.5f * (1.0f + Height(x)); }
  static ValueAndSlope Both(float x) {
    const float height = Height(x);
    const float inner = x * x * (3.0f * kCubic * kScale) + kScale;
    return {x * 0.5f * (1.0f + height), (1.0f + height + x * inner * (1.0f - height * height)) * 0.5f};
  }
};

// x sigmoid(1.702 x)
struct QuickGelu {
  static constexpr float kFactor = 1.702f;
  static float Value(float x) { return x * Sigmoid(x * kFactor); }
  static ValueAndSlope Both(float x) {
    const float y = Sigmoid(x * kFactor);
    return {x * y, y + x * kFactor * y * (1.0f - y)};
  }
};

// Calls use(F{}) with the struct F of an activation.
template <typename Use>
void WithActivation(Activation activation, const Use& use) {
  switch (activation) {
    case Activation::kRelu:
      return use(Relu{});
    case Activation::kSigmoid:
      return use(SigmoidUnit{});
    case Activation::kTanh:
      return use(TanhUnit{});
    case Activation::kSilu:
      return use(Silu{});
    case Activation::kGelu:
      return use(Gelu{});
    case Activation::kRelu2:
      return use(Relu2{});
    case Activation::kGeluTanh:
      return use(GeluTanh{});
    case Activation::kQuickGelu:
      return use(QuickGelu{});
    case Activation::kCount:
      return;
  }
}

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
