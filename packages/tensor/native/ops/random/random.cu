// TensorFlow's StatelessRandomUniform on a GPU.
#include "cuda/kernels/device.h"
#include "cuda/kernels/philox.h"

namespace {

constexpr int kThreads = 128;

}  // namespace

extern "C" __global__ void __launch_bounds__(kThreads)
    RandomUniformFloat32(uint64_t seed0, uint64_t seed1, int64_t size, float* result) {
  const UniformSeed seed = MixSeeds(seed0, seed1);
  const int64_t groups = (size + 3) / 4;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < groups; i += step) {
    const PhiloxNumbers bits = UniformBits(seed, i);
    for (int k = 0; k < 4 && 4 * i + k < size; k++) {
      result[4 * i + k] = __uint_as_float(UniformPlusOne(bits.at[k])) - 1.0f;
    }
  }
}
EXPORT_KERNEL(RandomUniformFloat32)
