// Inverted dropout of a tensor: dropout.h.
#include "ops/dropout/dropout.h"

#include "cpu/kernel.h"
#include "cpu/parallel.h"

namespace lorasmith {
namespace {

template <typename Number>
struct Dropout {
  explicit Dropout(const Attributes& attributes) : rate(attributes.Float("rate")), scale(attributes.Float("scale")) {}

  void Compute(Context& context) const {
    const DropoutOperands<Number> o(context, rate, scale);
    if (context.failed()) return;
    ParallelRanges((o.size + kDropoutChunk - 1) / kDropoutChunk, 16, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kDropoutChunk;
      Drop(o.mask, o.x + first, first, std::min(o.size, end * kDropoutChunk) - first, o.result + first);
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
