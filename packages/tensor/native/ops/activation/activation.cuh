// Activation functions and their slopes, as activation.h has them.
#pragma once

#include "cuda/kernels/device.h"
#include "ops/activation/activation_kind.h"

namespace {

// f(x) and f'(x).
struct ValueAndSlope {
  float value;
  float slope;
};

__device__ __forceinline__ float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// A NaN stays one.
struct Relu {
  static __device__ __forceinline__ float Value(float x) { return x < 0.0f ? 0.0f : x; }
  static __device__ __forceinline__ ValueAndSlope Both(float x) { return {Value(x), x > 0.0f ? 1.0f : 0.0f}; }
};

struct SigmoidUnit {
  static __device__ __forceinline__ float Value(float x) { return Sigmoid(x); }
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    const float y = Sigmoid(x);
    return {y, y * (1.0f - y)};
  }
};

struct TanhUnit {
  static __device__ __forceinline__ float Value(float x) { return tanhf(x); }
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    const float y = tanhf(x);
    return {y, 1.0f - y * y};
  }
};

struct Silu {
  static __device__ __forceinline__ float Value(float x) { return x * Sigmoid(x); }
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    const float sigmoid = Sigmoid(x);
    const float silu = x * sigmoid;
    return {silu, sigmoid + silu * (1.0f - sigmoid)};
  }
};

struct Gelu {
  static __device__ __forceinline__ float Cumulative(float x) { return (erff(x * 0.707106781f) + 1.0f) * 0.5f; }
  static __device__ __forceinline__ float Value(float x) { return x * Cumulative(x); }
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    const float cumulative = Cumulative(x);
    return {x * cumulative, cumulative + x * (expf(x * x * -0.5f) * 0.398942280f)};
  }
};

struct Relu2 {
  static __device__ __forceinline__ float Value(float x) { return Relu::Value(x) * Relu::Value(x); }
  static __device__ __forceinline__ ValueAndSlope Both(float x) { return {Value(x), Relu::Value(x) * 2.0f}; }
};

struct GeluTanh {
  static constexpr float kScale = 0.797884561f;
  static constexpr float kCubic = 0.044715f;
  static __device__ __forceinline__ float Height(float x) { return tanhf((x + x * x * x * kCubic) * kScale); }
  static __device__ __forceinline__ float Value(float x) { return x * 0.5f * (1.0f + Height(x)); }
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    const float height = Height(x);
    const float inner = x * x * (3.0f * kCubic * kScale) + kScale;
    return {x * 0.5f * (1.0f + height), (1.0f + height + x * inner * (1.0f - height * height)) * 0.5f};
  }
};

struct QuickGelu {
  static constexpr float kFactor = 1.702f;
  static __device__ __forceinline__ float Value(float x) { return x * Sigmoid(x * kFactor); }
  static __device__ __forceinline__ ValueAndSlope Both(float x) {
    const float y = Sigmoid(x * kFactor);
    return {x * y, y + x * kFactor * y * (1.0f - y)};
  }
};

// Calls use(F{}) with the struct F of an activation.
template <typename Use>
__device__ __forceinline__ void WithActivation(Activation activation, const Use& use) {
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

}  // namespace
