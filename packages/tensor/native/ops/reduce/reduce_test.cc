// Reductions, softmax and random numbers.
#include <array>

#include "cuda/test/guarded.h"

using namespace kernel_test;

namespace {

constexpr int64_t kPieceOfRow = 4096, kPieceOfColumn = 64;

// One reduction in as many passes as the host makes.
template <typename T>
void TestRows(bool maximum, int64_t rows, int64_t width) {
  Memory<T> x(rows * width), result(rows);
  x.FillRandom(-1, 2);
  const bool poisoned = maximum && width > 5 && rows > 1;
  if (poisoned) Store(NAN, &x[width + 3]);
  const std::string name = maximum ? "Max" : "Sum";
  const int64_t pieces = (width + kPieceOfRow - 1) / kPieceOfRow;
  const int packed = width % static_cast<int64_t>(16 / sizeof(T)) == 0;
  const float scale = maximum ? 1.0f : 0.5f;
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>((rows * pieces + 3) / 4, 5)));
  if (pieces <= 1) {
    Run128(name + kTypeName<T> + "Rows", grid, x.data(), rows, width, kPieceOfRow, scale, packed, result.data());
  } else {
    Memory<float> partial(rows * pieces);
    const std::string first = sizeof(T) == 2 ? name + "BFloat16ToFloat32Rows" : name + "Float32Rows";
    const std::string last = sizeof(T) == 2 ? name + "Float32ToBFloat16Rows" : name + "Float32Rows";
    Run128(first, grid, x.data(), rows, width, kPieceOfRow, 1.0f, packed, partial.data());
    Run128(last, dim3(2), partial.data(), rows, pieces, kPieceOfRow, scale, 0, result.data());
  }
  for (int64_t row = 0; row < rows; row++) {
    double expected = maximum ? -INFINITY : 0, size = 0;
    for (int64_t i = 0; i < width; i++) {
      const double value = ToFloat(x[row * width + i]);
      expected = maximum ? (value > expected || std::isnan(value) ? value : expected) : expected + value * scale;
      size += std::abs(value);
    }
    const double found = ToFloat(result[row]);
    if (!Near(expected, found, kUnit<T>, maximum ? 0 : size * 2e-6)) {
      Differs(name + kTypeName<T> + NameOf({rows, width}) + " row " + std::to_string(row), expected, found);
    }
  }
}

template <typename T>
void TestColumns(int64_t outer, int64_t reduced, int64_t inner) {
  Memory<T> x(outer * reduced * inner), result(outer * inner);
  x.FillRandom();
  const int64_t pieces = (reduced + kPieceOfColumn - 1) / kPieceOfColumn;
  if (pieces <= 1) {
    Run128("Sum" + kTypeName<T> + "Columns", dim3(3), x.data(), outer, reduced, inner, kPieceOfColumn, 1.0f,
           result.data());
  } else {
    Memory<float> partial(outer * pieces * inner);
    const std::string first = sizeof(T) == 2 ? "SumBFloat16ToFloat32Columns" : "SumFloat32Columns";
    const std::string last = sizeof(T) == 2 ? "SumFloat32ToBFloat16Columns" : "SumFloat32Columns";
    Run128(first, dim3(3), x.data(), outer, reduced, inner, kPieceOfColumn, 1.0f, partial.data());
    Run128(last, dim3(1), partial.data(), outer, pieces, inner, kPieceOfColumn, 1.0f, result.data());
  }
  for (int64_t i = 0; i < outer * inner; i++) {
    double expected = 0;
    for (int64_t k = 0; k < reduced; k++) expected += ToFloat(x[(i / inner * reduced + k) * inner + i % inner]);
    if (!Near(expected, ToFloat(result[i]), kUnit<T>, 1e-4)) {
      Differs("sum of columns " + NameOf({outer, reduced, inner}), expected, ToFloat(result[i]));
    }
  }
}

