// Inverted dropout (Srivastava et al. 2014) whose mask follows from a seed and is not stored.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/kernel.h"
#include "cuda/kernels/philox.h"

namespace lorasmith {

// Philox gives four numbers at once. This is the number of fours that are computed side by side.
constexpr int64_t kDropoutFours = 64;
constexpr int64_t kDropoutChunk = 4 * kDropoutFours;

struct DropoutMask {
  UniformSeed seed;
  float rate;
  float scale;
};

// `scale` is rounded as a mask of this type has it.
template <typename Number>
DropoutMask MaskOf(const int32_t seeds[2], float rate, float scale) {
  Number rounded;
  Store(scale, &rounded);
  return {MixSeeds(static_cast<uint64_t>(seeds[0]), static_cast<uint64_t>(seeds[1])), rate, ToFloat(rounded)};
}

// x of any shape, seed [2] → the same shape
template <typename Number>
struct DropoutOperands {
  DropoutOperands(Context& context, float rate, float scale) : size(context.Size(0)) {
    x = context.Input<Number>(0);
    const int32_t* seeds = context.Input<int32_t>(1);
    if (!context.Check(context.Size(1) == 2, "the seed must have two numbers")) return;
    mask = MaskOf<Number>(seeds, rate, scale);
    result = context.Output<Number>(0, context.Shape(0));
  }

  int64_t size;
  const Number* x;
  DropoutMask mask;
  Number* result = nullptr;
};

// The numbers first … first + count - 1 of a tensor, of which x begins with the first: times 0 where the uniform number
// of its place is below the rate, times the scale elsewhere. The result may be x itself.
template <typename Number>
void Drop(const DropoutMask& mask, const Number* x, int64_t first, int64_t count, Number* result) {
  uint32_t bits[kDropoutChunk];
  for (int64_t start = first / 4 * 4; start < first + count; start += kDropoutChunk) {
#pragma omp simd
    for (int64_t i = 0; i < kDropoutFours; i++) {
      const PhiloxNumbers four = UniformBits(mask.seed, start / 4 + i);
      for (int k = 0; k < 4; k++) bits[4 * i + k] = four.at[k];
    }
    const int64_t begin = std::max(start, first);
    const int64_t end = std::min(start + kDropoutChunk, first + count);
#pragma omp simd
    for (int64_t i = begin; i < end; i++) {
      const uint32_t plus_one = UniformPlusOne(bits[i - start]);
      float uniform;
      std::memcpy(&uniform, &plus_one, sizeof(uniform));
      Store(ToFloat(x[i - first]) * (uniform - 1.0f >= mask.rate ? mask.scale : 0.0f), result + i - first);
    }
  }
}

}  // namespace lorasmith
