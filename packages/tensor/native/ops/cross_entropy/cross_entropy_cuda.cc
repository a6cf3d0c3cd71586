// Cross entropy of the label's class and its gradient on a GPU: cross_entropy.cu. What it computes is in
// cross_entropy.cc. Labels are in the GPU's memory, so one that is not among the classes is no error of the op:
// its loss and its gradient are NaN.
#include "cuda/host/launch.h"
#include "cuda/host/strides.h"
#include "ops/cross_entropy/cross_entropy_operands.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;

template <typename Number>
const Kernel<void(const Number* logits, const int32_t* labels, int64_t classes, int32_t packed, float* loss,
                  Number* gradient, float* correct)>
    kCrossEntropy{"cross_entropy", "CrossEntropy" + TypeName<Number>()};

// `kCounts`: whether the op has the output `correct`.
template <typename Number, bool kCounts>
struct CrossEntropyKernel {
  void Compute(Context& context) const {
    const CrossEntropyOperands<Number> o(context, kCounts);
    const bool aligned = ((reinterpret_cast<uintptr_t>(o.logits) | reinterpret_cast<uintptr_t>(o.gradient)) & 15) == 0;
    const bool packed = aligned && o.classes % static_cast<int64_t>(16 / sizeof(Number)) == 0;
    kCrossEntropy<Number>.Launch(context, {o.rows}, kThreads, 0, o.logits, o.labels, o.classes, packed, o.loss,
                                 o.gradient, o.correct);
  }
};

template <typename Number>
using CrossEntropy = CrossEntropyKernel<Number, true>;

const GpuOps kOps{
    {"LorasmithCrossEntropy", GpuKernels<CrossEntropy>()},
    {"SparseSoftmaxCrossEntropyWithLogits",
     {GpuKernelOn<CrossEntropyKernel<float, false>>({{"T", TF_FLOAT}, {"Tlabels", TF_INT32}})}},
};

}  // namespace
}  // namespace lorasmith::cuda
