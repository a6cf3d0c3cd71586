// What the kernels of the gated delta rule and the host code that launches them agree on.
#pragma once

#include "cuda/kernels/portable.h"

struct DeltaShape {
  int64_t tokens;
  int64_t width;  // of a token of qkv
  // Row i of the stream is tokens offsets[i] … offsets[i + 1] - 1.
  int rows;
  int key_heads;
  int value_heads;
  // At most the kernel's head size D. In scratch memory a head has D numbers, with zeros after its own.
  int key_size;
  int value_size;
};

// Columns of a state that a block goes through a row with.
constexpr int kDeltaColumns = 16;
// Threads that have the rows of a column.
constexpr int kDeltaLanes = 8;
constexpr int kDeltaSweepThreads = kDeltaColumns * kDeltaLanes;
constexpr int kDeltaChunkThreads = 256;
constexpr int kDeltaTokenThreads = 128;
