// The numbers of one AdamW step, in the order in which the op's input `step` has them.
#pragma once

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
