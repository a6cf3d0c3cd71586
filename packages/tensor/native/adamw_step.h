// The numbers of one AdamW step, in the order in which the input `step` has them.
#pragma once

#include <cstdint>

namespace lorasmith {

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

  static constexpr int64_t kCount = 11;
};

static_assert(sizeof(AdamWStep) == AdamWStep::kCount * sizeof(float), "the input is read as this struct");

}  // namespace lorasmith
