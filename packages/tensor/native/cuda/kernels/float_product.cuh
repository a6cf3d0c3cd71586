// Products of matrices in float32, without tensor cores, which would round to TF32. A block of 16 x 16 threads has 64
// rows; a thread has the rows y + 16 i and the columns x + 16 j of each product.
#pragma once

#include "cuda/kernels/row_tile.cuh"

namespace float_product {

constexpr int kSide = 16;
constexpr int kFloatThreads = kSide * kSide;
constexpr int kOwn = kRowTile / kSide;
// Columns of the operands, or rows, that are in shared memory at one time.
constexpr int kSlice = 16;
constexpr int kSlicePitch = kSlice + 4;
constexpr int kWeightPitch = kRowTile + 4;

// 64 rows of a head, zeros from `length` on.
struct FloatRows {
  const float* head;
  int64_t stride;
  int first;
  int length;

  __device__ __forceinline__ Vector<float> Load(int row, int column) const {
    if (first + row >= length) return {};
    return LoadVector(head + (first + row) * stride + column);
  }

  // The same rows from a column on.
  __device__ __forceinline__ FloatRows From(int column) const { return {head + column, stride, first, length}; }
};

// Two slices of operands.
struct FloatSlices {
  alignas(16) float at[2 * kRowTile * kSlicePitch];
};

template <int D>
struct FloatMemory {
  static constexpr int kColumns = 2 * kRowTile * kSlicePitch, kRows = kSlice * D;
  alignas(16) float operands[kColumns > kRows ? kColumns : kRows];
  alignas(16) float weights[kRowTile * kWeightPitch];
};

// result [64, 64] = left [64, depth] rightᵀ. The operands give four numbers of a row at a time, zeros beyond the depth;
// two slices of them pass through shared memory.
template <typename Left, typename Right>
__device__ __forceinline__ void MultiplyRows(const Left& left, const Right& right, int depth, float* memory,
                                             float (&result)[kOwn][kOwn]) {
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  float* left_slice = memory;
  float* right_slice = left_slice + kRowTile * kSlicePitch;
  const int row = threadIdx.x / 4, column = threadIdx.x % 4 * 4;
#pragma unroll
  for (int i = 0; i < kOwn; i++)
#pragma unroll
    for (int j = 0; j < kOwn; j++) result[i][j] = 0;
  Vector<float> next_left = left.Load(row, column), next_right = right.Load(row, column);
#pragma unroll 1
  for (int slice = 0; slice < depth; slice += kSlice) {
    __syncthreads();
    StoreVector(next_left, left_slice + row * kSlicePitch + column);
    StoreVector(next_right, right_slice + row * kSlicePitch + column);
    __syncthreads();
    if (slice + kSlice < depth) {
      next_left = left.Load(row, slice + kSlice + column);
      next_right = right.Load(row, slice + kSlice + column);
    }
#pragma unroll 1
    for (int c = 0; c < kSlice; c += 4) {
      Vector<float> a[kOwn], b[kOwn];
#pragma unroll
      for (int i = 0; i < kOwn; i++) {
        a[i] = LoadVector(left_slice + (y + kSide * i) * kSlicePitch + c);
        b[i] = LoadVector(right_slice + (x + kSide * i) * kSlicePitch + c);
      }
#pragma unroll
      for (int i = 0; i < kOwn; i++)
#pragma unroll
        for (int j = 0; j < kOwn; j++)
#pragma unroll
          for (int k = 0; k < 4; k++) result[i][j] += a[i].values[k] * b[j].values[k];
    }
  }
}

// result [64, 64] = left [64, D] rightᵀ.
template <int D, int kColumns, typename Right = FloatRows>
__device__ __forceinline__ void MultiplyTransposedFloat(const FloatRows& left, const Right& right,
                                                        FloatMemory<kColumns>& memory, float (&result)[kOwn][kOwn]) {
  MultiplyRows(left, right, D, memory.operands, result);
}

// result [64, D] += weights [64, 64] right [64, D].
template <int D, typename Right = FloatRows>
__device__ __forceinline__ void AddProductFloat(const float (&weights)[kOwn][kOwn], const Right& right,
                                                FloatMemory<D>& memory, float (&result)[kOwn][D / kSide]) {
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  __syncthreads();  // the weights of the product before may be in use
#pragma unroll
  for (int i = 0; i < kOwn; i++)
#pragma unroll
    for (int j = 0; j < kOwn; j++) memory.weights[(y + kSide * i) * kWeightPitch + x + kSide * j] = weights[i][j];
#pragma unroll 1
  for (int slice = 0; slice < kRowTile; slice += kSlice) {
    __syncthreads();
    for (int i = threadIdx.x; i < kSlice * D / 4; i += kFloatThreads) {
      const int row = i / (D / 4), column = i % (D / 4) * 4;
      StoreVector(right.Load(slice + row, column), memory.operands + row * D + column);
    }
    __syncthreads();
#pragma unroll 1
    for (int k = 0; k < kSlice; k += 4) {
      Vector<float> a[kOwn];
#pragma unroll
      for (int i = 0; i < kOwn; i++) a[i] = LoadVector(memory.weights + (y + kSide * i) * kWeightPitch + slice + k);
#pragma unroll
      for (int l = 0; l < 4; l++)
#pragma unroll
        for (int j = 0; j < D / kSide; j++) {
          const float b = memory.operands[(k + l) * D + x + kSide * j];
#pragma unroll
          for (int i = 0; i < kOwn; i++) result[i][j] += a[i].values[l] * b;
        }
    }
  }
}

// Over the 16 threads that have a row.
__device__ __forceinline__ float SideMax(float value) {
#pragma unroll
  for (int by = kSide / 2; by > 0; by >>= 1) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, by));
  return value;
}
__device__ __forceinline__ float SideSum(float value) {
#pragma unroll
  for (int by = kSide / 2; by > 0; by >>= 1) value += __shfl_xor_sync(kAllLanes, value, by);
  return value;
}

}  // namespace float_product
