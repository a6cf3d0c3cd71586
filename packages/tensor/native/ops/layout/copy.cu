// Moves elements: transpose, slice, pad, concat, split, roll, fill, gather and the like. An element is 1, 2, 4, 8 or 16
// bytes, whatever they mean; the host takes several small ones as a larger one where it can.
#include "cuda/kernels/device.h"
#include "cuda/kernels/strided.cuh"

namespace {

constexpr int kThreads = 128;
constexpr int kTile = 32;

template <typename T>
__device__ __forceinline__ void Copy(const T* __restrict__ from, T* __restrict__ to, const StridedPair& box) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < box.size; i += step) {
    int64_t read, written;
    Locate(box, i, &read, &written);
    to[written] = from[read];
  }
}

// A tile of 32 x 32 elements goes through shared memory, so that both sides are read and written row by row.
template <typename T>
__device__ __forceinline__ void Transpose(const T* __restrict__ from, T* __restrict__ to, int64_t rows,
                                          int64_t columns) {
  SHARED(T, tile, [kTile][kTile + 1]);
  const int64_t matrix = static_cast<int64_t>(blockIdx.z) * rows * columns;
  const int lane = threadIdx.x % kTile;
  const int64_t row_tiles = (rows + kTile - 1) / kTile;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kTile;
  for (int64_t row_tile = blockIdx.y; row_tile < row_tiles; row_tile += gridDim.y) {
    const int64_t first_row = row_tile * kTile;
    for (int row = threadIdx.x / kTile; row < kTile; row += kThreads / kTile) {
      if (first_row + row < rows && first_column + lane < columns) {
        tile[row][lane] = from[matrix + (first_row + row) * columns + first_column + lane];
      }
    }
    __syncthreads();
    for (int column = threadIdx.x / kTile; column < kTile; column += kThreads / kTile) {
      if (first_column + column < columns && first_row + lane < rows) {
        to[matrix + (first_column + column) * rows + first_row + lane] = tile[lane][column];
      }
    }
    __syncthreads();
  }
}

template <typename T>
__device__ __forceinline__ void Fill(const T* __restrict__ value, T* __restrict__ to, int64_t size) {
  const T own = *value;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) to[i] = own;
}

template <typename T>
__device__ __forceinline__ T AllOnes() {
  return static_cast<T>(~static_cast<T>(0));
}
template <>
__device__ __forceinline__ uint4 AllOnes<uint4>() {
  return {~0u, ~0u, ~0u, ~0u};
}

// x [n, width], indices [m] → [m, width]. An index that is not in 0 … n - 1 gives bytes of 0xff: NaN in every float
// type.
template <typename T>
__device__ __forceinline__ void Gather(const T* __restrict__ x, const int32_t* __restrict__ indices, int64_t n,
                                       int64_t m, int64_t width, T* __restrict__ result) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const T none = AllOnes<T>();
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < m * width; i += step) {
    const int64_t row = i / width;
    const int64_t index = indices[row];
    result[i] = index >= 0 && index < n ? x[index * width + i - row * width] : none;
  }
}

}  // namespace

#define MOVES(BYTES, ELEMENT)                                                                                         \
  extern "C" __global__ void __launch_bounds__(kThreads)                                                              \
      Copy##BYTES(const ELEMENT* from, ELEMENT* to, StridedPair box) {                                                \
    Copy<ELEMENT>(from, to, box);                                                                                     \
  }                                                                                                                   \
  EXPORT_KERNEL(Copy##BYTES)                                                                                          \
  extern "C" __global__ void __launch_bounds__(kThreads)                                                              \
      Gather##BYTES(const ELEMENT* x, const int32_t* indices, int64_t n, int64_t m, int64_t width, ELEMENT* result) { \
    Gather<ELEMENT>(x, indices, n, m, width, result);                                                                 \
  }                                                                                                                   \
  EXPORT_KERNEL(Gather##BYTES)
// Of the sizes that a tensor's elements have.
#define MOVES_OF_TENSORS(BYTES, ELEMENT)                                                  \
  MOVES(BYTES, ELEMENT)                                                                   \
  extern "C" __global__ void __launch_bounds__(kThreads)                                  \
      Transpose##BYTES(const ELEMENT* from, ELEMENT* to, int64_t rows, int64_t columns) { \
    Transpose<ELEMENT>(from, to, rows, columns);                                          \
  }                                                                                       \
  EXPORT_KERNEL(Transpose##BYTES)                                                         \
  extern "C" __global__ void __launch_bounds__(kThreads)                                  \
      Fill##BYTES(const ELEMENT* value, ELEMENT* to, int64_t size) {                      \
    Fill<ELEMENT>(value, to, size);                                                       \
  }                                                                                       \
  EXPORT_KERNEL(Fill##BYTES)

MOVES_OF_TENSORS(1, uint8_t)
MOVES_OF_TENSORS(2, uint16_t)
MOVES_OF_TENSORS(4, uint32_t)
MOVES_OF_TENSORS(8, uint64_t)
MOVES(16, uint4)
