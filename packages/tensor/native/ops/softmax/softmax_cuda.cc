// TensorFlow's Softmax on a GPU: softmax.cu.
#include "cuda/host/launch.h"
#include "cuda/host/strides.h"

namespace lorasmith::cuda {
namespace {

// Rows up to this width take one warp each, longer ones a block of 256 threads.
constexpr int64_t kNarrow = 1024;

template <typename Number>
const Kernel<void(const Number* x, int64_t width, Number* result)> kSoftmax{"softmax", "Softmax" + TypeName<Number>()};

// x [..., width] → softmax of each row
template <typename Number>
struct Softmax {
  void Compute(Context& context) const {
    const Shape shape = context.Shape(0);
    const Number* x = context.Input<Number>(0);
    if (!context.Check(!shape.empty(), "at least one axis is needed")) return;
    Number* result = context.Output<Number>(0, shape);
    const int64_t rows = SizeOf(Shape(shape.begin(), shape.end() - 1));
    if (shape.back() == 0) return;
    kSoftmax<Number>.Launch(context, {rows}, shape.back() <= kNarrow ? 32 : 256, 0, x, shape.back(), result);
  }
};

const GpuOps kOps{{"Softmax", GpuKernels<Softmax>()}};

}  // namespace
}  // namespace lorasmith::cuda
