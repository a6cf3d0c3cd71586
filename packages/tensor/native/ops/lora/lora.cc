// Between the vector of all parameters and the matrices that LoRA's products use (Hu et al. 2021, arXiv:2106.09685).
#include <algorithm>

#include "cpu/kernel.h"
#include "cpu/parallel.h"
#include "ops/lora/lora_layout.h"

namespace lorasmith {
namespace {

constexpr int64_t kNumbersPerPiece = 1 << 15;

template <typename Number>
void Convert(const float* from, int64_t count, Number* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) Store(from[i], to + i);
}

template <typename Number>
void Convert(const Number* from, int64_t count, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) to[i] = ToFloat(from[i]);
}

inline void Convert(const float* from, int64_t count, float* to) { std::copy(from, from + count, to); }

int64_t RowsPerPiece(int64_t width) { return std::max<int64_t>(1, kNumbersPerPiece / std::max<int64_t>(1, width)); }

template <typename Number>
struct LoraWeights {
  explicit LoraWeights(const Attributes& attributes) : layout(attributes) {}

  void Compute(Context& context) const {
    const LoraWeightsOperands<Number> o(context, layout);
    if (context.failed()) return;
    const float* from = o.parameters;
    Number* scaled_b = o.scaled_b;
    ParallelRanges(layout.total_rank * layout.in, kNumbersPerPiece,
                   [&](int64_t begin, int64_t end) { Convert(from + begin, end - begin, o.a + begin); });
    from += layout.total_rank * layout.in;
    Number zero;
    Store(0.0f, &zero);
    int64_t row = 0;
    int64_t column = 0;
    for (size_t layer = 0; layer < layout.ranks.size(); layer++) {
      const int64_t first = layout.first_rows[layer];
      std::fill(scaled_b + row * layout.total_rank, scaled_b + first * layout.total_rank, zero);
      Place(from, layer, column, zero, scaled_b + first * layout.total_rank);
      from += layout.rows[layer] * layout.ranks[layer];
      row = first + layout.rows[layer];
      column += layout.ranks[layer];
    }
    std::fill(scaled_b + row * layout.total_rank, scaled_b + layout.out * layout.total_rank, zero);
  }

 private:
  // b [rows, rank] → rows of [out, sum of rank]
  void Place(const float* b, size_t layer, int64_t column, Number zero, Number* to) const {
    const int64_t rank = layout.ranks[layer];
    const int64_t width = layout.total_rank;
    const float scale = layout.scales[layer];
    ParallelRanges(layout.rows[layer], RowsPerPiece(width), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        Number* place = to + row * width;
        std::fill(place, place + column, zero);
        for (int64_t i = 0; i < rank; i++) Store(b[row * rank + i] * scale, place + column + i);
        std::fill(place + column + rank, place + width, zero);
      }
    });
  }

  LoraLayout layout;
};

template <typename Number>
struct LoraGradient {
  explicit LoraGradient(const Attributes& attributes) : layout(attributes) {}

  void Compute(Context& context) const {
    const LoraGradientOperands<Number> o(context, layout);
    if (context.failed()) return;
    const int64_t a_size = layout.total_rank * layout.in;
    ParallelRanges(a_size, kNumbersPerPiece,
                   [&](int64_t begin, int64_t end) { Convert(o.by_a + begin, end - begin, o.gradient + begin); });
    float* to = o.gradient + a_size;
    int64_t column = 0;
    for (size_t layer = 0; layer < layout.ranks.size(); layer++) {
      Take(o.by_scaled_b + layout.first_rows[layer] * layout.total_rank + column, layer, to);
      to += layout.rows[layer] * layout.ranks[layer];
      column += layout.ranks[layer];
    }
  }

 private:
  // Columns of rows of [out, sum of rank] → [rows, rank]
  void Take(const Number* from, size_t layer, float* to) const {
    const int64_t rank = layout.ranks[layer];
    const int64_t width = layout.total_rank;
    const float scale = layout.scales[layer];
    ParallelRanges(layout.rows[layer], RowsPerPiece(width), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        for (int64_t i = 0; i < rank; i++) to[row * rank + i] = ToFloat(from[row * width + i]) * scale;
      }
    });
  }

  LoraLayout layout;
};

}  // namespace

std::vector<OpDefinition> LoraOps() {
  return {
      {"LorasmithLoraWeights",
       {"parameters: float"},
       {"a: T", "scaled_b: T"},
       LoraLayout::AttributeNames(),
       CpuKernels<LoraWeights>()},
      {"LorasmithLoraGradient",
       {"by_a: T", "by_scaled_b: T"},
       {"gradient: float"},
       LoraLayout::AttributeNames(),
       CpuKernels<LoraGradient>()},
  };
}

}  // namespace lorasmith
