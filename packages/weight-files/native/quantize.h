// Quantizes weights to NF4 with double quantization as bitsandbytes 0.50.2 does on a processor (Dettmers et al. 2023,
// arXiv:2305.14314), bit for bit but for the offset of the scales: bitsandbytes has the mean as PyTorch sums it, in an
// order that depends on the processor; here it is the exact mean, rounded. See quantized_matrix.h for what is made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stored_dtype.h"

namespace lorasmith {

// What the 16 codes of a number stand for, and the 256 of a scale.
const float* Nf4Values();
const float* ScaleValues();

// The 256 values of the same dynamic type without a sign, which has a finer fraction in its place.
const float* UnsignedValues();

// Quantizes `count` numbers, the first of which begins a block; a short block is the last of the weight. Two codes are
// a byte, the first in the upper half. The scale of a block with a number that is not finite is not finite. An
// implementation for each instruction set that this processor has, best first; all make the same bytes.
struct Quantizer {
  std::string instructions;
  void (*quantize)(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales);
};
const std::vector<Quantizer>& Quantizers();

// By the best of them.
void QuantizeNumbers(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales);

// The offset of the `count` scales of a weight: their mean.
float OffsetOf(const float* scales, int64_t count);

// Quantizes the scales of a weight.
void QuantizeScales(const float* scales, int64_t count, float offset, uint8_t* codes, float* nested_scales);

}  // namespace lorasmith
