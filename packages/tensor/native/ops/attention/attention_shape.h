// What attention's kernels and the host code that launches them agree on.
#pragma once

#include "cuda/kernels/portable.h"

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

// A block of AttentionSums has a head of kSumTokens tokens, and for each kSumLanes threads.
constexpr int kSumTokens = 16;
constexpr int kSumLanes = 8;
constexpr int kSumThreads = kSumTokens * kSumLanes;

// Numbers between the starts of two rows of a bfloat16 tile in shared memory: 16 bytes more than a row, so that the
// rows of a fragment lie in different banks.
HOST_DEVICE constexpr int AttentionPitch(int head_size) { return head_size + 8; }

// Where the rows of a block (queries, or keys) are while the others pass by. Shared memory is either padded, with
// AttentionPitch, or exchanged: rows follow each other without a gap, and the 16 bytes c of row r lie at c ^ (r % 8).
enum class RowPlace { kRegisters, kPadded, kExchanged };

// How a block of a bfloat16 kernel computes heads of one size. Each warp has 16 or 32 of its rows and a part of a
// head's columns.
struct AttentionBlock {
  int rows;
  int warps;
  // Keys, or queries, that a step takes.
  int step;
  RowPlace place;
  // 16 rows each: a fragment of the others is multiplied by all of them.
  int tiles_of_warp = 1;
  // Whether warps that share rows each compute whole scores, of a part of a step, and exchange them; otherwise each
  // computes its part of the sum of every score.
  bool splits_steps = false;

  HOST_DEVICE constexpr bool in_registers() const { return place == RowPlace::kRegisters; }
  // Warps that share their rows. Each has sums of an equal part of the columns, and computes its part of each score.
  HOST_DEVICE constexpr int column_groups() const { return 16 * tiles_of_warp * warps / rows; }
  HOST_DEVICE constexpr int threads() const { return 32 * warps; }
};

HOST_DEVICE constexpr AttentionBlock AttentionForward(int head_size) {
  if (head_size <= 64) return {128, 4, 64, RowPlace::kRegisters, 2};
  // The sums take the registers.
  if (head_size <= 128) return {128, 4, 32, head_size == 128 ? RowPlace::kExchanged : RowPlace::kPadded, 2};
  if (head_size <= 256) return {64, 4, 32, RowPlace::kPadded};
  return {64, 8, 32, RowPlace::kRegisters};
}
// The gradient by queries, or by keys and values.
HOST_DEVICE constexpr AttentionBlock AttentionBackward(int head_size, bool of_queries) {
  // Two kinds of own rows have place in registers beside the sums of one gradient, or of narrow heads.
  if (head_size == 64 || head_size == 128) {
    if (of_queries) return {64, 4, 32, RowPlace::kRegisters, 2, true};
    if (head_size == 64) return {128, 8, 64, RowPlace::kRegisters, 2, true};
    return {128, 8, 32, RowPlace::kExchanged, 2, true};
  }
  if (head_size <= 128) return {64, 4, 32, of_queries ? RowPlace::kRegisters : RowPlace::kPadded};
  if (head_size <= 256) return {64, 4, 16, RowPlace::kPadded};
  return {32, 8, 16, RowPlace::kRegisters};
}

// At head size 256 the sums of both gradients do not fit into registers: each has a kernel.
HOST_DEVICE constexpr bool AttentionSplitsKeyGradient(int head_size) { return head_size > 128 && head_size <= 256; }

// Parts of a product of 16 rows that the warps of those rows exchange, for a step: nothing where one warp has all.
HOST_DEVICE constexpr int AttentionExchangeBytes(AttentionBlock block) {
  return block.column_groups() == 1 ? 0 : block.warps * 16 * block.step * 4;
}

// Scores of a step in bfloat16, and of keys also weights, which the warps of a block exchange that splits steps.
HOST_DEVICE constexpr int AttentionSharedNumbers(AttentionBlock block, bool of_queries) {
  return block.rows * AttentionPitch(block.step) * 2 * (of_queries ? 1 : 2);
}

// Shared memory for `kinds` kinds of own rows.
HOST_DEVICE constexpr int AttentionOwnBytes(AttentionBlock block, int head_size, int kinds) {
  // Rows that are in registers pass through the memory of the steps.
  if (block.in_registers()) return 0;
  return kinds * block.rows * 2 * (block.place == RowPlace::kPadded ? AttentionPitch(head_size) : head_size);
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

HOST_DEVICE constexpr AttentionLaunch AttentionForwardLaunch(int head_size, bool is_bfloat16) {
  if (!is_bfloat16) return AttentionFloatLaunch(head_size);
  const AttentionBlock block = AttentionForward(head_size);
  const int steps = 2 * block.step * AttentionPitch(head_size) * 2;
  const int bytes = steps + AttentionOwnBytes(block, head_size, 1) + AttentionExchangeBytes(block);
  return {block.rows, block.threads(), 1, bytes};
}
HOST_DEVICE constexpr AttentionLaunch AttentionGradientLaunch(int head_size, bool is_bfloat16, bool of_queries) {
  if (!is_bfloat16) return AttentionFloatLaunch(head_size);
  const AttentionBlock block = AttentionBackward(head_size, of_queries);
  const int steps = 4 * block.step * AttentionPitch(head_size) * 2;
  const int bytes = block.splits_steps
                        ? steps + AttentionOwnBytes(block, head_size, 1) + AttentionSharedNumbers(block, of_queries)
                        : steps + AttentionOwnBytes(block, head_size, 2) + 2 * AttentionExchangeBytes(block);
  return {block.rows, block.threads(), 1, bytes};
}
