// A rectangle of weights in 4 or 8 bits, decoded to memory for a product: dequantize.cu.
#pragma once

#include <algorithm>

#include "cuda/host/launch.h"
#include "ops/quantized/packed_operands.h"
#include "ops/quantized/quantized_box.h"

namespace lorasmith::cuda {

constexpr unsigned kDecodeThreads = 256;
constexpr int64_t kMostDecodeBlocks = 1 << 16;

struct DecodedPart {
  int64_t first_row;
  int64_t rows;
  int64_t first_column;
  int64_t width;
  // Numbers from a row of the memory to the next; 0: the width.
  int64_t pitch = 0;

  // Blocks of threads that each decode one number, or several.
  int64_t Blocks(bool whole) const {
    return std::min(kMostDecodeBlocks, DivideUp(rows * width / (whole ? kDecodedAtOnce : 1), kDecodeThreads));
  }
  bool IsWhole() const {
    return first_column % kDecodedAtOnce == 0 && width % kDecodedAtOnce == 0 && pitch % kDecodedAtOnce == 0;
  }
};

// → [rows, pitch], of which the first `width` columns are written.
template <typename Number>
void DecodePart(Context& context, const QuantizedMatrix& matrix, const DecodedPart& part, Number* result);
template <typename Number>
void DecodePart(Context& context, const ScaledMatrix& matrix, const DecodedPart& part, Number* result);

}  // namespace lorasmith::cuda
