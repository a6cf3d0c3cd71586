// TensorFlow's StatelessRandomUniform on a GPU: random.cu.
#include "cuda/host/launch.h"
#include "cuda/host/strides.h"

namespace lorasmith::cuda {
namespace {

const Kernel<void(uint64_t seed0, uint64_t seed1, int64_t size, float* result)> kRandomUniform{"random",
                                                                                               "RandomUniformFloat32"};

// shape, seed [2] → numbers in [0, 1), the same for the same seed
struct RandomUniform {
  void Compute(Context& context) const {
    const int32_t* lengths = context.Input<int32_t>(0);
    const int32_t* seed = context.Input<int32_t>(1);
    if (!context.Check(context.Size(1) == 2, "the seed must have two numbers")) return;
    const Shape shape(lengths, lengths + context.Size(0));
    for (int64_t length : shape) {
      if (!context.Check(length >= 0, "a shape cannot be negative")) return;
    }
    float* result = context.Output<float>(0, shape);
    const int64_t size = SizeOf(shape);
    kRandomUniform.Launch(context, {ElementBlocks((size + 3) / 4)}, kElementThreads, 0, static_cast<uint64_t>(seed[0]),
                          static_cast<uint64_t>(seed[1]), size, result);
  }
};

const GpuOps kOps{
    {"StatelessRandomUniform",
     {GpuKernelOn<RandomUniform>({{"T", TF_INT32}, {"Tseed", TF_INT32}, {"dtype", TF_FLOAT}}, {"shape", "seed"})}},
};

}  // namespace
}  // namespace lorasmith::cuda
