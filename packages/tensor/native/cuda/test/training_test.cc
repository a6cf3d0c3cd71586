// Gated units, activations, dropout, LoRA's matrices, AdamW and the square sum of its gradient.
#include <memory>

#include "cuda/kernels/philox.h"
#include "cuda/test/guarded.h"
#include "ops/activation/activation_kind.h"
#include "ops/adamw/adamw_step.h"
#include "ops/lora/lora_matrix.h"

using namespace kernel_test;

namespace {

double Function(Activation activation, double x) {
  const double gelu_tanh = std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
  switch (activation) {
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kRelu2:
      return std::max(x, 0.0) * std::max(x, 0.0);
    case Activation::kGeluTanh:
      return x / 2 * (1 + gelu_tanh);
    case Activation::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::kCount:
      break;
  }
  return NAN;
}

// By central differences in double: right to 1e-9. Not at a corner.
double Slope(Activation activation, double x) {
  const double step = 1e-5;
  return (Function(activation, x + step) - Function(activation, x - step)) / (2 * step);
}

template <typename T>
void TestGatedUnit(Activation activation, int64_t rows, int64_t width, unsigned threads, int64_t shift) {
  Memory<T> gate_up(rows * 2 * width + shift), gradient(rows * width + shift), result(rows * width + shift),
      by_gate_up(rows * 2 * width + shift);
  gate_up.FillRandom(-6, 6), gradient.FillRandom();
  const dim3 grid(static_cast<unsigned>(rows));
  const T* from = gate_up.data() + shift;
  Launch("GatedUnit" + kTypeName<T>, grid, threads, 0, from, width, activation, result.data() + shift);
  Launch("GatedUnitGradient" + kTypeName<T>, grid, threads, 0, static_cast<const T*>(gradient.data() + shift), from,
         width, activation, by_gate_up.data() + shift);
  const std::string what = "gated unit " + std::to_string(static_cast<int>(activation)) + kTypeName<T> +
                           NameOf({rows, width}) + " at " + std::to_string(shift);
  const double relative = sizeof(T) == 2 ? 1.01 * kUnit<T> : 3e-6;
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t i = 0; i < width; i++) {
      const double gate = ToFloat(from[row * 2 * width + i]), up = ToFloat(from[row * 2 * width + width + i]);
      const double by_output = ToFloat(gradient[shift + row * width + i]);
      const auto expect = [&](const char* of, double expected, T actual) {
        if (!Near(expected, ToFloat(actual), relative, 3e-6)) Differs(of + what, expected, ToFloat(actual));
      };
      expect("", Function(activation, gate) * up, result[shift + row * width + i]);
      expect("by the gate of ", by_output * up * Slope(activation, gate), by_gate_up[shift + row * 2 * width + i]);
      expect("by up of ", by_output * Function(activation, gate), by_gate_up[shift + row * 2 * width + width + i]);
    }
  }
}

template <typename T>
void TestActivation(Activation activation, int64_t size, int64_t shift) {
  Memory<T> x(size + shift), gradient(size + shift), result(size + shift), by_x(size + shift);
  x.FillRandom(-6, 6), gradient.FillRandom();
  const T* from = x.data() + shift;
  Launch("Activation" + kTypeName<T>, dim3(2), kThreads, 0, from, size, activation, result.data() + shift);
  Launch("ActivationGradient" + kTypeName<T>, dim3(2), kThreads, 0, static_cast<const T*>(gradient.data() + shift),
         from, size, activation, by_x.data() + shift);
  const std::string what = "activation " + std::to_string(static_cast<int>(activation)) + kTypeName<T> +
                           NameOf({size}) + " at " + std::to_string(shift);
  const double relative = sizeof(T) == 2 ? 1.01 * kUnit<T> : 3e-6;
  for (int64_t i = 0; i < size; i++) {
    const double number = ToFloat(from[i]), by_result = ToFloat(gradient[shift + i]);
    const auto expect = [&](const char* of, double expected, T actual) {
      if (!Near(expected, ToFloat(actual), relative, 3e-6)) Differs(of + what, expected, ToFloat(actual));
    };
    expect("", Function(activation, number), result[shift + i]);
    expect("gradient of ", by_result * Slope(activation, number), by_x[shift + i]);
  }
}

