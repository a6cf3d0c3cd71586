// Attributes, inputs and outputs of LorasmithMergedWeight, on every device.
#pragma once

#include <vector>

#include "cpu/kernel.h"
#include "ops/lora/lora_layout.h"

namespace lorasmith {

// base [out, in], parameters [all], tokens [token_count, in] → weight [out, in], output [token_count, out], norms
// [layers, 3]. `stored`: the dtype of each layer in the base's files.
template <typename Base, typename Result>
struct MergedWeightOperands {
  MergedWeightOperands(Context& context, const LoraLayout& layout, const std::vector<int64_t>& stored)
      : base(context.Input<Base>(0)), tokens(context.Input<float>(2)), token_count(context.Dim(2, 0)) {
    const float* all = context.Input<float>(1);
    if (!context.Check(layout.IsValid(), "the layers must lie in the group, in their order")) return;
    if (!context.Check(layout.offset + layout.numbers <= context.Size(1), "the group must lie in the parameters")) {
      return;
    }
    if (!context.Check(context.Size(0) == layout.out * layout.in, "the weight must be that of the group")) return;
    if (!context.Check(context.Size(2) == token_count * layout.in, "the tokens must be the group's input")) return;
    if (!context.Check(stored.size() == layout.ranks.size(), "each layer must have the dtype of its file")) return;
    for (int64_t dtype : stored) {
      const bool is_known = dtype == TF_FLOAT || dtype == TF_HALF || dtype == TF_BFLOAT16;
      const bool is_held = std::is_same_v<Result, float> || dtype == TF_BFLOAT16;
      if (!context.Check(is_known && is_held, "the result must hold the numbers of the files")) return;
    }
    parameters = all + layout.offset;
    weight = context.Output<Result>(0, {layout.out, layout.in});
    output = context.Output<float>(1, {token_count, layout.out});
    norms = context.Output<float>(2, {static_cast<int64_t>(stored.size()), 3});
  }

  const Base* base;
  const float* tokens;
  int64_t token_count;
  // The group's own.
  const float* parameters = nullptr;
  Result* weight = nullptr;
  float* output = nullptr;
  float* norms = nullptr;
};

// Calls use(layer, first_row, rows) for the rows of each layer of a group, and with layer -1 for those of none.
template <typename Use>
void ForEachPart(const LoraLayout& layout, const Use& use) {
  int64_t next = 0;
  const auto until = [&](int64_t end, int64_t layer) {
    if (next < end) use(layer, next, end - next);
    next = end;
  };
  for (size_t layer = 0; layer < layout.ranks.size(); layer++) {
    until(layout.first_rows[layer], -1);
    until(layout.first_rows[layer] + layout.rows[layer], static_cast<int64_t>(layer));
  }
  until(layout.out, -1);
}

// Of a layer: A [rank, in] and B [rows, rank].
struct LayerMatrices {
  const float* a;
  const float* b;
};

// Of a group's own parameters: all A, then all B.
inline std::vector<LayerMatrices> MatricesOf(const LoraLayout& layout, const float* parameters) {
  std::vector<LayerMatrices> matrices;
  const float* b = parameters + layout.total_rank * layout.in;
  for (size_t layer = 0; layer < layout.ranks.size(); layer++) {
    matrices.push_back({parameters, b});
    parameters += layout.ranks[layer] * layout.in;
    b += layout.rows[layer] * layout.ranks[layer];
  }
  return matrices;
}

}  // namespace lorasmith
