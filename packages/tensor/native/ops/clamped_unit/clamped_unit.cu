// The gated unit of gpt-oss and its gradient: clamped_unit.cc on a GPU. Gate and up of each number are a pair.
#include "cuda/kernels/number.cuh"
#include "ops/activation/activation.cuh"

namespace {

// A NaN stays one.
__device__ __forceinline__ float AtMost(float gate, float limit) { return gate > limit ? limit : gate; }
__device__ __forceinline__ float Within(float up, float limit) {
  return up > limit ? limit : (up < -limit ? -limit : up);
}

// Of one pair.
template <typename Number>
__device__ __forceinline__ void Unit(Number gate_number, Number up_number, float limit, Number* to) {
  const float gate = ToFloat(gate_number), up = ToFloat(up_number);
  Store((Within(up, limit) + 1.0f) * QuickGelu::Value(AtMost(gate, limit)), to);
}

template <typename Number>
__device__ __forceinline__ void UnitGradient(Number gate_number, Number up_number, Number gradient, float limit,
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
        for (int k = 0; k < kOwn; k++) Unit(pairs.values[2 * k], pairs.values[2 * k + 1], limit, &units.at[k]);
        StorePack<Number, kOwn>(units, result + i);
      },
      [&](int64_t i) { Unit(gate_up[2 * i], gate_up[2 * i + 1], limit, result + i); });
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
          UnitGradient(pairs.values[2 * k], pairs.values[2 * k + 1], gradients.at[k], limit, &by_pairs.values[2 * k],
                       &by_pairs.values[2 * k + 1]);
        StoreVector(by_pairs, result + 2 * i);
      },
      [&](int64_t i) {
        UnitGradient(gate_up[2 * i], gate_up[2 * i + 1], gradient[i], limit, result + 2 * i, result + 2 * i + 1);
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
