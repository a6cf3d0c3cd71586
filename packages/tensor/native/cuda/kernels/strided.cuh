// Where element i of a pair of strided tensors is in both.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/portable.h"

template <typename Index>
__device__ __forceinline__ void LocateBy(const StridedPair& pair, int64_t i, int64_t* left, int64_t* right) {
  Index rest = static_cast<Index>(i);
  int64_t in_left = 0, in_right = 0;
  for (int axis = pair.rank - 1; axis > 0; axis--) {
    const Index length = static_cast<Index>(pair.axes[axis]);
    const Index next = rest / length;
    const int64_t at = static_cast<int64_t>(rest - next * length);
    in_left += at * pair.left[axis];
    in_right += at * pair.right[axis];
    rest = next;
  }
  *left = in_left + static_cast<int64_t>(rest) * pair.left[0];
  *right = in_right + static_cast<int64_t>(rest) * pair.right[0];
}

// Divisions of 32 bits are several times faster than those of 64.
__device__ __forceinline__ void Locate(const StridedPair& pair, int64_t i, int64_t* left, int64_t* right) {
  if (pair.size <= 0x7fffffff) {
    LocateBy<uint32_t>(pair, i, left, right);
  } else {
    LocateBy<int64_t>(pair, i, left, right);
  }
}
