// Where the numbers of a group of adapted layers lie.
#pragma once

#include <vector>

#include "cpu/kernel.h"
#include "cpu/number.h"

namespace lorasmith {

// All parameters are one vector. A group's begin at `offset`: the layers' A [sum of rank, in], one below the other,
// then each layer's B [rows, rank]. Products use A [sum of rank, in] and scale * B on the diagonal of [out, sum of
// rank]: in the rows of its layer and the columns of its rank.
struct LoraLayout {
  explicit LoraLayout(const Attributes& attributes)
      : offset(attributes.Int("offset")),
        in(attributes.Int("in")),
        out(attributes.Int("out")),
        ranks(attributes.Ints("ranks")),
        rows(attributes.Ints("rows")),
        first_rows(attributes.Ints("first_rows")),
        scales(attributes.Floats("scales")) {
    for (int64_t rank : ranks) total_rank += rank;
    numbers = total_rank * in;
    for (size_t i = 0; i < ranks.size() && i < rows.size(); i++) numbers += ranks[i] * rows[i];
  }

  static std::vector<const char*> AttributeNames() {
    return {"offset: int",        "in: int", "out: int", "ranks: list(int)", "rows: list(int)", "first_rows: list(int)",
            "scales: list(float)"};
  }

  // Whether the layers lie within the group, in their order.
  bool IsValid() const {
    const size_t layers = ranks.size();
    if (offset < 0 || in < 0 || rows.size() != layers || first_rows.size() != layers || scales.size() != layers) {
      return false;
    }
    int64_t next = 0;
    for (size_t i = 0; i < layers; i++) {
      if (ranks[i] < 0 || rows[i] < 0 || first_rows[i] < next) return false;
      next = first_rows[i] + rows[i];
    }
    return next <= out;
  }

  int64_t offset;
  int64_t in;
  int64_t out;
  std::vector<int64_t> ranks;
  std::vector<int64_t> rows;
  std::vector<int64_t> first_rows;
  std::vector<float> scales;
  int64_t total_rank = 0;
  // Of the group's parameters.
  int64_t numbers = 0;
};

// parameters [all] → A [sum of rank, in] and scale * B on the diagonal of [out, sum of rank]
template <typename Number>
struct LoraWeightsOperands {
  LoraWeightsOperands(Context& context, const LoraLayout& layout) {
    const float* all = context.Input<float>(0);
    if (!context.Check(layout.IsValid(), "the layers must lie in the group, in their order")) return;
    const bool holds = layout.offset + layout.numbers <= context.Size(0);
    if (!context.Check(holds, "the group must lie in the parameters")) return;
    parameters = all + layout.offset;
    a = context.Output<Number>(0, {layout.total_rank, layout.in});
    scaled_b = context.Output<Number>(1, {layout.out, layout.total_rank});
  }

  // The group's own.
  const float* parameters = nullptr;
  Number* a = nullptr;
  Number* scaled_b = nullptr;
};

// by_a [sum of rank, in] and by_scaled_b [out, sum of rank] → the group's part of the gradient by the parameters.
// Numbers off the diagonal belong to no parameter.
template <typename Number>
struct LoraGradientOperands {
  LoraGradientOperands(Context& context, const LoraLayout& layout) {
    by_a = context.Input<Number>(0);
    by_scaled_b = context.Input<Number>(1);
    if (!context.Check(layout.IsValid(), "the layers must lie in the group, in their order")) return;
    const bool fits_a = context.Size(0) == layout.total_rank * layout.in;
    if (!context.Check(fits_a, "the gradient by A must have the shape of A")) return;
    const bool fits_b = context.Size(1) == layout.out * layout.total_rank;
    if (!context.Check(fits_b, "the gradient by B must have the shape of the scaled B")) return;
    gradient = context.Output<float>(0, {layout.numbers});
  }

  const Number* by_a;
  const Number* by_scaled_b;
  float* gradient = nullptr;
};

}  // namespace lorasmith