// The matrices of adapters whose ranks are rounded up, and the gradients by them from pieces of products.
template <typename T>
void TestLora(int in, const std::vector<int>& ranks, int rows) {
  struct Layer {
    Memory<float> a, b, gradient_a, gradient_b;
    Memory<T> padded_a, padded_b, wide_b;
  };
  const int pieces = 3;
  int width = 0;
  const auto padded = [](int rank) { return (rank + kLoraRankMultiple - 1) / kLoraRankMultiple * kLoraRankMultiple; };
  for (int rank : ranks) width += padded(rank);
  // Of A of all layers, transposed.
  Memory<float> by_a(static_cast<int64_t>(pieces) * in * width);
  by_a.FillRandom();
  std::vector<std::unique_ptr<Layer>> layers;
  std::vector<std::unique_ptr<Memory<float>>> by_b;
  LoraMatrices matrices{};
  LoraMatrixGradients gradients{};
  int blocks = 0, gradient_blocks = 0, column = 0;
  const auto blocks_of = [](int64_t numbers) { return static_cast<int>((numbers + kLoraNumbers - 1) / kLoraNumbers); };
  const auto scale_of = [](size_t i) { return 0.5f + i; };
  for (size_t i = 0; i < ranks.size(); i++) {
    const int rank = ranks[i], all = padded(rank);
    layers.push_back(std::unique_ptr<Layer>(new Layer{
        Memory<float>(rank * in), Memory<float>(rows * rank), Memory<float>(rank * in), Memory<float>(rows * rank),
        Memory<T>(all * in), Memory<T>(rows * all), Memory<T>(rows * (width + 3))}));
    Layer& layer = *layers.back();
    layer.a.FillRandom(), layer.b.FillRandom();
    for (int64_t at = 0; at < layer.wide_b.size(); at++) Store(-1.0f, &layer.wide_b[at]);
    by_b.push_back(std::make_unique<Memory<float>>(static_cast<int64_t>(pieces) * rows * all));
    by_b.back()->FillRandom();
    matrices.at[matrices.count++] = {layer.a.data(), layer.padded_a.data(), rank, in, all, in, 0, in, 1, blocks};
    blocks += blocks_of(static_cast<int64_t>(all) * in);
    matrices.at[matrices.count++] = {layer.b.data(), layer.padded_b.data(), rows, rank, rows, all, 0, all, scale_of(i),
                                     blocks};
    blocks += blocks_of(static_cast<int64_t>(rows) * all);
    // Among the ranks of all layers, in rows that are longer.
    matrices.at[matrices.count++] = {layer.b.data(), layer.wide_b.data(), rows,        rank,  rows, width,
                                     column,         width + 3,           scale_of(i), blocks};
    blocks += blocks_of(static_cast<int64_t>(rows) * width);
    gradients.at[gradients.count++] = {
        by_a.data() + column, layer.gradient_a.data(), int64_t{in} * width, pieces, in, rank, width, 1, in, 1,
        gradient_blocks};
    gradient_blocks += blocks_of(static_cast<int64_t>(in) * rank);
    gradients.at[gradients.count++] = {
        by_b.back()->data(), layer.gradient_b.data(), int64_t{rows} * all, pieces, rows, rank, all, rank, 1,
        scale_of(i),         gradient_blocks};
    gradient_blocks += blocks_of(static_cast<int64_t>(rows) * rank);
    column += all;
  }
  Launch("LoraMatrices" + kTypeName<T>, dim3(blocks), kLoraThreads, 0, matrices);
  Launch("LoraGradients", dim3(gradient_blocks), kLoraThreads, 0, gradients);
  const auto same = [](float expected, T actual) {
    T rounded;
    Store(expected, &rounded);
    Expect(memcmp(&rounded, &actual, sizeof(T)) == 0, "the matrices of LoRA");
  };
  const auto sum = [&](const Memory<float>& from, int64_t at, int64_t stride) {
    float all = 0;
    for (int piece = 0; piece < pieces; piece++) all += const_cast<Memory<float>&>(from)[at + piece * stride];
    return all;
  };
  column = 0;
  for (size_t i = 0; i < ranks.size(); i++) {
    const int rank = ranks[i], all = padded(rank);
    Layer& layer = *layers[i];
    for (int k = 0; k < all; k++) {
      for (int c = 0; c < in; c++) {
        same(k < rank ? layer.a[k * in + c] : 0, layer.padded_a[k * in + c]);
        if (k >= rank) continue;
        const float expected = sum(by_a, c * width + column + k, int64_t{in} * width);
        Expect(layer.gradient_a[k * in + c] == expected, "the gradient by A");
      }
      for (int row = 0; row < rows; row++) {
        same(k < rank ? layer.b[row * rank + k] * scale_of(i) : 0, layer.padded_b[row * all + k]);
        if (k >= rank) continue;
        const float expected = sum(*by_b[i], row * all + k, int64_t{rows} * all) * scale_of(i);
        Expect(layer.gradient_b[row * rank + k] == expected, "the gradient by B");
      }
    }
    for (int row = 0; row < rows; row++) {
      for (int k = 0; k < width + 3; k++) {
        const bool own = k >= column && k < column + rank;
        const float around = k < width ? 0 : -1;
        same(own ? layer.b[row * rank + k - column] * scale_of(i) : around, layer.wide_b[row * (width + 3) + k]);
      }
    }
    column += all;
  }
}

