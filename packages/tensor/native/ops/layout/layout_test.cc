// What moves elements: copies along strides, transpose and gather.
#include <array>

#include "cuda/host/strides.h"
#include "cuda/kernels/strided.cuh"
#include "cuda/test/guarded.h"

using namespace kernel_test;
using lorasmith::Shape;

namespace {

// Copies `from` to `to` along strides, with elements as wide as fits.
template <typename T>
void TestCopy(const Shape& axes, const Shape& from_strides, int64_t from_offset, const Shape& to_strides,
              int64_t to_offset, int64_t from_size, int64_t to_size) {
  Memory<T> from(from_size), to(to_size), expected(to_size);
  for (int64_t i = 0; i < from_size; i++) memset(&from[i], static_cast<int>(i * 37 + 1) & 0xff, sizeof(T));
  const Shape own = lorasmith::StridesOf(axes);
  for (int64_t i = 0; i < lorasmith::SizeOf(axes); i++) {
    int64_t read = from_offset, written = to_offset;
    for (size_t axis = 0; axis < axes.size(); axis++) {
      const int64_t at = i / own[axis] % axes[axis];
      read += at * from_strides[axis], written += at * to_strides[axis];
    }
    expected[written] = from[read];
  }
  StridedPair box;
  Expect(lorasmith::JoinAxes(axes, from_strides, to_strides, &box), "axes");
  const auto* read = from.data() + from_offset;
  auto* written = to.data() + to_offset;
  const int bytes =
      lorasmith::WidenElements(sizeof(T), reinterpret_cast<uint64_t>(read) | reinterpret_cast<uint64_t>(written), &box);
  const auto copy = [&](auto element) {
    using Element = decltype(element);
    Run128("Copy" + std::to_string(bytes), GridOf(box.size), reinterpret_cast<const Element*>(read),
           reinterpret_cast<Element*>(written), box);
  };
  if (bytes == 1) copy(uint8_t());
  if (bytes == 2) copy(uint16_t());
  if (bytes == 4) copy(uint32_t());
  if (bytes == 8) copy(uint64_t());
  if (bytes == 16) copy(uint4());
  Expect(memcmp(to.data(), expected.data(), to.bytes()) == 0,
         "copy of " + NameOf(axes) + " by " + std::to_string(bytes));
}

template <typename T>
void TestCopies() {
  // transposed
  TestCopy<T>({3, 5, 4, 8}, {160, 8, 40, 1}, 0, {160, 32, 8, 1}, 0, 480, 480);
  TestCopy<T>({7, 9}, {1, 7}, 0, {9, 1}, 0, 63, 63);
  // a slice of the last axis, at an odd place; joined into a wider tensor
  TestCopy<T>({6, 5}, {16, 1}, 3, {5, 1}, 0, 96, 30);
  TestCopy<T>({6, 8}, {16, 1}, 8, {8, 1}, 0, 96, 48);
  TestCopy<T>({6, 8}, {8, 1}, 0, {24, 1}, 16, 48, 144);
  // one element, and a repeated one
  TestCopy<T>({}, {}, 0, {}, 0, 1, 1);
  TestCopy<T>({4, 3}, {0, 1}, 0, {3, 1}, 0, 3, 12);
}

template <typename T>
void TestTranspose(int bytes) {
  for (auto [count, rows, columns] :
       {std::array<int64_t, 3>{1, 1, 1}, {2, 33, 31}, {1, 64, 32}, {1, 5, 200}, {2, 200, 5}}) {
    Memory<T> from(count * rows * columns), to(count * rows * columns);
    for (int64_t i = 0; i < from.size(); i++) memset(&from[i], static_cast<int>(i * 11 + i / 7) & 0xff, sizeof(T));
    const dim3 grid(static_cast<unsigned>((columns + 31) / 32), 2, static_cast<unsigned>(count));
    Run128("Transpose" + std::to_string(bytes), grid, from.data(), to.data(), rows, columns);
    for (int64_t i = 0; i < from.size(); i++) {
      const int64_t matrix = i / (rows * columns), row = i / columns % rows, column = i % columns;
      if (memcmp(&from[i], &to[matrix * rows * columns + column * rows + row], sizeof(T)) == 0) continue;
      Fail("transpose " + NameOf({count, rows, columns}));
    }
  }
}

void TestGather() {
  const int64_t n = 7, m = 300, width = 10;
  Memory<float> x(n * width), gathered(m * width);
  Memory<int32_t> indices(m);
  x.FillRandom();
  for (int64_t i = 0; i < m; i++) indices[i] = static_cast<int32_t>(i * 5 % 6);  // none has row 6
  indices[17] = -1, indices[18] = 7;
  Run128("Gather4", GridOf(m * width), x.data(), indices.data(), n, m, width, gathered.data());
  for (int64_t i = 0; i < m * width; i++) {
    const int64_t row = i / width;
    const bool fits =
        row == 17 || row == 18 ? std::isnan(gathered[i]) : gathered[i] == x[indices[row] * width + i % width];
    if (!fits) Fail("gather " + std::to_string(i));
  }
}

}  // namespace

KERNEL_TEST(Copies) {
  TestCopies<uint8_t>();
  TestCopies<bf16>();
  TestCopies<float>();
  TestCopies<int64_t>();
}
KERNEL_TEST(Transposes) {
  TestTranspose<uint8_t>(1);
  TestTranspose<bf16>(2);
  TestTranspose<float>(4);
}
KERNEL_TEST(Gathers) { TestGather(); }

// Elements beyond 2^31 are found by another path, which no test has the memory to run.
KERNEL_TEST(PlacesInHugeTensors) {
  StridedPair pair;
  const Shape axes{5, 3, 300'000'001};
  Expect(lorasmith::JoinAxes(axes, lorasmith::StridesOf(axes), {3 * 300'000'007L, 300'000'007L, 1}, &pair), "axes");
  Expect(pair.rank == 2 && pair.size > int64_t{1} << 32, "the tensor is huge");
  for (const int64_t row : {0, 7, 14}) {
    for (const int64_t column : {0, 299'999'999, 300'000'000}) {
      int64_t left, right;
      Locate(pair, row * axes[2] + column, &left, &right);
      Expect(left == row * axes[2] + column && right == row * 300'000'007 + column, "place in a huge tensor");
    }
  }
}
