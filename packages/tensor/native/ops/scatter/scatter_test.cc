// Scatter: slices are added to the rows that their indices name, in the order of the indices.
#include "cuda/test/guarded.h"
#include "ops/scatter/scatter_shape.h"

using namespace kernel_test;

namespace {

// Result of the plain loops, with the sums in float32 and in order: each bit is known.
template <typename Number>
void ExpectScattered(const std::string& name, const Numbers<int32_t>& indices, int64_t rows, int64_t width,
                     int misaligned_by = 0) {
  const auto m = static_cast<int64_t>(indices.size());
  const Numbers<Number> updates = Randoms<Number>(m * width + misaligned_by, 2);
  const Number* from = updates.data() + misaligned_by;
  Numbers<int32_t> first = Unwritten<int32_t>(rows), next = Unwritten<int32_t>(m);
  Numbers<Number> result = Unwritten<Number>(rows * width);
  Launch("ScatterLinks", dim3(kScatterBlocks), kScatterThreads, 0, static_cast<const int32_t*>(indices.data()), m, rows,
         first.data(), next.data());
  Launch("ScatterSums" + kTypeName<Number>, dim3(static_cast<unsigned>(rows)), kScatterThreads, 0,
         static_cast<const int32_t*>(first.data()), static_cast<const int32_t*>(next.data()), from, width,
         result.data());
  Record(first), Record(next), Record(result);
  std::vector<float> sums(rows * width, 0.0f);
  for (int64_t i = 0; i < m; i++) {
    if (indices[i] < 0 || indices[i] >= rows) continue;
    for (int64_t column = 0; column < width; column++)
      sums[indices[i] * width + column] += ToFloat(from[i * width + column]);
  }
  for (int64_t i = 0; i < rows * width; i++) {
    const Number expected = Round<Number>(sums[i]);
    if (memcmp(&expected, &result[i], sizeof(Number)) != 0)
      Differs(name + ", number " + std::to_string(i), ToFloat(expected), ToFloat(result[i]));
  }
}

Numbers<int32_t> Indices(int64_t count, int32_t (*index)(int64_t i)) {
  Numbers<int32_t> indices(count);
  for (int64_t i = 0; i < count; i++) indices[i] = index(i);
  return indices;
}

template <typename Number>
void TestScatter() {
  const auto repeated = [](int64_t i) { return static_cast<int32_t>(i * 5 % 6); };
  // Row 6 has none. Several steps of a warp, the last one with a part of its lanes.
  ExpectScattered<Number>("repeated indices", Indices(533, repeated), 7, 10);
  ExpectScattered<Number>("one row in one load", Indices(40, [](int64_t) { return 1; }), 2, 64);
  ExpectScattered<Number>("vectors", Indices(70, [](int64_t i) { return static_cast<int32_t>(3 * i + i % 2); }), 211,
                          24);
  ExpectScattered<Number>("no whole vectors by their address", Indices(9, repeated), 6, 8, 1);
  ExpectScattered<Number>("a row wider than a block", Indices(1, [](int64_t) { return 1; }), 2, 1300);
  ExpectScattered<Number>("a wide row without vectors", Indices(3, [](int64_t) { return 0; }), 2, 301);
  const auto beyond = [](int64_t i) {
    return i % 4 == 3 ? -1 - static_cast<int32_t>(i) : static_cast<int32_t>(i % 4) * 5;
  };
  ExpectScattered<Number>("negative indices, and one after the last row", Indices(50, beyond), 10, 12);
  ExpectScattered<Number>("indices at the ends of int32",
                          Indices(2, [](int64_t i) { return i == 0 ? INT32_MIN : INT32_MAX; }), 3, 4);
  ExpectScattered<Number>("no index", {}, 3, 5);
}

// Each lane of a warp has rows, some of them two.
void TestManyRows() {
  constexpr int32_t kWarps = kScatterBlocks * kScatterThreads / 32;
  const int64_t m = 70, rows = 40 * kWarps;
  const Numbers<int32_t> indices = Indices(m, [](int64_t i) { return static_cast<int32_t>(i % 35) * kWarps + 3; });
  Numbers<int32_t> first(rows, 7), next = Unwritten<int32_t>(m);
  Launch("ScatterLinks", dim3(kScatterBlocks), kScatterThreads, 0, indices.data(), m, rows, first.data(), next.data());
  Record(first), Record(next);
  for (int32_t row = 0; row < rows; row++) {
    const int32_t own = row % kWarps == 3 && row / kWarps < 35 ? row / kWarps : -1;
    Expect(first[row] == own, "the first update of row " + std::to_string(row));
  }
  for (int32_t i = 0; i < m; i++) Expect(next[i] == (i < 35 ? i + 35 : -1), "the update after " + std::to_string(i));
}

}  // namespace

KERNEL_TEST(ScatterManyRows) { TestManyRows(); }
KERNEL_TEST(ScatterFloat32) { TestScatter<float>(); }
KERNEL_TEST(ScatterBFloat16) { TestScatter<bf16>(); }