template <typename T>
void TestDropout(int64_t size, bool adds) {
  const UniformSeed seed = MixSeeds(5, 77);
  Memory<T> x(size), result(size);
  x.FillRandom(1, 2), result.FillRandom();
  const std::vector<T> addend(result.data(), result.data() + size);
  Launch("Dropout" + kTypeName<T>, GridOf(size), 256, 0, static_cast<const T*>(x.data()), seed, 0.25f, 1.25f, size,
         static_cast<const T*>(adds ? result.data() : nullptr), result.data());
  int64_t dropped = 0;
  for (int64_t i = 0; i < size; i++) {
    const float uniform = __uint_as_float(UniformPlusOne(UniformBits(seed, i / 4).at[i % 4])) - 1.0f;
    dropped += uniform < 0.25f;
    T expected;
    Store(uniform < 0.25f ? 0.0f : ToFloat(x[i]) * 1.25f, &expected);
    if (adds) Store(ToFloat(addend[i]) + ToFloat(expected), &expected);
    Expect(memcmp(&expected, &result[i], sizeof(T)) == 0, "dropout of " + NameOf({size}));
  }
  // Five standard deviations.
  Expect(std::abs(dropped - 0.25 * size) <= 5 * std::sqrt(0.25 * 0.75 * size), "the share that is dropped");
}

AdamWStep StepOf(float max_norm, float decay) {
  return {1 / 47.0f, max_norm, 0.9f, 0.1f, 0.999f, 0.001f, 0.0836f, 1e-8f, 5e-4f, 3e-4f * decay, 1 - 3e-4f * decay};
}

// The square sum of the gradient in the tests of AdamW.
constexpr double kSquareSum = 7.25;

struct Expected {
  double parameter, first, second;
};

// One number after a step of AdamW.
Expected Updated(double parameter, double gradient, double first, double second, double rate, const AdamWStep& step) {
  const double clipping = std::min(1.0, step.max_norm / (std::sqrt(kSquareSum) + 1e-6));
  const double g = gradient * step.gradient_scale * clipping;
  const double m = first * step.beta1 + g * step.one_minus_beta1;
  const double v = second * step.beta2 + g * g * step.one_minus_beta2;
  const double kept = 1 - rate * step.decay_rate;
  const double moved = m / (std::sqrt(v) / step.root_correction + step.epsilon) * step.step_size * rate;
  return {parameter * kept - moved, m, v};
}

void TestAdamW(int64_t count, const AdamWStep& step, bool has_factors) {
  Memory<float> parameters(count), gradient(count), first(count), second(count), factors(count), square_sum(1);
  Memory<float> new_parameters(count), new_first(count), new_second(count);
  parameters.FillRandom(), gradient.FillRandom(), first.FillRandom(-0.01f, 0.01f), second.FillRandom(0, 1e-4f);
  factors.FillRandom(1, 16);
  square_sum[0] = static_cast<float>(kSquareSum);
  Launch("AdamWFloat32", GridOf(count), 256, 0, static_cast<const float*>(parameters.data()),
         static_cast<const float*>(gradient.data()), static_cast<const float*>(first.data()),
         static_cast<const float*>(second.data()), static_cast<const float*>(has_factors ? factors.data() : nullptr),
         static_cast<const float*>(square_sum.data()), &step, count, new_parameters.data(), new_first.data(),
         new_second.data());
  for (int64_t i = 0; i < count; i++) {
    const double rate = has_factors ? factors[i] : 1;
    const auto [p, m, v] = Updated(parameters[i], gradient[i], first[i], second[i], rate, step);
    const auto expect = [&](const char* of, double expected, double actual, double absolute) {
      if (!Near(expected, actual, 1e-6, absolute)) Differs(of + NameOf({count}), expected, actual);
    };
    expect("first moment of ", m, new_first[i], 1e-9);
    expect("second moment of ", v, new_second[i], 1e-12);
    expect("parameters ", p, new_parameters[i], 5e-7);
  }
}

