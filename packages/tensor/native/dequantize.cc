// Rows of quantized weights, decoded.
#include <algorithm>

#include "parallel.h"
#include "quantized_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kNumbersPerThread = 1 << 15;

// → [count, columns]
template <typename Number>
struct Dequantize {
  void Compute(Context& context) const {
    const DequantizeOperands operands = DequantizeInputs(context);
    if (context.failed()) return;
    const QuantizedMatrix& matrix = operands.matrix;
    const int64_t first = operands.first, count = operands.count, columns = matrix.columns;
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
