// Between the vector of all parameters and LoRA's matrices: native/lora.cc on a GPU.
#include "device.h"
#include "lora_blocks.h"

namespace {

struct Range {
  int64_t begin;
  int64_t end;
};

// Of the numbers of A; for the first blocks.
__device__ __forceinline__ Range NumbersOfA(const LoraBlocks& blocks) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kLoraNumbersPerBlock;
  return {begin, min(begin + kLoraNumbersPerBlock, blocks.padded_a_size)};
}

// Of the rows of scale · B; for the other blocks.
__device__ __forceinline__ Range RowsOfB(const LoraBlocks& blocks) {
  const int64_t rows = LoraRowsPerBlock(blocks.width);
  const int64_t begin = (blockIdx.x - LoraBlocksOfA(blocks.padded_a_size)) * rows;
  return {begin, min(begin + rows, blocks.out)};
}

// The layer that has the row, or null.
__device__ __forceinline__ const LoraLayer* LayerAt(const LoraBlocks& blocks, int64_t row) {
  for (int i = 0; i < blocks.layers; i++) {
    const LoraLayer& layer = blocks.layer[i];
    if (row >= layer.first_row && row < layer.first_row + layer.rows) return &layer;
  }
  return nullptr;
}

// Calls use(row, column) for each number of the block's rows of scale · B.
template <typename Use>
__device__ __forceinline__ void ForEachOfB(const LoraBlocks& blocks, const Use& use) {
  const Range rows = RowsOfB(blocks);
  const int count = static_cast<int>(rows.end - rows.begin) * blocks.width;
  for (int i = threadIdx.x; i < count; i += blockDim.x) use(rows.begin + i / blocks.width, i % blocks.width);
}

template <typename Number>
__device__ __forceinline__ void Weights(const float* parameters, const LoraBlocks& blocks, Number* a,
                                        Number* scaled_b) {
  if (blockIdx.x < LoraBlocksOfA(blocks.padded_a_size)) {
    const Range numbers = NumbersOfA(blocks);
    for (int64_t i = numbers.begin + threadIdx.x; i < numbers.end; i += blockDim.x) {
      Store(i < blocks.a_size ? parameters[i] : 0.0f, a + i);
    }
    return;
  }
  ForEachOfB(blocks, [&](int64_t row, int column) {
    const LoraLayer* layer = LayerAt(blocks, row);
    float value = 0;
    if (layer != nullptr) {
      const int of_rank = column - layer->first_column;
      if (of_rank >= 0 && of_rank < layer->rank) {
        value = parameters[layer->b_offset + (row - layer->first_row) * layer->rank + of_rank] * layer->scale;
      }
    }
    Store(value, scaled_b + row * blocks.width + column);
  });
}

template <typename Number>
__device__ __forceinline__ void Gradient(const Number* by_a, const Number* by_scaled_b, const LoraBlocks& blocks,
                                         float* gradient) {
  if (blockIdx.x < LoraBlocksOfA(blocks.padded_a_size)) {
    const Range numbers = NumbersOfA(blocks);
    const int64_t end = min(numbers.end, blocks.a_size);
    for (int64_t i = numbers.begin + threadIdx.x; i < end; i += blockDim.x) gradient[i] = ToFloat(by_a[i]);
    return;
  }
  ForEachOfB(blocks, [&](int64_t row, int column) {
    const LoraLayer* layer = LayerAt(blocks, row);
    if (layer == nullptr) return;
    const int of_rank = column - layer->first_column;
    if (of_rank < 0 || of_rank >= layer->rank) return;
    gradient[layer->b_offset + (row - layer->first_row) * layer->rank + of_rank] =
        ToFloat(by_scaled_b[row * blocks.width + column]) * layer->scale;
  });
}

}  // namespace

// parameters: the group's. A [width, in], scaled_b [out, width]
#define LORA_KERNELS(Number, Suffix)                                                                               \
  extern "C" __global__ void __launch_bounds__(256) LoraWeights##Suffix(                                           \
      const float* parameters, const __grid_constant__ LoraBlocks blocks, Number* a, Number* scaled_b) {           \
    Weights(parameters, blocks, a, scaled_b);                                                                      \
  }                                                                                                                \
  EXPORT_KERNEL(LoraWeights##Suffix)                                                                               \
  extern "C" __global__ void __launch_bounds__(256) LoraGradient##Suffix(                                          \
      const Number* by_a, const Number* by_scaled_b, const __grid_constant__ LoraBlocks blocks, float* gradient) { \
    Gradient(by_a, by_scaled_b, blocks, gradient);                                                                 \
  }                                                                                                                \
  EXPORT_KERNEL(LoraGradient##Suffix)

LORA_KERNELS(float, Float32)
LORA_KERNELS(bf16, BFloat16)
