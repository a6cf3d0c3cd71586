// Dropout on a GPU: kernels/dropout.cu. What it computes is in native/dropout.cc.
#include <algorithm>

#include "../kernels/philox.h"
#include "launch.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

template <typename Number>
const Kernel<void(const Number* x, UniformSeed seed, float rate, float scale, int64_t size, Number* result)> kDropout{
    "dropout", "Dropout" + TypeName<Number>()};

// x of any shape, seed [2] (on the host) → the same shape
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
    const int64_t blocks = std::min(kMaxBlocks, DivideUp(size, 4 * kThreads));
    kDropout<Number>.Launch(context, {blocks}, kThreads, 0, x, seed, rate, scale, size, result);
  }

  float rate;
  float scale;
};

const GpuOps kOps{{"LorasmithDropout", GpuKernels<Dropout>({"seed"})}};

}  // namespace
}  // namespace lorasmith::cuda
