// Inverted dropout of a tensor: dropout.h.
#include "dropout.h"

#include "kernel.h"
#include "parallel.h"

namespace lorasmith {
namespace {

// x of any shape, seed [2]
template <typename Number>
struct Dropout {
  explicit Dropout(const Attributes& attributes) : rate(attributes.Float("rate")), scale(attributes.Float("scale")) {}

  void Compute(Context& context) const {
    const int64_t size = context.Size(0);
    const Number* x = context.Input<Number>(0);
    const int32_t* seeds = context.Input<int32_t>(1);
    if (!context.Check(context.Size(1) == 2, "the seed must have two numbers")) return;
    Number* result = context.Output<Number>(0, context.Shape(0));
    if (context.failed()) return;
    const DropoutMask mask = MaskOf<Number>(seeds, rate, scale);
    ParallelRanges((size + kDropoutChunk - 1) / kDropoutChunk, 16, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kDropoutChunk;
      Drop(mask, x + first, first, std::min(size, end * kDropoutChunk) - first, result + first);
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
