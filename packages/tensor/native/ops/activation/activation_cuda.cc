// Activations without a gate on a GPU: activation.cu. What they compute is in activation.cc.
#include <algorithm>

#include "cuda/host/launch.h"
#include "ops/activation/activation.h"

namespace lorasmith::cuda {
namespace {

constexpr int64_t kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 16;

template <typename Number>
const Kernel<void(const Number* x, int64_t size, Activation activation, Number* result)> kActivation{
    "activation", "Activation" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, const Number* x, int64_t size, Activation activation, Number* result)>
    kActivationGradient{"activation", "ActivationGradient" + TypeName<Number>()};

// A thread for each vector of 16 bytes, or several.
template <typename Number>
Grid GridOf(int64_t size) {
  return {std::min(kMostBlocks, DivideUp(size, kThreads * 16 / static_cast<int64_t>(sizeof(Number))))};
}

template <typename Number>
struct ActivationOfEach {
  explicit ActivationOfEach(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const ActivationOperands<Number> o(context, activation);
    kActivation<Number>.Launch(context, GridOf<Number>(o.size), kThreads, 0, o.x, o.size, activation, o.result);
  }

  Activation activation;
};

template <typename Number>
struct ActivationGradient {
  explicit ActivationGradient(const Attributes& attributes) : activation(ActivationOf(attributes)) {}

  void Compute(Context& context) const {
    const ActivationGradientOperands<Number> o(context, activation);
    kActivationGradient<Number>.Launch(context, GridOf<Number>(o.size), kThreads, 0, o.gradient, o.x, o.size,
                                       activation, o.result);
  }

  Activation activation;
};

const GpuOps kOps{
    {"LorasmithActivation", GpuKernels<ActivationOfEach>()},
    {"LorasmithActivationGradient", GpuKernels<ActivationGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
