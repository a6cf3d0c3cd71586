// Rows of weights in 4 and 8 bits, decoded.
#include <algorithm>

#include "cpu/parallel.h"
#include "ops/quantized/packed_operands.h"

namespace lorasmith {
namespace {

constexpr int64_t kNumbersPerThread = 1 << 15;

// → [count, columns]
template <typename Form, typename Number>
struct Dequantize {
  explicit Dequantize(const Attributes& attributes) : form(attributes) {}

  void Compute(Context& context) const {
    const auto [matrix, first, count] = DequantizeInputs(context, form);
    if (context.failed()) return;
    Number* result = context.Output<Number>(0, {count, matrix.columns});
    if (context.failed()) return;
    const int64_t grain = std::max<int64_t>(1, kNumbersPerThread / matrix.columns);
    ParallelRanges(count, grain, [&, &matrix = matrix, first = first](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        Number* to = result + row * matrix.columns;
        matrix.DecodeRow(first + row, [to](float value, int64_t i) { Store(value, to + i); });
      }
    });
  }

  Form form;
};

template <typename Number>
using OfQuantized = Dequantize<QuantizedForm, Number>;
template <typename Number>
using OfScaled = Dequantize<ScaledForm, Number>;
template <typename Number>
using OfMxfp4 = Dequantize<Mxfp4Form, Number>;

}  // namespace

std::vector<OpDefinition> DequantizeOps() {
  return {{"LorasmithDequantize",
           {"codes: uint8", "scales: uint8", "nested_scales: float", "modules: float", "range: int32"},
           {"result: T"},
           {},
           CpuKernels<OfQuantized>()},
          {"LorasmithDequantizeScaled",
           {"codes: uint8", "scales: float", "bands: int32", "range: int32"},
           {"result: T"},
           {"block_shift: int"},
           CpuKernels<OfScaled>()},
          {"LorasmithDequantizeMxfp4",
           {"codes: uint8", "scales: uint8", "range: int32"},
           {"result: T"},
           {},
           CpuKernels<OfMxfp4>()}};
}

}  // namespace lorasmith
