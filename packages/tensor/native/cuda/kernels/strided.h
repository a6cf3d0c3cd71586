// What host and kernels agree on for tensors that are walked along axes with strides.
#pragma once

#include "cuda/kernels/portable.h"

constexpr int kMaxAxes = 8;

// Two tensors, or one tensor and a part of another, with the same axes, from outer to inner. Strides are in elements; 0
// repeats an element. Where an access is a pack, `size` and the last axis count packs.
struct StridedPair {
  int64_t size;
  int64_t axes[kMaxAxes];
  int64_t left[kMaxAxes];
  int64_t right[kMaxAxes];
  int32_t rank;
};
