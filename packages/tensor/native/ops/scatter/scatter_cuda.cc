// TensorFlow's ScatterNd on a GPU, of slices of the first axis: scatter.cu.
#include "cuda/host/move.h"
#include "ops/scatter/scatter_shape.h"

namespace lorasmith::cuda {
namespace {

const Kernel<void(const int32_t* indices, int64_t m, int64_t rows, int32_t* first, int32_t* next)> kLinks{
    "scatter", "ScatterLinks"};

template <typename Number>
const Kernel<void(const int32_t* first, const int32_t* next, const Number* updates, int64_t width, Number* result)>
    kSums{"scatter", "ScatterSums" + TypeName<Number>()};

// indices [m, 1], updates [m, …], shape [n, …] → zeros with the updates added to their slices, in their order. An index
// that is not in 0 … n - 1 is left out.
template <typename Number>
struct Scatter {
  void Compute(Context& context) const {
    const Shape indices_shape = context.Shape(0);
    const int32_t* indices = context.Input<int32_t>(0);
    const Number* updates = context.Input<Number>(1);
    const int32_t* sizes = context.Input<int32_t>(2);
    if (context.failed()) return;
    const Shape shape(sizes, sizes + context.Size(2));
    const bool is_column = indices_shape.size() == 2 && indices_shape[1] == 1 && !shape.empty();
    if (!context.Check(is_column, "slices of the first axis only can be scattered on a GPU")) return;
    const int64_t m = indices_shape[0], rows = shape[0];
    const int64_t width = SizeOf(Shape(shape.begin() + 1, shape.end()));
    if (!context.Check(context.Size(1) == m * width, "every index needs one slice")) return;
    if (!context.Check(m <= INT32_MAX, "there are too many indices")) return;
    Number* result = context.Output<Number>(0, shape);
    if (context.failed() || rows * width == 0) return;
    if (m == 0) return Clear(context, result, rows * width * static_cast<int64_t>(sizeof(Number)));
    int32_t* first = context.Scratch<int32_t>(rows);
    int32_t* next = context.Scratch<int32_t>(m);
    if (context.failed()) return;
    kLinks.Launch(context, {kScatterBlocks}, kScatterThreads, 0, indices, m, rows, first, next);
    kSums<Number>.Launch(context, {rows}, kScatterThreads, 0, first, next, updates, width, result);
  }
};

const GpuOps kOps{
    {"ScatterNd",
     {GpuKernelOn<Scatter<float>>({{"T", TF_FLOAT}, {"Tindices", TF_INT32}}, {"shape"}),
      GpuKernelOn<Scatter<BFloat16>>({{"T", TF_BFLOAT16}, {"Tindices", TF_INT32}}, {"shape"})}},
};

}  // namespace
}  // namespace lorasmith::cuda
