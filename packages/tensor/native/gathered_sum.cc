// Sums of rows of a matrix, each of as many rows: what experts give, back in the order of the tokens. The order of a
// sum is that of its places, so it depends on nothing else.
#include <algorithm>

#include "kernel.h"
#include "parallel.h"

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
    const int64_t rows = context.Dim(0, 0), width = context.Dim(0, 1), all = context.Size(1);
    const Number* x = context.Input<Number>(0);
    const int32_t* places = context.Input<int32_t>(1);
    if (!context.Check(count > 0 && all % count == 0, "each sum has as many places")) return;
    const bool exist = std::all_of(places, places + all, [&](int32_t row) { return row >= 0 && row < rows; });
    if (!context.Check(exist, "there is no row at one of the places")) return;
    Number* sums = context.Output<Number>(0, {all / count, width});
    if (context.failed()) return;
    ParallelRanges(all / count, kSumsPerPiece, [&](int64_t begin, int64_t end) {
      for (int64_t sum = begin; sum < end; sum++) {
        for (int64_t column = 0; column < width; column += kBlock) {
          SumBlock(x + column, width, places + sum * count, std::min(kBlock, width - column),
                   sums + sum * width + column);
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
