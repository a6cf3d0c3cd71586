// Weights in 4 and 8 bits, decoded.
#include "../kernels/quantized_box.h"
#include "guarded.h"

using namespace kernel_test;

namespace {

// Modules that lie below each other, with random codes and scales.
struct Weights {
  Weights(const std::vector<int64_t>& rows_of_each, int64_t columns, bool nested)
      : columns(columns),
        modules(static_cast<int64_t>(rows_of_each.size()) * kModuleNumbers),
        codes((Sum(rows_of_each) * columns + 1) / 2),
        scales((Sum(rows_of_each) * columns + 63) / 64 * (nested ? 1 : 4)),
        nested_scales(1 + Sum(rows_of_each) * columns / 64 / 256 + static_cast<int64_t>(rows_of_each.size())),
        is_nested(nested) {
    modules.FillRandom(), nested_scales.FillRandom();
    int64_t first_row = 0, first_nested = 0;
    for (size_t i = 0; i < rows_of_each.size(); i++) {
      float* module = modules.data() + i * kModuleNumbers;
      module[0] = static_cast<float>(first_row), module[1] = static_cast<float>(first_nested);
      first_row += rows_of_each[i];
      first_nested += ((rows_of_each[i] * columns + 63) / 64 + 255) / 256;
    }
    rows = first_row;
    for (int64_t i = 0; i < codes.size(); i++) codes[i] = static_cast<uint8_t>((Random() + 1) * 127.9f);
    if (nested) {
      for (int64_t i = 0; i < scales.size(); i++) scales[i] = static_cast<uint8_t>((Random() + 1) * 127.9f);
    } else {
      for (int64_t i = 0; i < scales.size() / 4; i++) {
        const float scale = Random();
        memcpy(scales.data() + 4 * i, &scale, sizeof scale);
      }
    }
  }

  static int64_t Sum(const std::vector<int64_t>& numbers) {
    int64_t sum = 0;
    for (int64_t number : numbers) sum += number;
    return sum;
  }

  float At(int64_t row, int64_t column) {
    float* module = modules.data();
    for (int64_t i = 1; i < modules.size() / kModuleNumbers; i++) {
      if (static_cast<float>(row) >= modules[i * kModuleNumbers]) module = modules.data() + i * kModuleNumbers;
    }
    const int64_t at = row * columns + column, block = at / 64;
    const int code = at % 2 == 0 ? codes[at / 2] >> 4 : codes[at / 2] & 15;
    float scale;
    if (is_nested) {
      const int64_t in_module = block - static_cast<int64_t>(module[0]) * columns / 64;
      const volatile float product = module[kModuleNestedValues + scales[block]] *
                                     nested_scales[static_cast<int64_t>(module[1]) + in_module / 256];
      scale = product + module[2];
    } else {
      memcpy(&scale, scales.data() + 4 * block, sizeof scale);
    }
    return module[kModuleValues + code] * scale;
  }

