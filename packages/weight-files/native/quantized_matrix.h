// Weights in 4 bits as bitsandbytes stores them: number i is values[code i] · scale of its block of 64. With double
// quantization, a scale is values[code] · scale of its block of 256 scales + offset. Each step is rounded to float32.
// packages/tensor includes it, too.
#pragma once

#include <cstdint>
#include <cstring>

namespace lorasmith {

constexpr int64_t kQuantizedBlock = 64;
constexpr int64_t kNestedBlock = 256;

// What is particular to one of the weights that lie below each other: MODULE_NUMBERS of packages/tensor's quantized.ts.
struct QuantizedModule {
  static constexpr int64_t kValues = 3;
  static constexpr int64_t kNestedValues = kValues + 16;
  static constexpr int64_t kNumbers = kNestedValues + 256;

  explicit QuantizedModule(const float* numbers) : numbers(numbers) {}

  int64_t FirstRow() const { return static_cast<int64_t>(numbers[0]); }
  int64_t FirstNested() const { return static_cast<int64_t>(numbers[1]); }
  const float* Values() const { return numbers + kValues; }

  const float* numbers;
};

// [rows, columns]
struct QuantizedMatrix {
  const uint8_t* codes;        // two in a byte, the first in the upper half
  const uint8_t* scales;       // codes of 8 bits, or the bytes of float32
  const float* nested_scales;  // null without double quantization
  const float* modules;        // QuantizedModule::kNumbers each
  int64_t module_count;
  int64_t rows;
  int64_t columns;

  QuantizedModule ModuleOf(int64_t row) const {
    const auto module = [this](int64_t index) { return QuantizedModule(modules + index * QuantizedModule::kNumbers); };
    // Those of the experts of a layer are hundreds.
    int64_t first = 0, count = module_count;
    while (count > 1) {
      const int64_t half = count / 2;
      if (module(first + half).FirstRow() <= row) {
        first += half;
        count -= half;
      } else {
        count = half;
      }
    }
    return module(first);
  }

  // The scale of a block of the whole matrix that is in this module.
  float Scale(const QuantizedModule& module, int64_t block) const {
    if (nested_scales == nullptr) {
      float scale;
      std::memcpy(&scale, scales + block * 4, sizeof scale);
      return scale;
    }
    const int64_t first_block = module.FirstRow() * columns / kQuantizedBlock;
    const float nested = nested_scales[module.FirstNested() + (block - first_block) / kNestedBlock];
    // A compiler that may fuse a product with a sum must not do so here.
    const volatile float product = module.numbers[QuantizedModule::kNestedValues + scales[block]] * nested;
    return product + module.numbers[2];
  }

  // A row; store(value, column) takes each number.
  template <typename Store>
  void DecodeRow(int64_t row, const Store& store) const {
    Decode(ModuleOf(row), row * columns, columns, store);
  }

  // Numbers begin … begin + count - 1 of the whole matrix, all in this module; store(value, index) takes each.
  template <typename Store>
  void Decode(const QuantizedModule& module, int64_t begin, int64_t count, const Store& store) const {
    const float* values = module.Values();
    for (int64_t i = begin; i < begin + count;) {
      const int64_t block = i / kQuantizedBlock;
      const float scale = Scale(module, block);
      const int64_t block_end = (block + 1) * kQuantizedBlock;
      const int64_t end = block_end < begin + count ? block_end : begin + count;
      for (; i < end; i++) {
        const uint8_t byte = codes[i / 2];
        store(values[i % 2 == 0 ? byte >> 4 : byte & 15] * scale, i - begin);
      }
    }
  }
};

}  // namespace lorasmith
