// Gated linear units (Shazeer 2020, arXiv:2002.05202) and their gradient: gated_unit.cc on a GPU. One block a
// row.
#include "cuda/kernels/number.cuh"
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

namespace {

// The gated unit of gpt-oss and its gradient. Gate and up of each number are a pair.

// A NaN stays one.
__device__ __forceinline__ float AtMost(float gate, float limit) { return gate > limit ? limit : gate; }
__device__ __forceinline__ float Within(float up, float limit) {
  return up > limit ? limit : (up < -limit ? -limit : up);
}

// Of one pair.
template <typename Number>
__device__ __forceinline__ void UnitOfPair(Number gate_number, Number up_number, float limit, Number* to) {
  const float gate = ToFloat(gate_number), up = ToFloat(up_number);
  Store((Within(up, limit) + 1.0f) * QuickGelu::Value(AtMost(gate, limit)), to);
}

template <typename Number>
__device__ __forceinline__ void UnitGradientOfPair(Number gate_number, Number up_number, Number gradient, float limit,
                                                   Number* by_gate, Number* by_up) {
  const float gate = ToFloat(gate_number), up = ToFloat(up_number), d = ToFloat(gradient);
  const ValueAndSlope f = QuickGelu::Both(AtMost(gate, limit));
  Store(gate > limit ? 0.0f : d * (Within(up, limit) + 1.0f) * f.slope, by_gate);
  Store(up > limit || up < -limit ? 0.0f : d * f.value, by_up);
}

// Pairs of a vector of 16 bytes, whose results are half of one.
template <typename Number>
constexpr int kPairs = Vector<Number>::kSize / 2;

// Calls whole(i) with the first pair of each vector that is this thread's, and one(i) with each pair that no vector
// has.
template <typename Number, typename Whole, typename One>
__device__ __forceinline__ void EachPair(int64_t count, bool has_vectors, const Whole& whole, const One& one) {
  const int64_t vectors = has_vectors ? count / kPairs<Number> : 0;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < vectors; i += step) whole(i * kPairs<Number>);
  for (int64_t i = vectors * kPairs<Number> + first; i < count; i += step) one(i);
}

template <typename Number>
__device__ __forceinline__ void Units(const Number* gate_up, int64_t count, float limit, Number* result) {
  constexpr int kOwn = kPairs<Number>;
  EachPair<Number>(
      count, IsVectorAligned(gate_up) && IsVectorAligned(result),
      [&](int64_t i) {
        const Vector<Number> pairs = LoadVector(gate_up + 2 * i);
        Pack<Number, kOwn> units;
#pragma unroll
        for (int k = 0; k < kOwn; k++) UnitOfPair(pairs.values[2 * k], pairs.values[2 * k + 1], limit, &units.at[k]);
        StorePack<Number, kOwn>(units, result + i);
      },
      [&](int64_t i) { UnitOfPair(gate_up[2 * i], gate_up[2 * i + 1], limit, result + i); });
}

template <typename Number>
__device__ __forceinline__ void UnitGradients(const Number* gradient, const Number* gate_up, int64_t count, float limit,
                                              Number* result) {
  constexpr int kOwn = kPairs<Number>;
  EachPair<Number>(
      count, IsVectorAligned(gradient) && IsVectorAligned(gate_up) && IsVectorAligned(result),
      [&](int64_t i) {
        const Vector<Number> pairs = LoadVector(gate_up + 2 * i);
        const Pack<Number, kOwn> gradients = LoadPack<kOwn>(gradient + i);
        Vector<Number> by_pairs;
#pragma unroll
        for (int k = 0; k < kOwn; k++)
          UnitGradientOfPair(pairs.values[2 * k], pairs.values[2 * k + 1], gradients.at[k], limit,
                             &by_pairs.values[2 * k], &by_pairs.values[2 * k + 1]);
        StoreVector(by_pairs, result + 2 * i);
      },
      [&](int64_t i) {
        UnitGradientOfPair(gate_up[2 * i], gate_up[2 * i + 1], gradient[i], limit, result + 2 * i, result + 2 * i + 1);
      });
}

}  // namespace

// gate_up [2 * count] → result [count]; gradient [count] and gate_up → result [2 * count]
#define CLAMPED_UNIT_KERNELS(Number, Suffix)                                                       \
  extern "C" __global__ void __launch_bounds__(256)                                                \
      ClampedUnit##Suffix(const Number* gate_up, int64_t count, float limit, Number* result) {     \
    Units(gate_up, count, limit, result);                                                          \
  }                                                                                                \
  EXPORT_KERNEL(ClampedUnit##Suffix)                                                               \
  extern "C" __global__ void __launch_bounds__(256) ClampedUnitGradient##Suffix(                   \
      const Number* gradient, const Number* gate_up, int64_t count, float limit, Number* result) { \
    UnitGradients(gradient, gate_up, count, limit, result);                                        \
  }                                                                                                \
  EXPORT_KERNEL(ClampedUnitGradient##Suffix)

CLAMPED_UNIT_KERNELS(float, Float32)
CLAMPED_UNIT_KERNELS(bf16, BFloat16)
