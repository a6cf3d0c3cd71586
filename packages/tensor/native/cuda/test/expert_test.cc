// Sums of gathered rows, and the clamped unit of gpt-oss.
#include "cuda/test/guarded.h"

using namespace kernel_test;

namespace {

template <typename T>
void TestGatheredSum(int64_t rows, int64_t width, int count, int64_t sums, unsigned threads, int64_t shift) {
  Memory<T> x(rows * width + shift), result(sums * width + shift);
  Memory<int32_t> places(sums * count);
  x.FillRandom();
  for (int64_t i = 0; i < places.size(); i++) places[i] = static_cast<int32_t>((i * i + 3) % rows);
  // A sum with a place before all rows, and one with a place after them.
  if (sums > 3) places[count] = -1, places[3 * count - 1] = static_cast<int32_t>(rows);
  Launch("GatheredSum" + kTypeName<T>, dim3(static_cast<unsigned>(sums)), threads, 0,
         static_cast<const T*>(x.data() + shift), static_cast<const int32_t*>(places.data()), rows, width, count,
         result.data() + shift);
  for (int64_t sum = 0; sum < sums; sum++) {
    for (int64_t column = 0; column < width; column++) {
      float expected = 0;
      for (int i = 0; i < count; i++) {
        const int64_t row = places[sum * count + i];
        expected += row >= 0 && row < rows ? ToFloat(x[shift + row * width + column]) : NAN;
      }
      T rounded;
      Store(expected, &rounded);
      const T& found = result[shift + sum * width + column];
      const bool is_equal =
          expected != expected ? ToFloat(found) != ToFloat(found) : memcmp(&rounded, &found, sizeof(T)) == 0;
      if (!is_equal) Differs("sum of rows " + NameOf({rows, width, count}), expected, ToFloat(found));
    }
  }
}

template <typename T>
void TestGatheredSums() {
  // A vector for each thread, several, and parts of one; a sum of one row, and more than the loop's steps.
  TestGatheredSum<T>(9, 256, 8, 5, 32, 0);
  TestGatheredSum<T>(9, 1056, 3, 4, 64, 0);
  TestGatheredSum<T>(9, 131, 5, 4, 32, 0);
  TestGatheredSum<T>(9, 264, 1, 7, 32, 1);
}

double Clamped(double up, double limit) { return std::max(-limit, std::min(up, limit)); }

double ClampedUnit(double gate, double up, double limit) {
  const double g = std::min(gate, limit);
  return (Clamped(up, limit) + 1) * g / (1 + std::exp(-1.702 * g));
}

template <typename T>
void TestClampedUnit(int64_t count, float limit, int64_t shift) {
  Memory<T> gate_up(2 * (count + shift)), gradient(count + shift), result(count + shift), by_gate_up(2 * count + shift);
  gate_up.FillRandom(-9, 9), gradient.FillRandom();
  // At a limit nothing is clamped; what is not a number stays so.
  for (int64_t i = 0; i < 2 * count; i += 13) Store(limit * (i % 3 == 0 ? -1.0f : 1.0f), &gate_up[2 * shift + i]);
  Store(NAN, &gate_up[2 * shift]), Store(NAN, &gate_up[2 * shift + 3]);
  const T* from = gate_up.data() + 2 * shift;
  Launch("ClampedUnit" + kTypeName<T>, dim3(2), kThreads, 0, from, count, limit, result.data() + shift);
  Launch("ClampedUnitGradient" + kTypeName<T>, dim3(2), kThreads, 0, static_cast<const T*>(gradient.data() + shift),
         from, count, limit, by_gate_up.data() + shift);
  const double relative = sizeof(T) == 2 ? 1.01 * kUnit<T> : 3e-6;
  for (int64_t i = 0; i < count; i++) {
    const double gate = ToFloat(from[2 * i]), up = ToFloat(from[2 * i + 1]), d = ToFloat(gradient[shift + i]);
    const auto expect = [&](const std::string& of, double expected, T actual) {
      if (!Near(expected, ToFloat(actual), relative, 3e-6))
        Differs(of + "clamped unit" + kTypeName<T> + NameOf({count, i}), expected, ToFloat(actual));
    };
    if (gate != gate || up != up) {
      expect("", NAN, result[shift + i]);
      continue;
    }
    expect("", ClampedUnit(gate, up, limit), result[shift + i]);
    const double sigmoid = 1 / (1 + std::exp(-1.702 * gate));
    const double slope = sigmoid + 1.702 * gate * sigmoid * (1 - sigmoid);
    const double by_gate = gate > limit ? 0 : d * (Clamped(up, limit) + 1) * slope;
    const double by_up = std::abs(up) > limit ? 0 : d * ClampedUnit(gate, 0, limit);
    expect("by the gate of the ", by_gate, by_gate_up[shift + 2 * i]);
    expect("by up of the ", by_up, by_gate_up[shift + 2 * i + 1]);
  }
}

template <typename T>
void TestClampedUnits() {
  // Whole vectors for more than all threads, some pairs beyond them, and none.
  TestClampedUnit<T>(2056, 7, 0);
  TestClampedUnit<T>(517, 2, 0);
  TestClampedUnit<T>(300, 7, 1);
}

}  // namespace

KERNEL_TEST(GatheredSumFloat32) { TestGatheredSums<float>(); }
KERNEL_TEST(GatheredSumBFloat16) { TestGatheredSums<bf16>(); }
KERNEL_TEST(ClampedUnitFloat32) { TestClampedUnits<float>(); }
KERNEL_TEST(ClampedUnitBFloat16) { TestClampedUnits<bf16>(); }
