// Arithmetic element by element and casts.
#include "cuda/host/strides.h"
#include "cuda/test/guarded.h"

using namespace kernel_test;
using lorasmith::Shape;

namespace {

struct BinaryCase {
  const char* name;
  double (*of)(double, double);
};

template <typename T, typename R>
void TestBinary(const BinaryCase& op, const Shape& left, const Shape& right, bool may_pack) {
  Shape shape;
  Expect(lorasmith::BroadcastShapes(left, right, &shape), "broadcast");
  Memory<T> a(lorasmith::SizeOf(left)), b(lorasmith::SizeOf(right));
  Memory<R> result(lorasmith::SizeOf(shape));
  a.FillRandom(), b.FillRandom();
  if (a.size() > 2) Store(NAN, &a[2]);
  StridedPair pair;
  const Shape by_left = lorasmith::BroadcastStrides(left, shape), by_right = lorasmith::BroadcastStrides(right, shape);
  Expect(lorasmith::JoinAxes(shape, by_left, by_right, &pair), "axes");
  const int packed = may_pack && lorasmith::Pack(16 / sizeof(T), &pair);
  if (pair.size == 0) return;
  const std::string name = op.name + kTypeName<T>;
  Run128(name, GridOf(pair.size), a.data(), b.data(), result.data(), pair, packed);
  const Shape own = lorasmith::StridesOf(shape);
  for (int64_t i = 0; i < result.size(); i++) {
    int64_t in_a = 0, in_b = 0;
    for (size_t axis = 0; axis < shape.size(); axis++) {
      const int64_t at = i / own[axis] % shape[axis];
      in_a += at * by_left[axis], in_b += at * by_right[axis];
    }
    const double expected = op.of(ToFloat(a[in_a]), ToFloat(b[in_b])), found = ToFloat(result[i]);
    if (!Near(expected, found, 1.01 * kUnit<T>)) {
      Differs(name + NameOf(left) + NameOf(right) + (packed ? " packed " : " ") + std::to_string(i), expected, found);
    }
  }
}

double Larger(double a, double b) { return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b); }
double Smaller(double a, double b) { return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b); }

void TestElementwise() {
  const BinaryCase arithmetic[] = {{"Add", [](double a, double b) { return a + b; }},
                                   {"Sub", [](double a, double b) { return a - b; }},
                                   {"Mul", [](double a, double b) { return a * b; }},
                                   {"Div", [](double a, double b) { return a / b; }},
                                   {"Maximum", Larger},
                                   {"Minimum", Smaller}};
  const BinaryCase comparisons[] = {{"Greater", [](double a, double b) -> double { return a > b; }},
                                    {"GreaterEqual", [](double a, double b) -> double { return a >= b; }}};
  const std::pair<Shape, Shape> shapes[] = {{{}, {}},
                                            {{0}, {1}},
                                            {{1}, {7}},
                                            {{5, 8}, {8}},
                                            {{5, 8}, {5, 1}},
                                            {{3, 1}, {1, 16}},
                                            {{33, 129}, {129}},
                                            {{2, 3, 8}, {3, 1}},
                                            {{7, 1, 5}, {2, 5}},
                                            {{2, 1, 3, 1, 2, 1, 3, 8}, {2, 2, 1, 2, 2, 2, 1, 8}},
                                            {{4096}, {4096}},
                                            {{4096}, {}},
                                            {{3, 24}, {3, 24}}};
  for (const auto& [left, right] : shapes) {
    for (const BinaryCase& op : arithmetic) {
      for (bool pack : {true, false}) {
        TestBinary<float, float>(op, left, right, pack);
        TestBinary<bf16, bf16>(op, right, left, pack);
      }
    }
    for (const BinaryCase& op : comparisons) {
      for (bool pack : {true, false}) {
        TestBinary<float, bool>(op, left, right, pack);
        TestBinary<bf16, bool>(op, left, right, pack);
      }
    }
  }
}

template <typename T>
void TestUnary(const char* op, double (*of)(double), float low, float high, double units) {
  for (int64_t size : {1, 3, 8, 1000, 4096}) {
    const int packed = size % 8 == 0;
    Memory<T> x(size), result(size);
    x.FillRandom(low, high);
    if (size > 8) {
      Store(NAN, &x[1]);
      Store(INFINITY, &x[2]);
      Store(-INFINITY, &x[3]);
      Store(0.0f, &x[4]);
      Store(-1e-30f, &x[5]);
      Store(-200.0f, &x[6]);
    }
    const int64_t packs = packed ? size / static_cast<int64_t>(16 / sizeof(T)) : size;
    const std::string name = op + kTypeName<T>;
    Run128(name, GridOf(packs), x.data(), result.data(), packs, packed);
    for (int64_t i = 0; i < size; i++) {
      const double expected = of(ToFloat(x[i])), found = ToFloat(result[i]);
      // exp of what is below the smallest normal number may lose digits
      if (!Near(expected, found, units * kUnit<T>, 1e-38))
        Differs(name + " of " + std::to_string(ToFloat(x[i])), expected, found);
    }
  }
}

