// Weights in 4 and 8 bits, decoded, and products of few rows with them.
#include "cuda/test/guarded.h"
#include "ops/quantized/quantized_box.h"

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

// Memory is made of bytes of 0xff, which decoding must leave beyond the width of a row.
template <typename T>
void ExpectUntouched(Memory<T>& result, int64_t row, int64_t width, int64_t pitch) {
  T untouched;
  memset(&untouched, 0xff, sizeof(T));
  for (int64_t column = width; column < pitch; column++) {
    Expect(memcmp(&untouched, &result[row * pitch + column], sizeof(T)) == 0,
           "numbers between decoded rows" + NameOf({row, column}));
  }
}

template <typename T>
void TestBox(Weights& weights, const QuantizedBox& box) {
  const int64_t pitch = box.pitch == 0 ? box.width : box.pitch;
  Memory<T> result(box.rows * pitch);
  Launch("Dequantize" + kTypeName<T>, GridOf(box.rows * box.width), 256, 0,
         static_cast<const uint8_t*>(weights.codes.data()), static_cast<const uint8_t*>(weights.scales.data()),
         static_cast<const float*>(weights.is_nested ? weights.nested_scales.data() : nullptr),
         static_cast<const float*>(weights.modules.data()), box, result.data());
  for (int64_t row = 0; row < box.rows; row++) {
    for (int64_t column = 0; column < box.width; column++) {
      T expected;
      Store(weights.At(box.first_row + row, box.first_column + column), &expected);
      Expect(memcmp(&expected, &result[row * pitch + column], sizeof(T)) == 0,
             "decoded weights" + NameOf({box.rows, box.width, pitch}));
    }
    ExpectUntouched(result, row, box.width, pitch);
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
      TestBox<T>(stacked, {128, 0, stacked.rows, 0, 128, 3, whole, 192});
      TestBox<T>(stacked, {128, 4, 3, 64, 64, 3, whole, 72});
    }
    // Blocks cross rows, and the last one is short.
    Weights narrow({7}, 37, nested);
    TestBox<T>(narrow, {37, 0, 7, 0, 37, 1, 0});
    TestBox<T>(narrow, {37, 3, 2, 4, 20, 1, 0});
    TestBox<T>(narrow, {37, 0, 7, 0, 37, 1, 0, 101});
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

// Weights with bands of two rows, which have all bytes, or all but NaN.
struct ScaledWeights {
  ScaledWeights(int64_t rows, int64_t columns, int block_shift, bool with_nan)
      : rows(rows),
        columns(columns),
        block_shift(block_shift),
        across(((columns - 1) >> block_shift) + 1),
        codes(rows * columns),
        bands(rows),
        scales((rows + 1) / 2 * across) {
    for (int64_t i = 0; i < codes.size(); i++) {
      const auto byte = static_cast<uint8_t>(i * 37);
      codes[i] = with_nan || byte % 128 != 127 ? byte : 0;
    }
    for (int64_t row = 0; row < rows; row++) bands[row] = static_cast<int32_t>(row / 2);
    scales.FillRandom();
  }

  float At(int64_t row, int64_t column) {
    return E4M3(codes[row * columns + column]) * scales[row / 2 * across + (column >> block_shift)];
  }

  int64_t rows;
  int64_t columns;
  int block_shift;
  int64_t across;
  Memory<uint8_t> codes;
  Memory<int32_t> bands;
  Memory<float> scales;
};

template <typename T>
void TestScaledBox(ScaledBox box, int64_t all_rows) {
  ScaledWeights weights(all_rows, box.columns, box.block_shift, true);
  box.across = weights.across;
  const int64_t pitch = box.pitch == 0 ? box.width : box.pitch;
  Memory<T> result(box.rows * pitch);
  Launch("DequantizeScaled" + kTypeName<T>, GridOf(box.rows * box.width), 256, 0,
         static_cast<const uint8_t*>(weights.codes.data()), static_cast<const float*>(weights.scales.data()),
         static_cast<const int32_t*>(weights.bands.data()), box, result.data());
  for (int64_t row = 0; row < box.rows; row++) {
    for (int64_t column = 0; column < box.width; column++) {
      const float number = weights.At(box.first_row + row, box.first_column + column);
      T expected;
      Store(number, &expected);
      const T& found = result[row * pitch + column];
      const bool is_equal =
          number != number ? ToFloat(found) != ToFloat(found) : memcmp(&expected, &found, sizeof(T)) == 0;
      Expect(is_equal, "decoded weights in 8 bits" + NameOf({box.rows, box.width, pitch}));
    }
    ExpectUntouched(result, row, box.width, pitch);
  }
}

template <typename T>
void TestDequantizeScaled() {
  for (int whole : {0, 1}) {
    TestScaledBox<T>({128, 0, 9, 0, 128, 0, 5, whole}, 9);
    TestScaledBox<T>({136, 3, 4, 64, 72, 0, 6, whole}, 9);
    TestScaledBox<T>({136, 3, 4, 8, 120, 0, 62, whole}, 9);
    TestScaledBox<T>({128, 0, 9, 0, 128, 0, 5, whole, 192}, 9);
    TestScaledBox<T>({136, 3, 4, 64, 72, 0, 6, whole, 136}, 9);
  }
  TestScaledBox<T>({37, 0, 7, 0, 37, 0, 62, 0}, 7);
  TestScaledBox<T>({37, 3, 2, 4, 20, 0, 5, 0}, 7);
  TestScaledBox<T>({37, 0, 7, 0, 37, 0, 62, 0, 101}, 7);
}

// Groups in the order in which one launch decodes them.
DecodedGroups GroupsOf(const std::vector<int>& numbers) {
  DecodedGroups groups{};
  for (size_t i = 0; i < numbers.size(); i++) groups.at[i] = numbers[i];
  return groups;
}

// `result` has the weights of these groups one behind the other, each with `rows` rows.
template <typename T, typename AnyWeights>
void CheckGroups(AnyWeights& weights, const std::vector<int>& numbers, int64_t rows, Memory<T>& result) {
  for (size_t i = 0; i < numbers.size(); i++) {
    for (int64_t row = 0; row < rows; row++) {
      for (int64_t column = 0; column < weights.columns; column++) {
        const float number = weights.At(numbers[i] * rows + row, column);
        T expected;
        Store(number, &expected);
        const T& found = result[(static_cast<int64_t>(i) * rows + row) * weights.columns + column];
        const bool is_equal =
            number != number ? ToFloat(found) != ToFloat(found) : memcmp(&expected, &found, sizeof(T)) == 0;
        Expect(is_equal, "decoded group " + NameOf({numbers[i], row, column}));
      }
    }
  }
}

// Groups of two modules, some of them left out, in any order.
template <typename T>
void TestDequantizeGroups() {
  const std::vector<int> numbers{3, 0, 4};
  for (bool nested : {false, true}) {
    // The second module of a group has two blocks of scales.
    std::vector<int64_t> modules;
    for (int group = 0; group < 5; group++) modules.push_back(3), modules.push_back(130);
    Weights weights(modules, 128, nested);
    const QuantizedBox first{128, 0, 133, 0, 128, 2, 1};
    Memory<T> result(static_cast<int64_t>(numbers.size()) * 133 * 128);
    Launch("DequantizeGroups" + kTypeName<T>, dim3(7, static_cast<unsigned>(numbers.size())), 256, 0,
           static_cast<const uint8_t*>(weights.codes.data()), static_cast<const uint8_t*>(weights.scales.data()),
           static_cast<const float*>(nested ? weights.nested_scales.data() : nullptr),
           static_cast<const float*>(weights.modules.data()), first, GroupsOf(numbers), result.data());
    CheckGroups(weights, numbers, 133, result);
  }
}

template <typename T>
void TestDequantizeScaledGroups() {
  const std::vector<int> numbers{1, 4, 2};
  for (const auto& [columns, shift] : {std::pair<int64_t, int>{136, 6}, {37, 5}}) {
    ScaledWeights weights(5 * 6, columns, shift, true);
    const ScaledBox first{columns, 0, 6, 0, columns, weights.across, shift, columns % 8 == 0};
    Memory<T> result(static_cast<int64_t>(numbers.size()) * 6 * columns);
    Launch("DequantizeScaledGroups" + kTypeName<T>, dim3(2, static_cast<unsigned>(numbers.size())), 256, 0,
           static_cast<const uint8_t*>(weights.codes.data()), static_cast<const float*>(weights.scales.data()),
           static_cast<const int32_t*>(weights.bands.data()), first, GroupsOf(numbers), result.data());
    CheckGroups(weights, numbers, 6, result);
  }
}

// The kernel for this number of rows, launched on the weights.
void LaunchFewRows(Weights& weights, const bf16* a, int rows, bf16* result) {
  const QuantizedBox box{weights.columns,
                         0,
                         weights.rows,
                         0,
                         weights.columns,
                         static_cast<int>(weights.modules.size() / kModuleNumbers),
                         1};
  Launch(rows > 8 ? "QuantizedFewRows16" : "QuantizedFewRows8",
         dim3(static_cast<unsigned>((weights.rows + kFewRowsTile - 1) / kFewRowsTile)), kFewRowsThreads, 0, a,
         static_cast<const uint8_t*>(weights.codes.data()), static_cast<const uint8_t*>(weights.scales.data()),
         static_cast<const float*>(weights.is_nested ? weights.nested_scales.data() : nullptr),
         static_cast<const float*>(weights.modules.data()), box, rows, result);
}

void LaunchFewRows(ScaledWeights& weights, const bf16* a, int rows, bf16* result) {
  const ScaledBox box{weights.columns, 0, weights.rows, 0, weights.columns, weights.across, weights.block_shift, 1};
  Launch(rows > 8 ? "ScaledFewRows16" : "ScaledFewRows8",
         dim3(static_cast<unsigned>((weights.rows + kFewRowsTile - 1) / kFewRowsTile)), kFewRowsThreads, 0, a,
         static_cast<const uint8_t*>(weights.codes.data()), static_cast<const float*>(weights.scales.data()),
         static_cast<const int32_t*>(weights.bands.data()), box, rows, result);
}

// a [rows, columns] times the decoded weights, each rounded to bfloat16: within the rounding of the result, and that of
// a sum in float32. A row has the same bits alone.
template <typename AnyWeights>
void TestFewRowsOf(AnyWeights& weights, int rows) {
  Memory<bf16> a(rows * weights.columns), result(rows * weights.rows);
  a.FillRandom();
  LaunchFewRows(weights, a.data(), rows, result.data());
  for (int row = 0; row < rows; row++) {
    for (int64_t of = 0; of < weights.rows; of++) {
      double expected = 0, size = 0;
      for (int64_t column = 0; column < weights.columns; column++) {
        bf16 weight;
        Store(weights.At(of, column), &weight);
        const double term = static_cast<double>(ToFloat(weight)) * ToFloat(a[row * weights.columns + column]);
        expected += term, size += std::abs(term);
      }
      const double found = ToFloat(result[row * weights.rows + of]);
      if (!Near(expected, found, kUnit<bf16>, size * kUnit<float> * 16))
        Differs("products of few rows" + NameOf({rows, weights.columns, weights.rows}), expected, found);
    }
  }
  Memory<bf16> last(weights.columns), alone(weights.rows);
  memcpy(last.data(), a.data() + (rows - 1) * weights.columns, last.bytes());
  LaunchFewRows(weights, last.data(), 1, alone.data());
  Expect(memcmp(alone.data(), result.data() + (rows - 1) * weights.rows, alone.bytes()) == 0,
         "a row has other bits beside others" + NameOf({rows, weights.columns, weights.rows}));
}

template <typename AnyWeights>
void TestFewRows(AnyWeights& weights) {
  for (int rows : {1, 8, 9, 16}) TestFewRowsOf(weights, rows);
}

// All codes at all scales, after a few blocks that are not decoded.
template <typename T>
void TestDequantizeMxfp4() {
  constexpr int64_t kBlocks = 256, kBefore = 3;
  Memory<uint8_t> codes((kBlocks + kBefore) * 16), scales(kBlocks + kBefore);
  for (int64_t i = 0; i < codes.size(); i++) codes[i] = static_cast<uint8_t>(i * 37);
  for (int64_t i = 0; i < scales.size(); i++) scales[i] = static_cast<uint8_t>(i - kBefore);
  Memory<T> result(kBlocks * 32);
  Launch("DequantizeMxfp4" + kTypeName<T>, GridOf(result.size()), 256, 0,
         static_cast<const uint8_t*>(codes.data() + kBefore * 16), static_cast<const uint8_t*>(scales.data() + kBefore),
         result.size(), result.data());
  const float sizes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (int64_t i = 0; i < result.size(); i++) {
    const int byte = codes[kBefore * 16 + i / 2], code = i % 2 == 0 ? byte & 15 : byte >> 4;
    const int exponent = scales[kBefore + i / 32];
    const float scale = exponent == 255 ? NAN : ldexpf(1, exponent - 127);
    T expected;
    Store((code < 8 ? sizes[code] : -sizes[code - 8]) * scale, &expected);
    const bool is_equal =
        exponent == 255 ? ToFloat(result[i]) != ToFloat(result[i]) : memcmp(&expected, &result[i], sizeof(T)) == 0;
    Expect(is_equal, "decoded MXFP4" + NameOf({exponent, code}));
  }
}

// Each group is decoded as it is alone.
template <typename T>
void TestDequantizeMxfp4Groups() {
  constexpr int64_t kCount = 96, kGroups = 5;
  const std::vector<int> numbers{4, 1, 2};
  Memory<uint8_t> codes(kGroups * kCount / 2), scales(kGroups * kCount / 32);
  for (int64_t i = 0; i < codes.size(); i++) codes[i] = static_cast<uint8_t>(i * 37);
  for (int64_t i = 0; i < scales.size(); i++) scales[i] = static_cast<uint8_t>(120 + i);
  Memory<T> result(static_cast<int64_t>(numbers.size()) * kCount), alone(kCount);
  const uint8_t *all_codes = codes.data(), *all_scales = scales.data();
  Launch("DequantizeMxfp4Groups" + kTypeName<T>, dim3(1, static_cast<unsigned>(numbers.size())), 256, 0, all_codes,
         all_scales, kCount, GroupsOf(numbers), result.data());
  for (size_t i = 0; i < numbers.size(); i++) {
    const int64_t first = numbers[i] * kCount;
    Launch("DequantizeMxfp4" + kTypeName<T>, dim3(1), 256, 0, all_codes + first / 2, all_scales + first / 32, kCount,
           alone.data());
    Expect(memcmp(alone.data(), result.data() + static_cast<int64_t>(i) * kCount, alone.bytes()) == 0,
           "a decoded group of MXFP4");
  }
}

}  // namespace

