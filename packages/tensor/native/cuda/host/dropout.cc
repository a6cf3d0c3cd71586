// Dropout on a GPU: kernels/dropout.cu. What it computes is in native/dropout.cc.
#include "dropout.h"

#include <algorithm>

#include "launch.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

template <typename Number>
const Kernel<void(const Number* x, UniformSeed seed, float rate, float scale, int64_t size, Number* result)> kDropout{
    "dropout", "Dropout" + TypeName<Number>()};

template <typename Number>
struct Dropout {
  explicit Dropout(const Attributes& attributes) : rate(attributes.Float("rate")), scale(attributes.Float("scale")) {}

  void Compute(Context& context) const {
    const DropoutOperands<Number> o(context, rate, scale);
    if (context.failed()) return;
    const int64_t blocks = std::min(kMaxBlocks, DivideUp(o.size, 4 * kThreads));
    kDropout<Number>.Launch(context, {blocks}, kThreads, 0, o.x, o.mask.seed, o.mask.rate, o.mask.scale, o.size,
                            o.result);
  }

  float rate;
  float scale;
};

const GpuOps kOps{{"LorasmithDropout", GpuKernels<Dropout>({"seed"})}};

}  // namespace
}  // namespace lorasmith::cuda
