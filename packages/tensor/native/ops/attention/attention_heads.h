// What every attention op on a GPU asks of its heads, and the kernels that it has for them.
#pragma once

#include "cuda/host/launch.h"
#include "ops/attention/attention_operands.h"
#include "ops/attention/attention_shape.h"

namespace lorasmith::cuda {

// The kernels for the smallest size that holds a head; null, and a failure, if there are none.
template <typename Kernels, size_t kCount>
const Kernels* KernelsFor(Context& context, const Kernels (&all)[kCount], int64_t head_dim) {
  if (!context.Check(head_dim % 4 == 0, "on a GPU, the size of a head must be divisible by 4")) return nullptr;
  for (const Kernels& kernels : all)
    if (head_dim <= kernels.head_size) return &kernels;
  context.Check(false, "on a GPU, a head has at most 512 numbers");
  return nullptr;
}

// The shape of a pass over some rows, as kernels take it.
inline AttentionShape ShapeOf(const AttentionAttributes& attributes, int64_t tokens, int64_t rows, int64_t head_dim) {
  return {tokens,
          static_cast<int>(rows),
          static_cast<int>(attributes.heads),
          static_cast<int>(attributes.key_value_heads),
          static_cast<int>(head_dim),
          static_cast<int>(std::min<int64_t>(attributes.window, INT32_MAX)),
          attributes.scale,
          attributes.softcap};
}

}  // namespace lorasmith::cuda
