// Inverted dropout (Srivastava et al. 2014) whose mask follows from a seed and is not stored.
#include "cuda/kernels/philox.h"
#include "kernel.h"
#include "parallel.h"

namespace lorasmith {
namespace {

// Philox gives four numbers at once; so many of these fours are computed side by side.
constexpr int64_t kFours = 64;
constexpr int64_t kChunk = 4 * kFours;

// The bits of the numbers first … first + 4 kFours - 1.
void ChunkBits(const UniformSeed& seed, int64_t first, uint32_t* bits) {
#pragma omp simd
  for (int64_t i = 0; i < kFours; i++) {
    const PhiloxNumbers four = UniformBits(seed, first / 4 + i);
    for (int k = 0; k < 4; k++) bits[4 * i + k] = four.at[k];
  }
}

// x of any shape, seed [2] → x times 0 where the uniform number of its place is below `rate`, times `scale` elsewhere
template <typename Number>
struct Dropout {
  explicit Dropout(const Attributes& attributes) : rate(attributes.Float("rate")) {
    // As a mask of this type has it.
    Number rounded;
    Store(attributes.Float("scale"), &rounded);
    scale = ToFloat(rounded);
  }

  void Compute(Context& context) const {
    const int64_t size = context.Size(0);
    const Number* x = context.Input<Number>(0);
    const int32_t* seeds = context.Input<int32_t>(1);
    if (!context.Check(context.Size(1) == 2, "the seed must have two numbers")) return;
    Number* result = context.Output<Number>(0, context.Shape(0));
    if (context.failed()) return;
    const UniformSeed seed = MixSeeds(static_cast<uint64_t>(seeds[0]), static_cast<uint64_t>(seeds[1]));
    ParallelRanges((size + kChunk - 1) / kChunk, 16, [&](int64_t begin, int64_t end) {
      uint32_t bits[kChunk];
      for (int64_t first = begin * kChunk; first < end * kChunk && first < size; first += kChunk) {
        ChunkBits(seed, first, bits);
        const int64_t count = size - first < kChunk ? size - first : kChunk;
#pragma omp simd
        for (int64_t i = 0; i < count; i++) {
          const uint32_t plus_one = UniformPlusOne(bits[i]);
          float uniform;
          std::memcpy(&uniform, &plus_one, sizeof(uniform));
          Store(ToFloat(x[first + i]) * (uniform - 1.0f >= rate ? scale : 0.0f), result + first + i);
        }
      }
    });
  }

  float rate;
  float scale;
};

}  // namespace

std::vector<OpDefinition> DropoutOps() {
  return {
      {"LorasmithDropout",
       {"x: T", "seed: int32"},
       {"result: T"},
       {"rate: float", "scale: float"},
       CpuKernels<Dropout>()},
  };
}

}  // namespace lorasmith
