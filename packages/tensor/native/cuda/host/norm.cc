// Root mean square norms on a GPU: kernels/norm.cu. What they compute is in native/norm.cc.
#include "launch.h"

namespace lorasmith::cuda {
namespace {

constexpr int64_t kMaxThreads = 256;
constexpr int64_t kPack = 4;

// How a row is divided among the threads of its block.
struct Row {
  unsigned threads;
  bool packed;
};

// `addresses`: of every tensor that is read or written in packs.
Row RowOf(int64_t width, std::initializer_list<const void*> addresses) {
  bool packed = width % kPack == 0;
  for (const void* address : addresses) packed = packed && reinterpret_cast<uintptr_t>(address) % 16 == 0;
  const int64_t warps = DivideUp(packed ? width / kPack : width, 32);
  return {static_cast<unsigned>(std::min(32 * std::max<int64_t>(warps, 1), kMaxThreads)), packed};
}

template <typename Number>
const Kernel<void(const float* x, const float* weight, int32_t width, float epsilon, int32_t packed, Number* y,
                  float* inverse_rms)>
    kRmsNorm{"norm", "RmsNorm" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const float* x, const Number* branch, const float* weight, int32_t width, float epsilon,
                  int32_t packed, float* sum, Number* y, float* inverse_rms)>
    kAddRmsNorm{"norm", "AddRmsNorm" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, const float* x, const float* weight, const float* inverse_rms,
                  const float* residual, int32_t width, int32_t packed, float* result, Number* rounded)>
    kRmsNormGradient{"norm", "RmsNormGradient" + TypeName<Number>()};

// x [tokens, hidden], weight [hidden] → y [tokens, hidden], inverse_rms [tokens, 1]
template <typename Number>
struct RmsNorm {
  explicit RmsNorm(const Attributes& attributes) : epsilon(attributes.Float("epsilon")) {}

  void Compute(Context& context) const {
    const int64_t rows = context.Dim(0, 0);
    const int64_t width = context.Dim(0, 1);
    const float* x = context.Input<float>(0);
    const float* weight = context.Input<float>(1);
    if (!context.Check(context.Size(1) == width, "weight must be as long as a row of x")) return;
    Number* y = context.Output<Number>(0, {rows, width});
    float* inverse_rms = context.Output<float>(1, {rows, 1});
    const Row row = RowOf(width, {x, weight, y});
    kRmsNorm<Number>.Launch(context, {rows}, row.threads, 0, x, weight, width, epsilon, row.packed, y, inverse_rms);
  }

  float epsilon;
};

// x, branch [tokens, hidden], weight [hidden] → x + branch, y, inverse_rms
template <typename Number>
struct AddRmsNorm {
  explicit AddRmsNorm(const Attributes& attributes) : epsilon(attributes.Float("epsilon")) {}

  void Compute(Context& context) const {
    const int64_t rows = context.Dim(0, 0);
    const int64_t width = context.Dim(0, 1);
    const float* x = context.Input<float>(0);
    const Number* branch = context.Input<Number>(1);
    const float* weight = context.Input<float>(2);
    if (!context.Check(context.Size(1) == rows * width, "branch must have the shape of x")) return;
    if (!context.Check(context.Size(2) == width, "weight must be as long as a row of x")) return;
    float* sum = context.Output<float>(0, {rows, width});
    Number* y = context.Output<Number>(1, {rows, width});
    float* inverse_rms = context.Output<float>(2, {rows, 1});
    const Row row = RowOf(width, {x, branch, weight, sum, y});
    kAddRmsNorm<Number>.Launch(context, {rows}, row.threads, 0, x, branch, weight, width, epsilon, row.packed, sum, y,
                               inverse_rms);
  }

  float epsilon;
};

// gradient [tokens, hidden] by y, x, weight, inverse_rms, residual [tokens, hidden] → by x in float32 and in T
template <typename Number>
struct RmsNormGradient {
  void Compute(Context& context) const {
    const int64_t rows = context.Dim(1, 0);
    const int64_t width = context.Dim(1, 1);
    const Number* gradient = context.Input<Number>(0);
    const float* x = context.Input<float>(1);
    const float* weight = context.Input<float>(2);
    const float* inverse_rms = context.Input<float>(3);
    const float* residual = context.Input<float>(4);
    const bool fits = context.Size(0) == rows * width && context.Size(2) == width && context.Size(3) == rows &&
                      context.Size(4) == rows * width;
    if (!context.Check(fits, "gradient, x and residual must have one shape")) return;
    float* result = context.Output<float>(0, {rows, width});
    Number* rounded = context.Output<Number>(1, {rows, width});
    const Row row = RowOf(width, {gradient, x, weight, residual, result, rounded});
    kRmsNormGradient<Number>.Launch(context, {rows}, row.threads, 0, gradient, x, weight, inverse_rms, residual, width,
                                    row.packed, result, rounded);
  }
};

const GpuOps kOps{
    {"LorasmithRmsNorm", GpuKernels<RmsNorm>()},
    {"LorasmithAddRmsNorm", GpuKernels<AddRmsNorm>()},
    {"LorasmithRmsNormGradient", GpuKernels<RmsNormGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
