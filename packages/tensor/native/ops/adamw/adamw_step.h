// A step of AdamW as its kernels and the host code that launches them agree on it.
#pragma once

#include "cuda/kernels/portable.h"

// The numbers of one step, in the order in which the op's input `step` has them.
struct AdamWStep {
  // What the summed gradient is multiplied with: 1 / normaliser.
  float gradient_scale;
  // The gradient is clipped to this norm; infinity: never.
  float max_norm;
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  // √(1 - β2ᵗ)
  float root_correction;
  float epsilon;
  // Learning rate / (1 - β1ᵗ)
  float step_size;
  // Learning rate · weight decay
  float decay_rate;
  // 1 - learning rate · weight decay
  float kept;
};

constexpr int kAdamWStepNumbers = 11;
static_assert(sizeof(AdamWStep) == kAdamWStepNumbers * sizeof(float), "the input is copied into it");

// AdamW's moments in 8 bits (Dettmers et al. 2021, arXiv:2110.02861), in the blocks and with the values of
// bitsandbytes. The numbers of a block share a scale: the largest magnitude among them.
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

// A square sum is divided among blocks of so many threads.
constexpr int kSquareSumThreads = 256;

// By the count of numbers alone, so that the same numbers have the same sum on every card: 16 numbers a thread, until
// there are enough blocks to fill one.
HOST_DEVICE constexpr int SquareSumBlocks(int64_t n) {
  const int64_t blocks = (n + kSquareSumThreads * 16 - 1) / (kSquareSumThreads * 16);
  return static_cast<int>(blocks < 1 ? 1 : blocks > 1024 ? 1024 : blocks);
}
