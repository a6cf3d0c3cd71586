// Adds slices to the rows that their indices name, in the order of the indices, without atomics and in linear time: one
// kernel links the updates of each row, another one adds along the links. A sort would be six launches or more, and a
// block for each row that looks for its indices takes time that is a product of rows and indices.
#include "cuda/kernels/device.h"
#include "ops/scatter/scatter_shape.h"

namespace {

constexpr int kOwners = kScatterBlocks * kScatterThreads / 32;
// Indices that a lane loads at once.
constexpr int kLoads = 8;

// indices [m] → first [rows], the first update of each row; next [m], of each update the next one of the same row; -1:
// none. An index that is not in 0 … rows - 1 is left out, and its `next` is not written. Warp w of kOwners alone
// has the rows w, w + kOwners, …, and goes through the indices from the last one to the first.
__device__ __forceinline__ void LinkUpdates(const int32_t* __restrict__ indices, int64_t m, int64_t rows,
                                            int32_t* __restrict__ first, int32_t* __restrict__ next) {
  const int lane = threadIdx.x % 32, owner = (blockIdx.x * kScatterThreads + threadIdx.x) / 32;
  for (int64_t row = owner + int64_t{kOwners} * lane; row < rows; row += int64_t{kOwners} * 32) first[row] = -1;
  __syncwarp();
  constexpr int kStep = 32 * kLoads;
  for (int64_t from = (m - 1) / kStep * kStep; from >= 0; from -= kStep) {
    int32_t named[kLoads];
#pragma unroll
    for (int k = 0; k < kLoads; k++) {
      const int64_t i = from + 32 * k + lane;
      named[k] = i < m ? indices[i] : -1;
    }
#pragma unroll
    for (int k = kLoads - 1; k >= 0; k--) {
      const int32_t row = named[k];
      const bool is_own = row >= 0 && row < rows && row % kOwners == owner;
      for (unsigned found = __ballot_sync(kAllLanes, is_own); found != 0;) {
        const int last = 31 - __clz(found);
        if (lane == last) {
          const auto i = static_cast<int32_t>(from + 32 * k + lane);
          next[i] = first[row];
          first[row] = i;
        }
        // The lane before may have the same row.
        __syncwarp();
        found ^= 1u << last;
      }
    }
  }
}

// updates [m, width] → result [rows, width]; zeros where a row has no update. One block a row.
template <typename T>
__device__ __forceinline__ void AddLinked(const int32_t* __restrict__ first, const int32_t* __restrict__ next,
                                          const T* __restrict__ updates, int64_t width, T* __restrict__ result) {
  constexpr int kSize = Vector<T>::kSize;
  const int32_t head = first[blockIdx.x];
  T* to = result + blockIdx.x * width;
  if (width % kSize == 0 && IsVectorAligned(updates) && IsVectorAligned(result)) {
    for (int64_t column = threadIdx.x * kSize; column < width; column += kScatterThreads * kSize) {
      float sums[kSize] = {};
      for (int32_t i = head; i >= 0; i = next[i]) {
        const Vector<T> update = LoadVector(updates + i * width + column);
#pragma unroll
        for (int k = 0; k < kSize; k++) sums[k] += ToFloat(update.values[k]);
      }
      Vector<T> rounded;
#pragma unroll
      for (int k = 0; k < kSize; k++) Store(sums[k], &rounded.values[k]);
      StoreVector(rounded, to + column);
    }
  } else {
    for (int64_t column = threadIdx.x; column < width; column += kScatterThreads) {
      float sum = 0.0f;
      for (int32_t i = head; i >= 0; i = next[i]) sum += ToFloat(updates[i * width + column]);
      Store(sum, to + column);
    }
  }
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kScatterThreads)
    ScatterLinks(const int32_t* indices, int64_t m, int64_t rows, int32_t* first, int32_t* next) {
  LinkUpdates(indices, m, rows, first, next);
}
EXPORT_KERNEL(ScatterLinks)

#define SCATTER_SUMS(NAME, T)                                                                       \
  extern "C" __global__ void __launch_bounds__(kScatterThreads)                                     \
      NAME(const int32_t* first, const int32_t* next, const T* updates, int64_t width, T* result) { \
    AddLinked<T>(first, next, updates, width, result);                                              \
  }                                                                                                 \
  EXPORT_KERNEL(NAME)

SCATTER_SUMS(ScatterSumsFloat32, float)
SCATTER_SUMS(ScatterSumsBFloat16, bf16)
