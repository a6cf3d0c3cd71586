// Where the numbers of a group of adapted layers lie.
#pragma once

#include <vector>

#include "kernel.h"

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

}  // namespace lorasmith
