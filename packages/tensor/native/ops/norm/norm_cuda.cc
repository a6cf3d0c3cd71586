// Norms on a GPU: norm.cu. What they compute is in norm.cc.
#include "cuda/host/launch.h"
#include "ops/norm/norm_operands.h"

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

const Kernel<void(const float* x, int32_t width, int32_t packed, float* result)> kCentred{"norm", "CentredFloat32"};

struct Centred {
  void Compute(Context& context) const {
    const CentredOperands o(context);
    const Row row = RowOf(o.width, {o.x, o.result});
    kCentred.Launch(context, {o.rows}, row.threads, 0, o.x, o.width, row.packed, o.result);
  }
};

template <typename Number>
struct RmsNorm {
  explicit RmsNorm(const Attributes& attributes) : epsilon(attributes.Float("epsilon")) {}

  void Compute(Context& context) const {
    const RmsNormOperands<Number> o(context);
    const Row row = RowOf(o.width, {o.x, o.weight, o.y});
    kRmsNorm<Number>.Launch(context, {o.rows}, row.threads, 0, o.x, o.weight, o.width, epsilon, row.packed, o.y,
                            o.inverse_rms);
  }

  float epsilon;
};

template <typename Number>
struct AddRmsNorm {
  explicit AddRmsNorm(const Attributes& attributes) : epsilon(attributes.Float("epsilon")) {}

  void Compute(Context& context) const {
    const AddRmsNormOperands<Number> o(context);
    const Row row = RowOf(o.width, {o.x, o.branch, o.weight, o.sum, o.y});
    kAddRmsNorm<Number>.Launch(context, {o.rows}, row.threads, 0, o.x, o.branch, o.weight, o.width, epsilon, row.packed,
                               o.sum, o.y, o.inverse_rms);
  }

  float epsilon;
};

template <typename Number>
struct RmsNormGradient {
  void Compute(Context& context) const {
    const RmsNormGradientOperands<Number> o(context);
    const Row row = RowOf(o.width, {o.gradient, o.x, o.weight, o.residual, o.result, o.rounded});
    kRmsNormGradient<Number>.Launch(context, {o.rows}, row.threads, 0, o.gradient, o.x, o.weight, o.inverse_rms,
                                    o.residual, o.width, row.packed, o.result, o.rounded);
  }
};

const GpuOps kOps{
    {"LorasmithCentred", {GpuKernelOn<Centred>({{"T", TF_FLOAT}})}},
    {"LorasmithRmsNorm", GpuKernels<RmsNorm>()},
    {"LorasmithAddRmsNorm", GpuKernels<AddRmsNorm>()},
    {"LorasmithRmsNormGradient", GpuKernels<RmsNormGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