// 256 values over six decades, ascending, signed or not. A 0 and a 1 are among them.
std::vector<float> TableOf(bool is_signed) {
  std::vector<float> values = {0, 1};
  const int magnitudes = is_signed ? 127 : 254;
  for (int i = 0; i < magnitudes; i++) {
    const float value = 0.99f * std::pow(10.0f, -6.0f * static_cast<float>(i) / static_cast<float>(magnitudes));
    values.push_back(value);
    if (is_signed) values.push_back(-value);
  }
  std::sort(values.begin(), values.end());
  return values;
}

// What a block of a moment says of its number i.
double DecodedMoment(const uint8_t* moment, const float* table, int64_t i) {
  const uint8_t* block = moment + i / kMomentBlock * kMomentBlockBytes;
  float scale;
  std::memcpy(&scale, block + kMomentBlock, sizeof(scale));
  return table[block[i % kMomentBlock]] * scale;
}

void TestAdamW8bit(int64_t count, const AdamWStep& step, bool has_factors) {
  const int64_t bytes = MomentBytes(count);
  Memory<float> parameters(count), gradient(count), factors(count), square_sum(1), tables(2 * kMomentCodes);
  Memory<uint8_t> first(bytes), second(bytes), new_first(bytes), new_second(bytes);
  Memory<float> new_parameters(count);
  parameters.FillRandom(), gradient.FillRandom(), factors.FillRandom(1, 16);
  square_sum[0] = static_cast<float>(kSquareSum);
  const std::vector<float> signed_values = TableOf(true), values = TableOf(false);
  std::copy(signed_values.begin(), signed_values.end(), tables.data());
  std::copy(values.begin(), values.end(), tables.data() + kMomentCodes);
  for (int64_t i = 0; i < bytes; i++) first[i] = static_cast<uint8_t>(i * 37), second[i] = static_cast<uint8_t>(i * 53);
  for (int64_t block = 0; block < MomentBlocks(count); block++) {
    const float scales[] = {0.01f * static_cast<float>(block), 1e-4f};
    std::memcpy(first.data() + block * kMomentBlockBytes + kMomentBlock, &scales[0], sizeof(float));
    std::memcpy(second.data() + block * kMomentBlockBytes + kMomentBlock, &scales[1], sizeof(float));
  }
  Launch("AdamW8bitFloat32", dim3(static_cast<unsigned>(std::min<int64_t>(MomentBlocks(count), 3))), kMomentBlock, 0,
         static_cast<const float*>(parameters.data()), static_cast<const float*>(gradient.data()),
         static_cast<const uint8_t*>(first.data()), static_cast<const uint8_t*>(second.data()),
         static_cast<const float*>(has_factors ? factors.data() : nullptr),
         static_cast<const float*>(square_sum.data()), &step, static_cast<const float*>(tables.data()), count,
         new_parameters.data(), new_first.data(), new_second.data());
  const float* const of_second = tables.data() + kMomentCodes;
  for (int64_t i = 0; i < count; i++) {
    const double rate = has_factors ? factors[i] : 1;
    const double old_m = DecodedMoment(first.data(), tables.data(), i);
    const double old_v = DecodedMoment(second.data(), of_second, i);
    const auto [p, m, v] = Updated(parameters[i], gradient[i], old_m, old_v, rate, step);
    if (!Near(p, new_parameters[i], 1e-6, 5e-7)) Differs("parameters " + NameOf({count}), p, new_parameters[i]);
    // Neighbours in the tables are at most 12 % apart, and the smallest value is 1e-6 of the scale.
    const double new_m = DecodedMoment(new_first.data(), tables.data(), i);
    const double new_v = DecodedMoment(new_second.data(), of_second, i);
    if (!Near(m, new_m, 0.06, 1e-7)) Differs("first moment of " + NameOf({count}), m, new_m);
    if (!Near(v, new_v, 0.04, 1e-9)) Differs("second moment of " + NameOf({count}), v, new_v);
    Expect(v == 0 || new_v > 0, "a second moment that is not 0 does not become 0");
  }
  for (int64_t i = count; i < MomentBlocks(count) * kMomentBlock; i++) {
    const int64_t at = i / kMomentBlock * kMomentBlockBytes + i % kMomentBlock;
    Expect(new_first[at] == 0 && new_second[at] == 0, "what is beyond the last number has the code 0");
  }
}

