// Gated units, activations, dropout, LoRA's matrices, AdamW and the square sum of its gradient.
#include "../kernels/activation_kind.h"
#include "../kernels/adamw_step.h"
#include "../kernels/lora_blocks.h"
#include "../kernels/philox.h"
#include "../kernels/quantized_moment.h"
#include "../kernels/square_sum.h"
#include "guarded.h"

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

// Rows before, between and after the layers have no B; `zeros` columns after them neither.
template <typename T>
void TestLora(int in, const std::vector<int>& ranks, int64_t rows_of_each, int zeros = 0) {
  LoraBlocks blocks{};
  blocks.layers = static_cast<int>(ranks.size());
  for (int rank : ranks) blocks.width += rank;
  blocks.a_size = static_cast<int64_t>(blocks.width) * in;
  blocks.width += zeros;
  blocks.padded_a_size = static_cast<int64_t>(blocks.width) * in;
  int64_t parameters = blocks.a_size;
  for (int i = 0, column = 0; i < blocks.layers; column += ranks[i++]) {
    blocks.layer[i] = {2 + i * (rows_of_each + 3), rows_of_each, parameters, ranks[i], column, 0.5f + i};
    parameters += rows_of_each * ranks[i];
  }
  blocks.out = 2 + blocks.layers * (rows_of_each + 3) + 1;
  const int64_t b_size = blocks.out * blocks.width;
  const dim3 grid(
      static_cast<unsigned>(LoraBlocksOfA(blocks.padded_a_size) +
                            (blocks.out + LoraRowsPerBlock(blocks.width) - 1) / LoraRowsPerBlock(blocks.width)));
  Memory<float> given(parameters), gradient(parameters);
  Memory<T> a(blocks.padded_a_size), scaled_b(b_size), by_a(blocks.padded_a_size), by_scaled_b(b_size);
  given.FillRandom(), by_a.FillRandom(), by_scaled_b.FillRandom();
  Launch("LoraWeights" + kTypeName<T>, grid, 256, 0, static_cast<const float*>(given.data()), blocks, a.data(),
         scaled_b.data());
  Launch("LoraGradient" + kTypeName<T>, grid, 256, 0, static_cast<const T*>(by_a.data()),
         static_cast<const T*>(by_scaled_b.data()), blocks, gradient.data());
  const auto same = [&](float expected, T actual) {
    T rounded;
    Store(expected, &rounded);
    Expect(memcmp(&rounded, &actual, sizeof(T)) == 0, "the matrices of LoRA");
  };
  for (int64_t i = 0; i < blocks.a_size; i++) {
    same(given[i], a[i]);
    Expect(gradient[i] == ToFloat(by_a[i]), "the gradient by A");
  }
  for (int64_t i = blocks.a_size; i < blocks.padded_a_size; i++) same(0, a[i]);
  std::vector<float> expected(b_size, 0.0f);
  for (int i = 0; i < blocks.layers; i++) {
    const LoraLayer& layer = blocks.layer[i];
    for (int64_t row = 0; row < layer.rows; row++) {
      for (int k = 0; k < layer.rank; k++) {
        const int64_t at = (layer.first_row + row) * blocks.width + layer.first_column + k;
        const int64_t of = layer.b_offset + row * layer.rank + k;
        expected[at] = given[of] * layer.scale;
        Expect(gradient[of] == ToFloat(by_scaled_b[at]) * layer.scale, "the gradient by B");
      }
    }
  }
  for (int64_t i = 0; i < b_size; i++) same(expected[i], scaled_b[i]);
}

template <typename T>
void TestDropout(int64_t size) {
  const UniformSeed seed = MixSeeds(5, 77);
  Memory<T> x(size), result(size);
  x.FillRandom(1, 2);
  Launch("Dropout" + kTypeName<T>, GridOf(size), 256, 0, static_cast<const T*>(x.data()), seed, 0.25f, 1.25f, size,
         result.data());
  int64_t dropped = 0;
  for (int64_t i = 0; i < size; i++) {
    const float uniform = __uint_as_float(UniformPlusOne(UniformBits(seed, i / 4).at[i % 4])) - 1.0f;
    dropped += uniform < 0.25f;
    T expected;
    Store(uniform < 0.25f ? 0.0f : ToFloat(x[i]) * 1.25f, &expected);
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
  TestLora<float>(37, {3, 5, 2}, 19, 6);
  TestLora<float>(1, {1}, 1);
  TestLora<float>(1100, {8, 8, 8}, 700);
}
KERNEL_TEST(LoraBFloat16) {
  TestLora<bf16>(37, {3, 5, 2}, 19, 6);
  TestLora<bf16>(1100, {8, 8, 8, 8, 8, 8, 8, 8}, 300);
}

KERNEL_TEST(Dropout) {
  for (int64_t size : {1, 7, 4099}) TestDropout<float>(size), TestDropout<bf16>(size);
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
