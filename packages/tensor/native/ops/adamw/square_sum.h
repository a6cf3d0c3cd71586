// How a square sum is divided among blocks.
#pragma once

#include "cuda/kernels/portable.h"

constexpr int kSquareSumThreads = 256;

// By the count of numbers alone, so that the same numbers have the same sum on every card: 16 numbers a thread, until
// there are enough blocks to fill one.
HOST_DEVICE constexpr int SquareSumBlocks(int64_t n) {
  const int64_t blocks = (n + kSquareSumThreads * 16 - 1) / (kSquareSumThreads * 16);
  return static_cast<int>(blocks < 1 ? 1 : blocks > 1024 ? 1024 : blocks);
}