KERNEL_TEST(DequantizeFloat32) { TestDequantize<float>(); }
KERNEL_TEST(DequantizeBFloat16) { TestDequantize<bf16>(); }
KERNEL_TEST(DequantizeScaledFloat32) { TestDequantizeScaled<float>(); }
KERNEL_TEST(DequantizeScaledBFloat16) { TestDequantizeScaled<bf16>(); }
KERNEL_TEST(QuantizedFewRows) {
  for (bool nested : {false, true}) {
    // Parts of the depth for one more than all warps; the second module has two blocks of scales of scales.
    Weights stacked({5, 30, 2}, 576, nested);
    TestFewRows(stacked);
    Weights narrow({16}, 64, nested);
    TestFewRows(narrow);
  }
}
KERNEL_TEST(ScaledFewRows) {
  ScaledWeights stacked(37, 576, 5, false);
  TestFewRows(stacked);
  ScaledWeights whole(16, 64, 62, false);
  TestFewRows(whole);
}
KERNEL_TEST(DequantizeMxfp4Float32) { TestDequantizeMxfp4<float>(); }
KERNEL_TEST(DequantizeMxfp4BFloat16) { TestDequantizeMxfp4<bf16>(); }
KERNEL_TEST(DequantizeGroupsFloat32) { TestDequantizeGroups<float>(), TestDequantizeScaledGroups<float>(); }
KERNEL_TEST(DequantizeGroupsBFloat16) { TestDequantizeGroups<bf16>(), TestDequantizeScaledGroups<bf16>(); }
KERNEL_TEST(DequantizeMxfp4Groups) { TestDequantizeMxfp4Groups<float>(), TestDequantizeMxfp4Groups<bf16>(); }
