// What kernels and the host code that launches them agree on. NVRTC has no standard headers, and compiles no function
// that is for the host only.
#pragma once

#if defined(__CUDACC_RTC__)

typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long uintptr_t;

#define HOST_DEVICE __host__ __device__

#else

#include <cstdint>

#define HOST_DEVICE

#endif

// Tiles of the rows of a stream, as kernels and host code number them. Row i is tokens offsets[i] … offsets[i + 1] - 1.

// Tokens of a tile, where a kernel has no other number.
constexpr int kRowTile = 64;

// Upper bound of the tiles of all rows: a grid's x. Row i has the slots from offsets[i] / tile + i on.
HOST_DEVICE constexpr int64_t RowSlots(int64_t tokens, int64_t rows, int tile = kRowTile) {
  return tokens / tile + rows;
}

// Tensors that are walked along axes with strides.

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

// Work of one launch that is described by a table among the kernel's parameters: each entry has blocks of its own, from
// `first_block` on, in the order of the table.

// The most bytes of parameters that every driver takes.
constexpr int kParameterBytes = 4096;

// `kOtherBytes`: of the parameters, those that are not entries.
template <typename Entry, int kOtherBytes = 8>
struct LaunchTable {
  static constexpr int kMost = (kParameterBytes - kOtherBytes) / static_cast<int>(sizeof(Entry));

  int count;
  Entry at[kMost];
};

// The entry that has a block.
template <typename Entry, int kOtherBytes>
HOST_DEVICE inline const Entry& EntryOf(const LaunchTable<Entry, kOtherBytes>& table, int block) {
  int first = 0;
  for (int end = table.count; end - first > 1;) {
    const int middle = (first + end) / 2;
    if (table.at[middle].first_block <= block) {
      first = middle;
    } else {
      end = middle;
    }
  }
  return table.at[first];
}
