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

// Numbers between the starts of two rows of a bfloat16 tile in shared memory: 16 bytes more than a row, so that the
// rows of a fragment lie in different banks.
HOST_DEVICE constexpr int AttentionPitch(int head_size) { return head_size + 8; }

// How a block of a bfloat16 kernel computes heads of one size. Each warp has 16 of its rows (queries, or keys) and a
// part of a head's columns.
struct AttentionBlock {
  int rows;
  int warps;
  // Keys, or queries, that a step takes.
  int step;
  // Whether the rows lie in registers, not in shared memory.
  bool in_registers;

  // Warps that share 16 rows. Each has sums of an equal part of the columns, and computes its part of each score.
  HOST_DEVICE constexpr int column_groups() const { return 16 * warps / rows; }
  HOST_DEVICE constexpr int threads() const { return 32 * warps; }
};

HOST_DEVICE constexpr AttentionBlock AttentionForward(int head_size) {
  if (head_size <= 128) return {64, 4, 64, true};
  // The sums take the registers.
  if (head_size <= 256) return {64, 4, 32, false};
  return {64, 8, 32, true};
}
HOST_DEVICE constexpr AttentionBlock AttentionBackward(int head_size) {
  if (head_size <= 256) return {64, 4, head_size <= 128 ? 32 : 16, false};
  return {32, 8, 16, true};
}

// At head size 256 the sums of both gradients do not fit into registers: each has a kernel.
HOST_DEVICE constexpr bool AttentionSplitsKeyGradient(int head_size) { return head_size > 128 && head_size <= 256; }

// Parts of a product of 16 rows that the warps of those rows exchange, for a step: nothing where one warp has all.
HOST_DEVICE constexpr int AttentionExchangeBytes(AttentionBlock block) {
  return block.column_groups() == 1 ? 0 : block.warps * 16 * block.step * 4;
}

// Columns of a head that a block of a float32 kernel has sums of; the blocks of the others compute the scores once
// more.
HOST_DEVICE constexpr int AttentionFloatColumns(int head_size) { return head_size <= 256 ? head_size : 256; }

// How a kernel is launched. Its grid: RowSlots of `rows`, heads (of queries, or of keys), column_blocks.
struct AttentionLaunch {
  int rows;
  int threads;
  int column_blocks;
  int shared_bytes;  // dynamic
};

HOST_DEVICE constexpr AttentionLaunch AttentionFloatLaunch(int head_size) {
  return {kRowTile, 256, head_size / AttentionFloatColumns(head_size), 0};
}

// Rows that are in registers pass through the memory of the steps.
HOST_DEVICE constexpr AttentionLaunch AttentionForwardLaunch(int head_size, bool is_bfloat16) {
  if (!is_bfloat16) return AttentionFloatLaunch(head_size);
  const AttentionBlock block = AttentionForward(head_size);
  const int rows = 2 * block.step + (block.in_registers ? 0 : block.rows);
  const int bytes = rows * AttentionPitch(head_size) * 2 + AttentionExchangeBytes(block);
  return {block.rows, block.threads(), 1, bytes};
}
HOST_DEVICE constexpr AttentionLaunch AttentionGradientLaunch(int head_size, bool is_bfloat16) {
  if (!is_bfloat16) return AttentionFloatLaunch(head_size);
  const AttentionBlock block = AttentionBackward(head_size);
  const int rows = 4 * block.step + (block.in_registers ? 0 : 2 * block.rows);
  const int bytes = rows * AttentionPitch(head_size) * 2 + 2 * AttentionExchangeBytes(block);
  return {block.rows, block.threads(), 1, bytes};
}