// Of the numbers of x from `shift` on.
template <typename Floats>
void TestSquareSum(const Floats& x, int64_t shift) {
  const float factor = 1 / 47.0f;
  const int64_t count = static_cast<int64_t>(x.size()) - shift;
  const int blocks = SquareSumBlocks(count);
  auto sums = Unwritten<float>(blocks), result = Unwritten<float>(1);
  double expected = 0;
  for (int64_t i = 0; i < count; i++) expected += static_cast<double>(x[shift + i]) * x[shift + i];
  expected *= static_cast<double>(factor) * factor;
  Launch("SquareSumOfBlocksFloat32", dim3(blocks), kSquareSumThreads, 0, x.data() + shift, &factor, count, sums.data());
  Launch("SumOfBlocksFloat32", dim3(1), kSquareSumThreads, 0, static_cast<const float*>(sums.data()), blocks,
         result.data());
  Record(sums), Record(result);
  if (!Near(expected, result[0], 2e-6)) Differs("square sum of " + NameOf({count}), expected, result[0]);
}

template <typename T>
void TestGatedUnits() {
  for (int i = 0; i < static_cast<int>(Activation::kCount); i++) {
    TestGatedUnit<T>(static_cast<Activation>(i), 2, 40, 32, 0);
  }
  TestGatedUnit<T>(Activation::kSilu, 3, 1, 32, 0);
  TestGatedUnit<T>(Activation::kSilu, 2, 37, 32, 0);     // no whole vectors
  TestGatedUnit<T>(Activation::kSilu, 2, 40, 32, 1);     // not aligned
  TestGatedUnit<T>(Activation::kGelu, 1, 2200, 256, 0);  // several vectors a thread
}

// Vectors and what is left of them; more than all threads take at once; addresses that are not aligned.
template <typename T>
void TestActivations() {
  for (int i = 0; i < static_cast<int>(Activation::kCount); i++) {
    TestActivation<T>(static_cast<Activation>(i), 45, 0);
  }
  TestActivation<T>(Activation::kRelu2, 1, 0);
  TestActivation<T>(Activation::kGelu, 3001, 0);
  TestActivation<T>(Activation::kGeluTanh, 301, 1);
}

}  // namespace

KERNEL_TEST(ActivationFloat32) { TestActivations<float>(); }
KERNEL_TEST(ActivationBFloat16) { TestActivations<bf16>(); }
KERNEL_TEST(GatedUnitFloat32) { TestGatedUnits<float>(); }
KERNEL_TEST(GatedUnitBFloat16) { TestGatedUnits<bf16>(); }

KERNEL_TEST(LoraFloat32) {
  TestLora<float>(37, {3, 5, 2}, 19);
  TestLora<float>(1, {1}, 1);
  TestLora<float>(1100, {8, 9, 8}, 700);
}
KERNEL_TEST(LoraBFloat16) {
  TestLora<bf16>(37, {3, 5, 2}, 19);
  TestLora<bf16>(1100, {8, 8, 8, 8, 8, 8, 8, 8}, 300);
}

KERNEL_TEST(Dropout) {
  for (int64_t size : {1, 7, 4099})
    for (bool adds : {false, true}) TestDropout<float>(size, adds), TestDropout<bf16>(size, adds);
}

KERNEL_TEST(AdamW) {
  for (bool has_factors : {false, true}) {
    for (float decay : {0.0f, 0.1f}) TestAdamW(1003, StepOf(INFINITY, decay), has_factors);
  }
  TestAdamW(5000, StepOf(0.5f, 0.1f), false);
  TestAdamW(1, StepOf(0.5f, 0.1f), true);
}

KERNEL_TEST(AdamW8bit) {
  TestAdamW8bit(1, StepOf(0.5f, 0.1f), true);
  TestAdamW8bit(256, StepOf(INFINITY, 0), false);
  TestAdamW8bit(1003, StepOf(INFINITY, 0.1f), true);
}

KERNEL_TEST(SquareSum) {
  for (int64_t count : {1, 3, 4, 1023, 4097, 300'001}) TestSquareSum(Randoms<float>(count, 2), 0);
  TestSquareSum(Randoms<float>(4098, 2), 1);
}

// As many parameters as a large adapter has. One order of threads: the others take seconds more.
KERNEL_TEST(SquareSumOfManyNumbers) {
  const uint64_t hash = run.hash;
  if (!run.compares) return;
  std::vector<float> x(100'000'003);
  for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(i % 1009) / 300 - 1.5f;
  TestSquareSum(x, 0);
  run.hash = hash;
}
