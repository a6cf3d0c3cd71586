// Dropout on a GPU: dropout.cu. What it computes is in dropout.cc.
#include <algorithm>

#include "ops/dropout/dropout_launch.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 16;

template <typename Number>
const Kernel<void(const Number* x, UniformSeed seed, float rate, float scale, int64_t size, const Number* addend,
                  Number* result)>
    kDropout{"dropout", "Dropout" + TypeName<Number>()};

template <typename Number>
struct Dropout {
  explicit Dropout(const Attributes& attributes) : rate(attributes.Float("rate")), scale(attributes.Float("scale")) {}

  void Compute(Context& context) const {
    const DropoutOperands<Number> o(context, rate, scale);
    if (!context.failed()) LaunchDropout<Number>(context, o.mask, o.x, o.size, nullptr, o.result);
  }

  float rate;
  float scale;
};

const GpuOps kOps{{"LorasmithDropout", GpuKernels<Dropout>({"seed"})}};

}  // namespace

template <typename Number>
void LaunchDropout(Context& context, const DropoutMask& mask, const Number* x, int64_t size, const Number* addend,
                   Number* result) {
  const int64_t blocks = std::min(kMaxBlocks, DivideUp(size, 4 * kThreads));
  kDropout<Number>.Launch(context, {blocks}, kThreads, 0, x, mask.seed, mask.rate, mask.scale, size, addend, result);
}

template void LaunchDropout<float>(Context&, const DropoutMask&, const float*, int64_t, const float*, float*);
template void LaunchDropout<BFloat16>(Context&, const DropoutMask&, const BFloat16*, int64_t, const BFloat16*,
                                      BFloat16*);

}  // namespace lorasmith::cuda