template <typename T>
void TestFunctions() {
  const double exact = 1.01;
  TestUnary<T>("Square", [](double x) { return x * x; }, -3, 3, exact);
  TestUnary<T>("Sqrt", [](double x) { return std::sqrt(x); }, 0, 9, exact);
  TestUnary<T>("Rsqrt", [](double x) { return 1 / std::sqrt(x); }, 0.1f, 9, sizeof(T) == 2 ? exact : 4);
  TestUnary<T>("Exp", [](double x) { return std::exp(x); }, -20, 20, sizeof(T) == 2 ? exact : 4);
  TestUnary<T>("Sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); }, -20, 20, sizeof(T) == 2 ? exact : 6);
  TestUnary<T>("Tanh", [](double x) { return std::tanh(x); }, -3, 3, sizeof(T) == 2 ? exact : 4);
  TestUnary<T>("Erf", [](double x) { return std::erf(x); }, -3, 3, sizeof(T) == 2 ? exact : 4);
  TestUnary<T>("Relu", [](double x) { return std::isnan(x) ? x : std::max(x, 0.0); }, -3, 3, exact);
}

// A cast of every bit pattern of float16 and bfloat16, and of numbers that are hard to round.
void TestCasts() {
  const int64_t all = 65536;
  {
    Memory<f16> x(all);
    Memory<float> wide(all);
    Memory<f16> back(all);
    for (int64_t i = 0; i < all; i++) x[i].bits = static_cast<uint16_t>(i);
    Run128("CastFloat16ToFloat32", GridOf(all / 4), x.data(), wide.data(), all / 4, 1);
    Run128("CastFloat32ToFloat16", GridOf(all / 4), wide.data(), back.data(), all / 4, 1);
    for (int64_t i = 0; i < all; i++) {
      const int exponent = static_cast<int>(i >> 10 & 31), digits = static_cast<int>(i & 1023);
      double expected = exponent == 0    ? std::ldexp(digits, -24)
                        : exponent == 31 ? (digits == 0 ? INFINITY : NAN)
                                         : std::ldexp(1024 + digits, exponent - 25);
      if (i >> 15) expected = -expected;
      const bool same = std::isnan(expected) ? (back[i].bits & 0x7fff) > 0x7c00 : back[i].bits == x[i].bits;
      if (Near(expected, wide[i], 0) && std::signbit(expected) == std::signbit(wide[i]) && same) continue;
      Differs("float16 " + std::to_string(i), expected, wide[i]);
    }
  }
  {
    const int64_t size = 100'000;
    Memory<float> x(size);
    Memory<f16> half(size);
    Memory<bf16> brain(size);
    for (int64_t i = 0; i < size; i++)
      x[i] = __uint_as_float(Random() * std::ldexp(1.0f, static_cast<int>(i % 250) - 125));
    for (int64_t i = 0; i < 2048; i++) x[i] = std::ldexp(2 * static_cast<float>(i) + 1, -25);  // ties of subnormals
    x[3000] = 65519.996f, x[3001] = 65520.0f, x[3002] = -65504.0f, x[3003] = 1e9f;
    Run128("CastFloat32ToFloat16", GridOf(size), x.data(), half.data(), size, 0);
    Run128("CastFloat32ToBFloat16", GridOf(size), x.data(), brain.data(), size, 0);
    for (int64_t i = 0; i < size; i++) {
      const _Float16 expected = static_cast<_Float16>(x[i]);
      uint16_t bits;
      memcpy(&bits, &expected, 2);
      const bool half_fits = std::isnan(x[i]) ? (half[i].bits & 0x7fff) > 0x7c00 : half[i].bits == bits;
      const bool brain_fits = std::isnan(x[i])
                                  ? std::isnan(ToFloat(brain[i]))
                                  : Near(x[i], ToFloat(brain[i]), kUnit<bf16>, 1e-38) || std::abs(x[i]) > 3.3e38f;
      if (half_fits && brain_fits) continue;
      Differs("a cast of " + std::to_string(x[i]), static_cast<float>(expected), ToFloat(half[i]));
    }
  }
  {
    Memory<bool> x(5);
    Memory<float> wide(5);
    for (int i = 0; i < 5; i++) x[i] = i % 2;
    Run128("CastBoolToFloat32", GridOf(5), x.data(), wide.data(), int64_t{5}, 0);
    for (int i = 0; i < 5; i++) Expect(wide[i] == i % 2, "a boolean is 0 or 1");
    Run128("CastFloat32ToBool", GridOf(5), wide.data(), x.data(), int64_t{5}, 0);
    for (int i = 0; i < 5; i++) Expect(x[i] == (i % 2 == 1), "0 is false");
  }
  {
    Memory<int32_t> x(4);
    Memory<int64_t> wide(4);
    Memory<bf16> brain(4);
    const int32_t values[] = {-2147483647, 0, 16777217, 255};
    for (int i = 0; i < 4; i++) x[i] = values[i];
    Run128("CastInt32ToInt64", GridOf(4), x.data(), wide.data(), int64_t{2}, 1);
    Run128("CastInt32ToBFloat16", GridOf(4), x.data(), brain.data(), int64_t{1}, 1);
    for (int i = 0; i < 4; i++) {
      Expect(wide[i] == values[i], "int32 to int64");
      Expect(Near(values[i], ToFloat(brain[i]), kUnit<bf16>), "int32 to bfloat16");
    }
  }
}

}  // namespace

KERNEL_TEST(Broadcasting) { TestElementwise(); }
KERNEL_TEST(FunctionsFloat32) { TestFunctions<float>(); }
KERNEL_TEST(FunctionsBFloat16) { TestFunctions<bf16>(); }
KERNEL_TEST(Casts) { TestCasts(); }
