// AdamW's moments in 8 bits (Dettmers et al. 2021, arXiv:2110.02861), in the blocks and with the values of
// bitsandbytes.
#pragma once

#include "cuda/kernels/portable.h"

// Numbers that share a scale: the largest magnitude among them.
constexpr int kMomentBlock = 256;
constexpr int kMomentCodes = 256;
// The codes of a block, then its scale in float32. What is beyond the last number has the code 0.
constexpr int kMomentBlockBytes = kMomentBlock + 4;

HOST_DEVICE constexpr int64_t MomentBlocks(int64_t count) { return (count + kMomentBlock - 1) / kMomentBlock; }
HOST_DEVICE constexpr int64_t MomentBytes(int64_t count) { return MomentBlocks(count) * kMomentBlockBytes; }

// Between a code's value and the next one's: half of their sum, rounded.
HOST_DEVICE inline float MomentMiddle(const float* table, int code) { return (table[code] + table[code + 1]) * 0.5f; }

// The code whose value is nearest to number / scale, of two at the same distance the lower; middle(code) is that of a
// table whose values ascend. A second moment that is not 0 does not become 0, as it can in bitsandbytes: the step of
// its parameter would be without a bound.
template <typename Middle>
HOST_DEVICE inline int MomentCode(float number, float scale, Middle middle) {
  const float ratio = number / scale;
  int code = 0;
#if defined(__CUDACC_RTC__)
#pragma unroll
#else
#pragma GCC unroll 8
#endif
  for (int bit = 7; bit >= 0; bit--) code += (middle(code + (1 << bit) - 1) < ratio) << bit;
  return code == 0 && number > 0 ? 1 : code;
}
