// Uniform numbers in [0, 1) of Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), bit
// for bit as TensorFlow's StatelessRandomUniform has them on a CPU.
#include "device.h"

namespace {

constexpr int kThreads = 128;

struct Four {
  uint32_t at[4];
};

// Ten rounds over counter and key.
__device__ __forceinline__ Four Philox(Four counter, uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const uint64_t first = 0xd2511f53ull * counter.at[0];
    const uint64_t second = 0xcd9e8d57ull * counter.at[2];
    const uint32_t first_high = static_cast<uint32_t>(first >> 32);
    const uint32_t second_high = static_cast<uint32_t>(second >> 32);
    counter = {{second_high ^ counter.at[1] ^ key0, static_cast<uint32_t>(second), first_high ^ counter.at[3] ^ key1,
                static_cast<uint32_t>(first)}};
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return counter;
}

}  // namespace

// The seeds are mixed once, so that any two seeds give unrelated numbers; then counter i gives numbers 4 i … 4 i + 3.
extern "C" __global__ void __launch_bounds__(kThreads)
    RandomUniformFloat32(uint64_t seed0, uint64_t seed1, int64_t size, float* result) {
  const Four seeds = {{static_cast<uint32_t>(seed0), static_cast<uint32_t>(seed0 >> 32), static_cast<uint32_t>(seed1),
                       static_cast<uint32_t>(seed1 >> 32)}};
  const Four mixed = Philox(seeds, 0x3ec8f720u, 0x02461e29u);
  const int64_t groups = (size + 3) / 4;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < groups; i += step) {
    const Four counter = {{static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), mixed.at[2], mixed.at[3]}};
    const Four bits = Philox(counter, mixed.at[0], mixed.at[1]);
    for (int k = 0; k < 4 && 4 * i + k < size; k++) {
      // The digits of a number in [1, 2).
      result[4 * i + k] = __uint_as_float(0x3f800000u | (bits.at[k] & 0x7fffffu)) - 1.0f;
    }
  }
}
EXPORT_KERNEL(RandomUniformFloat32)
