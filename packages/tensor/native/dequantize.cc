// Rows of quantized weights, decoded.
#include <algorithm>

#include "parallel.h"
#include "quantized_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kNumbersPerThread = 1 << 15;

// range [4]: rows and columns of the matrix, the first row and how many → [count, columns]
template <typename Number>
struct Dequantize {
  void Compute(Context& context) const {
    const auto* range = context.Input<int32_t>(4);
    if (!context.Check(context.Size(4) == 4, "a range has four numbers")) return;
    const int64_t rows = range[0], columns = range[1], first = range[2], count = range[3];
    const QuantizedMatrix matrix = QuantizedOperand(context, 0, rows, columns);
    if (!context.Check(first >= 0 && count >= 0 && first + count <= rows, "the rows are not the matrix's")) return;
    Number* result = context.Output<Number>(0, {count, columns});
    if (context.failed()) return;
    const int64_t grain = std::max<int64_t>(1, kNumbersPerThread / columns);
    ParallelRanges(count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        Number* to = result + row * columns;
        const auto store = [&](float value, int64_t i) { Store(value, to + i); };
        matrix.Decode(matrix.ModuleOf(first + row), (first + row) * columns, columns, store);
      }
    });
  }
};

}  // namespace

std::vector<OpDefinition> DequantizeOps() {
  return {{"LorasmithDequantize",
           {"codes: uint8", "scales: uint8", "nested_scales: float", "modules: float", "range: int32"},
           {"result: T"},
           {},
           CpuKernels<Dequantize>()}};
}

}  // namespace lorasmith
