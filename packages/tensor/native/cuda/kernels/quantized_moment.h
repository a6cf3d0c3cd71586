// AdamW's moments in 8 bits (Dettmers et al. 2021, arXiv:2110.02861), in the blocks and with the values of
// bitsandbytes.
#pragma once

#include "portable.h"

// Numbers that share a scale: the largest magnitude among them.
constexpr int kMomentBlock = 256;
constexpr int kMomentCodes = 256;
// The codes of a block, then its scale in float32. What is beyond the last number has the code 0.
constexpr int kMomentBlockBytes = kMomentBlock + 4;

HOST_DEVICE constexpr int64_t MomentBlocks(int64_t count) { return (count + kMomentBlock - 1) / kMomentBlock; }
HOST_DEVICE constexpr int64_t MomentBytes(int64_t count) { return MomentBlocks(count) * kMomentBlockBytes; }

// The code whose value is nearest to number / scale, of two at the same distance the lower; table [256], ascending. A
// second moment that is not 0 does not become 0, as it can in bitsandbytes: the step of its parameter would be without
// a bound.
HOST_DEVICE inline unsigned char MomentCode(const float* table, float number, float scale) {
  if (scale == 0) return 0;
  const float ratio = number / scale;
  int code = 0;
  for (int step = kMomentCodes / 2; step > 0; step /= 2) {
    const int at = code + step - 1;
    const float middle = (table[at] + table[at + 1]) * 0.5f;
    if (middle < ratio) code += step;
  }
  return static_cast<unsigned char>(code == 0 && number > 0 ? 1 : code);
}