template <typename T>
void TestArgMax() {
  for (int64_t width : {1, 2, 31, 128, 1000}) {
    const int64_t rows = 3;
    Memory<T> x(rows * width);
    Memory<int32_t> result(rows);
    x.FillRandom(-9, -1);
    const int64_t best = width * 2 / 3;
    Store(-0.5f, &x[best]);
    if (best + 1 < width) Store(-0.5f, &x[best + 1]);  // the first of equal ones
    for (int64_t i = 0; i < width; i++) Store(-INFINITY, &x[width + i]);
    if (width > 2) Store(NAN, &x[2 * width]);
    Run128("ArgMax" + kTypeName<T>, dim3(3), x.data(), width, result.data());
    Expect(result[0] == best, "arg max of " + std::to_string(width) + ": " + std::to_string(result[0]));
    Expect(result[1] == 0, "arg max where all are -infinity");
    Expect(result[2] >= (width > 2) && result[2] < width, "arg max beside a NaN");
  }
}

template <typename T>
void TestSoftmax() {
  for (auto [width, threads] : {std::pair<int64_t, unsigned>{1, 32}, {5, 32}, {100, 32}, {257, 256}, {3000, 256}}) {
    const int64_t rows = 3;
    Memory<T> x(rows * width), result(rows * width);
    x.FillRandom(-30, 30);
    if (width > 4) Store(-INFINITY, &x[3]), Store(NAN, &x[width * 2]);
    Launch("Softmax" + kTypeName<T>, dim3(rows), threads, 0, x.data(), width, result.data());
    for (int64_t row = 0; row < rows * width; row += width) {
      double greatest = -INFINITY, sum = 0;
      for (int64_t i = row; i < row + width; i++) greatest = std::max<double>(greatest, ToFloat(x[i]));
      for (int64_t i = row; i < row + width; i++) sum += std::exp(ToFloat(x[i]) - greatest);
      for (int64_t i = row; i < row + width; i++) {
        const double expected = std::exp(ToFloat(x[i]) - greatest) / sum;
        if (!Near(expected, ToFloat(result[i]), sizeof(T) == 2 ? kUnit<T> : 3e-6, 1e-37)) {
          Differs("softmax of " + std::to_string(width), expected, ToFloat(result[i]));
        }
      }
    }
  }
}

void TestRandom() {
  const int64_t size = 100'003;
  Memory<float> once(size), twice(size);
  Run128("RandomUniformFloat32", dim3(3), uint64_t{42}, uint64_t{7}, size, once.data());
  Run128("RandomUniformFloat32", dim3(50), uint64_t{42}, uint64_t{7}, size, twice.data());
  Expect(memcmp(once.data(), twice.data(), once.bytes()) == 0, "random numbers depend on the grid");
  double sum = 0;
  for (int64_t i = 0; i < size; i++) {
    Expect(once[i] >= 0 && once[i] < 1, "a random number is outside [0, 1)");
    sum += once[i];
  }
  if (!Near(0.5, sum / size, 0.01)) Differs("the mean of random numbers", 0.5, sum / size);
}

template <typename T>
void TestReductions() {
  for (bool maximum : {false, true}) {
    for (auto [rows, width] : {std::array<int64_t, 2>{1, 1}, {3, 5}, {50, 64}, {2, 4096}, {2, 4097}, {1, 20'000}}) {
      TestRows<T>(maximum, rows, width);
    }
  }
  for (auto [outer, reduced, inner] : {std::array<int64_t, 3>{1, 1, 2}, {3, 64, 5}, {2, 65, 3}, {1, 1000, 7}}) {
    TestColumns<T>(outer, reduced, inner);
  }
  TestArgMax<T>();
}

}  // namespace

KERNEL_TEST(ReductionsFloat32) { TestReductions<float>(); }
KERNEL_TEST(ReductionsBFloat16) { TestReductions<bf16>(); }
KERNEL_TEST(SoftmaxFloat32) { TestSoftmax<float>(); }
KERNEL_TEST(SoftmaxBFloat16) { TestSoftmax<bf16>(); }
KERNEL_TEST(RandomNumbers) { TestRandom(); }
