// Work of one launch that is described by a table among the kernel's parameters: each entry has blocks of its own, from
// `first_block` on, in the order of the table.
#pragma once

#include "cuda/kernels/portable.h"

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
