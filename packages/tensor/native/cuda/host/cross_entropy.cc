// Cross entropy of the label's class and its gradient on a GPU: kernels/cross_entropy.cu. What it computes is in
// native/cross_entropy.cc. Labels are in the GPU's memory, so one that is not among the classes is no error of the op:
// its loss and its gradient are NaN.
#include "launch.h"
#include "strides.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 256;

template <typename Number>
const Kernel<void(const Number* logits, const int32_t* labels, int64_t classes, int32_t packed, float* loss,
                  Number* gradient, float* correct)>
    kCrossEntropy{"cross_entropy", "CrossEntropy" + TypeName<Number>()};

// logits [n, classes], labels [n] int32 → loss [n], gradient [n, classes] of the sum of the losses, and with `kCounts`
// correct [n]
template <typename Number, bool kCounts>
struct CrossEntropyKernel {
  void Compute(Context& context) const {
    const int64_t rows = context.Dim(0, 0);
    const int64_t classes = context.Dim(0, 1);
    const Number* logits = context.Input<Number>(0);
    const int32_t* labels = context.Input<int32_t>(1);
    if (!context.Check(context.Size(1) == rows, "one label for each row of logits is needed")) return;
    float* loss = context.Output<float>(0, {rows});
    Number* gradient = context.Output<Number>(1, {rows, classes});
    float* correct = kCounts ? context.Output<float>(2, {rows}) : nullptr;
    const bool aligned = ((reinterpret_cast<uintptr_t>(logits) | reinterpret_cast<uintptr_t>(gradient)) & 15) == 0;
    const bool packed = aligned && classes % static_cast<int64_t>(16 / sizeof(Number)) == 0;
    kCrossEntropy<Number>.Launch(context, {rows}, kThreads, 0, logits, labels, classes, packed, loss, gradient,
                                 correct);
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
