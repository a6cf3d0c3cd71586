// What attention's kernels and the host code that launches them agree on.
#pragma once

#include "row_tile.h"

struct AttentionShape {
  int64_t tokens;
  // Row i of the stream is tokens offsets[i] … offsets[i + 1] - 1.
  int rows;
  int heads;
  int key_value_heads;
  // Even, as is its half; at most the kernel's head size D. In its operands, the halves of a head lie at columns 0 and
  // D / 2, with zeros after each.
  int head_dim;
  // A query sees keys j > i - window; 0 for all before it.
  int window;
  float scale;
  // A score becomes softcap tanh(score / softcap); 0 for no cap.
  float softcap;
};

// Queries, or keys, of a block.
constexpr int kAttentionTile = kRowTile;

// Numbers between the starts of two rows of a bfloat16 tile in shared memory: 16 bytes more than a row, so that the
// rows of a fragment lie in different banks.
HOST_DEVICE constexpr int AttentionPitch(int head_size) { return head_size + 8; }

// Keys that a step of the forward pass takes.
HOST_DEVICE constexpr int AttentionKeys(int head_size) { return head_size <= 128 ? 64 : 32; }

// Whether the forward pass keeps its queries in registers. At head size 256 the sums take them.
HOST_DEVICE constexpr bool AttentionQueryInRegisters(int head_size) { return head_size <= 128; }

// Keys or queries that a step of the backward pass takes.
HOST_DEVICE constexpr int AttentionGradientStep(int head_size) { return head_size <= 128 ? 32 : 16; }

// At head size 256 the sums of both gradients do not fit into registers: each has a kernel.
HOST_DEVICE constexpr bool AttentionSplitsKeyGradient(int head_size) { return head_size > 128; }

// Dynamic shared memory of the bfloat16 kernels. The float32 kernels have none.
HOST_DEVICE constexpr int AttentionSharedBytes(int head_size) {
  const int tiles = 2 * AttentionKeys(head_size) + (AttentionQueryInRegisters(head_size) ? 0 : kAttentionTile);
  return tiles * AttentionPitch(head_size) * 2;
}
HOST_DEVICE constexpr int AttentionGradientSharedBytes(int head_size) {
  return (2 * kAttentionTile + 4 * AttentionGradientStep(head_size)) * AttentionPitch(head_size) * 2;
}
