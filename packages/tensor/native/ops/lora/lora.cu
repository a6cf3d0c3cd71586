// Between the vector of all parameters and the matrices that LoRA's products use, of all adapters of a pass at once.
#include "cuda/kernels/device.h"
#include "ops/lora/lora_matrix.h"

namespace {

// Calls use(row, column) for the block's numbers of a matrix with `rows` of `columns`.
template <typename Use>
__device__ __forceinline__ void ForEachNumber(int first_block, int rows, int columns, const Use& use) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x - first_block) * kLoraNumbers;
  const int64_t end = min(begin + kLoraNumbers, static_cast<int64_t>(rows) * columns);
  for (int64_t i = begin + threadIdx.x; i < end; i += kLoraThreads) use(i / columns, static_cast<int>(i % columns));
}

template <typename Number>
__device__ __forceinline__ void Convert(const LoraMatrices& matrices) {
  const LoraMatrix& matrix = EntryOf(matrices, blockIdx.x);
  ForEachNumber(matrix.first_block, matrix.all_rows, matrix.all_columns, [&](int64_t row, int column) {
    const int own = column - matrix.first_column;
    float value = 0;
    if (row < matrix.rows && own >= 0 && own < matrix.columns) {
      value = matrix.from[row * matrix.columns + own] * matrix.scale;
    }
    Store(value, static_cast<Number*>(matrix.to) + row * matrix.to_stride + column);
  });
}

}  // namespace

#define LORA_MATRICES(Number, Suffix)                                       \
  extern "C" __global__ void __launch_bounds__(kLoraThreads)                \
      LoraMatrices##Suffix(const __grid_constant__ LoraMatrices matrices) { \
    Convert<Number>(matrices);                                              \
  }                                                                         \
  EXPORT_KERNEL(LoraMatrices##Suffix)

LORA_MATRICES(float, Float32)
LORA_MATRICES(bf16, BFloat16)

extern "C" __global__ void __launch_bounds__(kLoraThreads)
    LoraGradients(const __grid_constant__ LoraMatrixGradients gradients) {
  const LoraMatrixGradient& own = EntryOf(gradients, blockIdx.x);
  ForEachNumber(own.first_block, own.rows, own.columns, [&](int64_t row, int column) {
    const float* from = own.from + row * own.from_stride + column;
    float sum = from[0];
    for (int piece = 1; piece < own.pieces; piece++) sum += from[piece * own.piece_stride];
    own.to[row * own.to_row_stride + static_cast<int64_t>(column) * own.to_column_stride] = sum * own.scale;
  });
}
EXPORT_KERNEL(LoraGradients)
