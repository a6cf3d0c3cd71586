// Sums of rows of a matrix, each of as many rows: what experts give, back in the order of the tokens. The order of a
// sum is that of its places, so it depends on nothing else.
#include <algorithm>

#include "cpu/parallel.h"
#include "ops/gathered_sum/gathered_sum_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kSumsPerPiece = 8;

// Columns whose sums are in registers.
constexpr int64_t kBlock = 64;

// x [rows, width]; places [sums × count] → sums [sums, width] of the rows places[i × count] … in float32, rounded once
template <typename Number>
struct GatheredSum {
  explicit GatheredSum(const Attributes& attributes) : count(attributes.Int("count")) {}

  void Compute(Context& context) const {
    const GatheredSumOperands<Number> o(context, count);
    if (context.failed()) return;
    const bool exist =
        std::all_of(o.places, o.places + o.sums * count, [&](int32_t row) { return row >= 0 && row < o.rows; });
    if (!context.Check(exist, "there is no row at one of the places")) return;
    ParallelRanges(o.sums, kSumsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t sum = begin; sum < end; sum++) {
        for (int64_t column = 0; column < o.width; column += kBlock) {
          SumBlock(o.x + column, o.width, o.places + sum * count, std::min(kBlock, o.width - column),
                   o.result + sum * o.width + column);
        }
      }
    });
  }

  void SumBlock(const Number* x, int64_t width, const int32_t* places, int64_t columns, Number* to) const {
    float sums[kBlock] = {};
    for (int64_t i = 0; i < count; i++) {
      const Number* from = x + places[i] * width;
#pragma omp simd
      for (int64_t column = 0; column < columns; column++) sums[column] += ToFloat(from[column]);
    }
#pragma omp simd
    for (int64_t column = 0; column < columns; column++) Store(sums[column], to + column);
  }

  int64_t count;
};

}  // namespace

std::vector<OpDefinition> GatheredSumOps() {
  return {
      {"LorasmithGatheredSum", {"x: T", "places: int32"}, {"sums: T"}, {"count: int"}, CpuKernels<GatheredSum>()},
  };
}

}  // namespace lorasmith
