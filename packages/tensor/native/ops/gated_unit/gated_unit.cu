// Gated linear units (Shazeer 2020, arXiv:2002.05202) and their gradient: gated_unit.cc on a GPU. One block a
// row.
#include "cuda/kernels/device.h"
#include "ops/activation/activation.cuh"

namespace {

// Of one number.
template <typename F, typename Number>
__device__ __forceinline__ void Unit(Number gate, Number up, Number* to) {
  Store(F::Value(ToFloat(gate)) * ToFloat(up), to);
}

template <typename F, typename Number>
__device__ __forceinline__ void UnitGradient(Number gate, Number up, Number from, Number* by_gate, Number* by_up) {
  const ValueAndSlope f = F::Both(ToFloat(gate));
  const float d = ToFloat(from);
  Store(d * ToFloat(up) * f.slope, by_gate);
  Store(d * f.value, by_up);
}

// Whether a row of `width` numbers, and each of its halves in a row of twice as many, is made of whole vectors.
template <typename Number>
__device__ __forceinline__ bool HasVectors(const void* narrow, const void* wide, int64_t width) {
  return width % Vector<Number>::kSize == 0 && IsVectorAligned(narrow) && IsVectorAligned(wide);
}

template <typename F, typename Number>
__device__ __forceinline__ void UnitRow(const Number* gate_up, int64_t width, Number* result) {
  constexpr int kSize = Vector<Number>::kSize;
  const Number* gate = gate_up + blockIdx.x * 2 * width;
  const Number* up = gate + width;
  Number* to = result + blockIdx.x * width;
  if (HasVectors<Number>(result, gate_up, width)) {
    for (int64_t i = threadIdx.x * kSize; i < width; i += blockDim.x * kSize) {
      const Vector<Number> gates = LoadVector(gate + i);
      const Vector<Number> ups = LoadVector(up + i);
      Vector<Number> units;
#pragma unroll
      for (int k = 0; k < kSize; k++) Unit<F>(gates.values[k], ups.values[k], &units.values[k]);
      StoreVector(units, to + i);
    }
  } else {
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) Unit<F>(gate[i], up[i], to + i);
  }
}

template <typename F, typename Number>
__device__ __forceinline__ void UnitGradientRow(const Number* gradient, const Number* gate_up, int64_t width,
                                                Number* result) {
  constexpr int kSize = Vector<Number>::kSize;
  const Number* gate = gate_up + blockIdx.x * 2 * width;
  const Number* up = gate + width;
  const Number* from = gradient + blockIdx.x * width;
  Number* by_gate = result + blockIdx.x * 2 * width;
  Number* by_up = by_gate + width;
  if (HasVectors<Number>(gradient, gate_up, width) && IsVectorAligned(result)) {
    for (int64_t i = threadIdx.x * kSize; i < width; i += blockDim.x * kSize) {
      const Vector<Number> gates = LoadVector(gate + i);
      const Vector<Number> ups = LoadVector(up + i);
      const Vector<Number> gradients = LoadVector(from + i);
      Vector<Number> by_gates;
      Vector<Number> by_ups;
#pragma unroll
      for (int k = 0; k < kSize; k++) {
        UnitGradient<F>(gates.values[k], ups.values[k], gradients.values[k], &by_gates.values[k], &by_ups.values[k]);
      }
      StoreVector(by_gates, by_gate + i);
      StoreVector(by_ups, by_up + i);
    }
  } else {
    for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
      UnitGradient<F>(gate[i], up[i], from[i], by_gate + i, by_up + i);
    }
  }
}

}  // namespace

// gate_up [rows, 2 * width] → result [rows, width]; gradient [rows, width] and gate_up → result [rows, 2 * width]
#define GATED_UNIT_KERNELS(Number, Suffix)                                                                       \
  extern "C" __global__ void __launch_bounds__(256)                                                              \
      GatedUnit##Suffix(const Number* gate_up, int64_t width, Activation activation, Number* result) {           \
    WithActivation(activation, [&](auto f) { UnitRow<decltype(f)>(gate_up, width, result); });                   \
  }                                                                                                              \
  EXPORT_KERNEL(GatedUnit##Suffix)                                                                               \
  extern "C" __global__ void __launch_bounds__(256) GatedUnitGradient##Suffix(                                   \
      const Number* gradient, const Number* gate_up, int64_t width, Activation activation, Number* result) {     \
    WithActivation(activation, [&](auto f) { UnitGradientRow<decltype(f)>(gradient, gate_up, width, result); }); \
  }                                                                                                              \
  EXPORT_KERNEL(GatedUnitGradient##Suffix)

GATED_UNIT_KERNELS(float, Float32)
GATED_UNIT_KERNELS(bf16, BFloat16)