  int64_t rows = 0;
  int64_t columns;
  Memory<float> modules;
  Memory<uint8_t> codes;
  Memory<uint8_t> scales;
  Memory<float> nested_scales;
  bool is_nested;
};

template <typename T>
void TestBox(Weights& weights, const QuantizedBox& box) {
  Memory<T> result(box.rows * box.width);
  Launch("Dequantize" + kTypeName<T>, GridOf(box.rows * box.width), 256, 0,
         static_cast<const uint8_t*>(weights.codes.data()), static_cast<const uint8_t*>(weights.scales.data()),
         static_cast<const float*>(weights.is_nested ? weights.nested_scales.data() : nullptr),
         static_cast<const float*>(weights.modules.data()), box, result.data());
  for (int64_t row = 0; row < box.rows; row++) {
    for (int64_t column = 0; column < box.width; column++) {
      T expected;
      Store(weights.At(box.first_row + row, box.first_column + column), &expected);
      Expect(memcmp(&expected, &result[row * box.width + column], sizeof(T)) == 0,
             "decoded weights" + NameOf({box.rows, box.width}));
    }
  }
}

template <typename T>
void TestDequantize() {
  for (bool nested : {false, true}) {
    // The second module has three blocks of scales.
    Weights stacked({5, 260, 2}, 128, nested);
    for (int whole : {0, 1}) {
      TestBox<T>(stacked, {128, 0, stacked.rows, 0, 128, 3, whole});
      TestBox<T>(stacked, {128, 4, 3, 64, 64, 3, whole});
      TestBox<T>(stacked, {128, 264, 3, 8, 40, 3, whole});
    }
    // Blocks cross rows, and the last one is short.
    Weights narrow({7}, 37, nested);
    TestBox<T>(narrow, {37, 0, 7, 0, 37, 1, 0});
    TestBox<T>(narrow, {37, 3, 2, 4, 20, 1, 0});
  }
}

// What a byte of E4M3 stands for, by its definition.
float E4M3(int byte) {
  const int exponent = byte >> 3 & 15, mantissa = byte & 7;
  if ((byte & 127) == 127) return NAN;
  const float size = exponent == 0 ? ldexpf(static_cast<float>(mantissa), -9)
                                   : ldexpf(static_cast<float>(8 + mantissa), exponent - 10);
  return byte < 128 ? size : -size;
}

// A rectangle of weights that have all bytes, and bands of two rows.
template <typename T>
void TestScaledBox(ScaledBox box, int64_t all_rows) {
  box.across = ((box.columns - 1) >> box.block_shift) + 1;
  Memory<uint8_t> codes(all_rows * box.columns);
  for (int64_t i = 0; i < codes.size(); i++) codes[i] = static_cast<uint8_t>(i * 37);
  Memory<int32_t> bands(all_rows);
  for (int64_t row = 0; row < all_rows; row++) bands[row] = static_cast<int32_t>(row / 2);
  Memory<float> scales((all_rows + 1) / 2 * box.across);
  scales.FillRandom();
  Memory<T> result(box.rows * box.width);
  Launch("DequantizeScaled" + kTypeName<T>, GridOf(box.rows * box.width), 256, 0,
         static_cast<const uint8_t*>(codes.data()), static_cast<const float*>(scales.data()),
         static_cast<const int32_t*>(bands.data()), box, result.data());
  for (int64_t row = 0; row < box.rows; row++) {
    for (int64_t column = 0; column < box.width; column++) {
      const int64_t of_row = box.first_row + row, of_column = box.first_column + column;
      const float number = E4M3(codes[of_row * box.columns + of_column]);
      T expected;
      Store(number * scales[of_row / 2 * box.across + (of_column >> box.block_shift)], &expected);
      const T& found = result[row * box.width + column];
      const bool is_equal =
          number != number ? ToFloat(found) != ToFloat(found) : memcmp(&expected, &found, sizeof(T)) == 0;
      Expect(is_equal, "decoded weights in 8 bits" + NameOf({box.rows, box.width}));
    }
  }
}

template <typename T>
void TestDequantizeScaled() {
  for (int whole : {0, 1}) {
    TestScaledBox<T>({128, 0, 9, 0, 128, 0, 5, whole}, 9);
    TestScaledBox<T>({136, 3, 4, 64, 72, 0, 6, whole}, 9);
    TestScaledBox<T>({136, 3, 4, 8, 120, 0, 62, whole}, 9);
  }
  TestScaledBox<T>({37, 0, 7, 0, 37, 0, 62, 0}, 7);
  TestScaledBox<T>({37, 3, 2, 4, 20, 0, 5, 0}, 7);
}

}  // namespace

KERNEL_TEST(DequantizeFloat32) { TestDequantize<float>(); }
KERNEL_TEST(DequantizeBFloat16) { TestDequantize<bf16>(); }
KERNEL_TEST(DequantizeScaledFloat32) { TestDequantizeScaled<float>(); }
KERNEL_TEST(DequantizeScaledBFloat16) { TestDequantizeScaled<bf16>(); }
