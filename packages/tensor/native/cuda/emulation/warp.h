// What the lanes of a warp do together: shuffles, votes, ldmatrix and mma.sync. The layouts of fragments are those of
// the PTX manual ("Matrix Fragments for mma.m16n8k16", "ldmatrix").
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/emulation/block.h"

namespace emulation {

enum Exchange { kSync, kShuffle, kBallot, kLoadMatrix, kLoadMatrixTransposed, kMma };

// Each lane of the mask comes here with its operands; the last one computes for all of them.
template <typename Compute>
inline void WarpExchange(Exchange kind, uint32_t mask, Compute compute) {
  Warp& warp = block->warps[thread->warp];
  const uint32_t own = 1u << thread->lane;
  if (warp.lanes < kWarpSize) mask &= (1u << warp.lanes) - 1;
  if ((mask & own) == 0) Fail("a lane is not in the mask of its own exchange");
  if ((mask & warp.finished) != 0) Fail("the mask of an exchange names a lane that has ended");
  warp.kind[thread->lane] = kind;
  warp.mask[thread->lane] = mask;
  warp.arrived |= own;
  if ((warp.arrived & mask) == mask) {
    for (int lane = 0; lane < warp.lanes; lane++)
      if ((mask >> lane & 1) != 0 && (warp.kind[lane] != kind || warp.mask[lane] != mask))
        Fail("the lanes of a warp are at different exchanges");
    compute(warp, mask);
    warp.arrived &= ~mask;
    return;
  }
  thread->waits = Wait::kWarp;
  Yield();
  thread->waits = Wait::kNothing;
}

inline void WarpBarrier(uint32_t mask) {
  WarpExchange(kSync, mask, [](Warp& warp, uint32_t) { warp.barriers++; });
}

// `from` is called with the lane and gives the lane whose value it gets.
template <typename Value, typename From>
inline Value Shuffle(uint32_t mask, Value value, From from) {
  static_assert(sizeof(Value) == 4 || sizeof(Value) == 8, "32 or 64 bits");
  Warp& warp = block->warps[thread->warp];
  memcpy(warp.operand[thread->lane], &value, sizeof(Value));
  warp.operand[thread->lane][2] = static_cast<uint32_t>(from(thread->lane));
  WarpExchange(kShuffle, mask, [](Warp& w, uint32_t lanes) {
    for (int lane = 0; lane < kWarpSize; lane++) {
      if ((lanes >> lane & 1) == 0) continue;
      const uint32_t source = w.operand[lane][2];
      if ((lanes >> source & 1) == 0) Fail("a shuffle reads a lane that is not there");
      memcpy(w.result[lane], w.operand[source], 8);
    }
  });
  Value result;
  memcpy(&result, warp.result[thread->lane], sizeof(Value));
  return result;
}

inline uint32_t Ballot(uint32_t mask, bool vote) {
  Warp& warp = block->warps[thread->warp];
  warp.operand[thread->lane][0] = vote;
  WarpExchange(kBallot, mask, [](Warp& w, uint32_t lanes) {
    uint32_t votes = 0;
    for (int lane = 0; lane < kWarpSize; lane++)
      if ((lanes >> lane & 1) != 0 && w.operand[lane][0] != 0) votes |= 1u << lane;
    for (int lane = 0; lane < kWarpSize; lane++) w.result[lane][0] = votes;
  });
  return warp.result[thread->lane][0];
}

// ldmatrix.m8n8.x{count}[.trans].b16: lane i names row i % 8 of matrix i / 8, 16 bytes. Of each matrix a lane gets two
// neighbours: of row lane / 4, or if transposed of column lane / 4.
template <int count, bool transposed>
inline void LoadMatrix(uint32_t* result, const void* row) {
  Warp& warp = block->warps[thread->warp];
  warp.address[thread->lane] = row;
  if (on_access != nullptr && thread->lane < 8 * count) on_access(row, 16, false);
  const auto load = [](Warp& w, uint32_t mask) {
    if (mask != 0xffffffffu) Fail("ldmatrix needs a whole warp");
    for (int i = 0; i < 8 * count; i++)
      if (reinterpret_cast<uintptr_t>(w.address[i]) % 16 != 0) Fail("a row of ldmatrix is not aligned to 16 bytes");
    for (int matrix = 0; matrix < count; matrix++) {
      uint16_t elements[8][8];
      for (int i = 0; i < 8; i++) memcpy(elements[i], w.address[matrix * 8 + i], 16);
      for (int lane = 0; lane < kWarpSize; lane++) {
        const int along = lane >> 2, pair = (lane & 3) * 2;
        const uint32_t low = transposed ? elements[pair][along] : elements[along][pair];
        const uint32_t high = transposed ? elements[pair + 1][along] : elements[along][pair + 1];
        w.result[lane][matrix] = low | high << 16;
      }
    }
  };
  WarpExchange(transposed ? kLoadMatrixTransposed : kLoadMatrix, 0xffffffffu, load);
  for (int matrix = 0; matrix < count; matrix++) result[matrix] = warp.result[thread->lane][matrix];
}

inline float HighHalf(uint32_t word) {
  word &= 0xffff0000u;
  float value;
  memcpy(&value, &word, 4);
  return value;
}

// A row of a product, added and multiplied element by element.
typedef float Row __attribute__((vector_size(32)));

// mma.m16n8k16 of bfloat16: d [16, 8] += a [16, 16] b [16, 8], summed in float32.
inline void Mma(float* d, const uint32_t* a, const uint32_t* b) {
  Warp& warp = block->warps[thread->warp];
  uint32_t* own = warp.operand[thread->lane];
  memcpy(own, a, 16);
  memcpy(own + 4, b, 8);
  memcpy(own + 6, d, 16);
  WarpExchange(kMma, 0xffffffffu, [](Warp& w, uint32_t mask) {
    if (mask != 0xffffffffu) Fail("mma needs a whole warp");
    float left[16][16];
    Row right[16];
    for (int lane = 0; lane < kWarpSize; lane++) {
      const int group = lane >> 2, pair = (lane & 3) * 2;
      const uint32_t* words = w.operand[lane];
      for (int half = 0; half < 2; half++) {
        const auto element = [&](int word) { return HighHalf(half == 0 ? words[word] << 16 : words[word]); };
        left[group][pair + half] = element(0);
        left[group + 8][pair + half] = element(1);
        left[group][pair + 8 + half] = element(2);
        left[group + 8][pair + 8 + half] = element(3);
        right[pair + half][group] = element(4);
        right[pair + 8 + half][group] = element(5);
      }
    }
    Row product[16];
    for (int i = 0; i < 16; i++) {
      Row sum = {};
      for (int k = 0; k < 16; k++) sum += left[i][k] * right[k];
      product[i] = sum;
    }
    for (int lane = 0; lane < kWarpSize; lane++) {
      const int group = lane >> 2, pair = (lane & 3) * 2;
      float sum[4];
      memcpy(sum, &w.operand[lane][6], 16);
      sum[0] += product[group][pair];
      sum[1] += product[group][pair + 1];
      sum[2] += product[group + 8][pair];
      sum[3] += product[group + 8][pair + 1];
      memcpy(w.result[lane], sum, 16);
    }
  });
  memcpy(d, warp.result[thread->lane], 16);
}

}  // namespace emulation
