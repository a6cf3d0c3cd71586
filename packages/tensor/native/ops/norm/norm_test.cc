// Root mean square norms and cross entropy.
#include <tuple>

#include "cuda/test/guarded.h"

using namespace kernel_test;

namespace {

template <typename T>
void TestNorm(int64_t rows, int64_t width, unsigned threads) {
  const int packed = width % 4 == 0;
  const float epsilon = 1e-5f;
  Memory<float> x(rows * width), weight(width), sum(rows * width), inverse(rows), residual(rows * width),
      result(rows * width);
  Memory<T> branch(rows * width), y(rows * width), gradient(rows * width), rounded(rows * width);
  x.FillRandom(), weight.FillRandom(), branch.FillRandom(), gradient.FillRandom(), residual.FillRandom();
  const dim3 grid(static_cast<unsigned>(rows));
  const std::string shape = kTypeName<T> + NameOf({rows, width});
  for (bool with_branch : {false, true}) {
    if (with_branch) {
      Launch("AddRmsNorm" + kTypeName<T>, grid, threads, 0, x.data(), branch.data(), weight.data(),
             static_cast<int>(width), epsilon, packed, sum.data(), y.data(), inverse.data());
    } else {
      Launch("RmsNorm" + kTypeName<T>, grid, threads, 0, x.data(), weight.data(), static_cast<int>(width), epsilon,
             packed, y.data(), inverse.data());
    }
    for (int64_t row = 0; row < rows; row++) {
      double squares = 0;
      std::vector<double> value(width);
      for (int64_t i = 0; i < width; i++) {
        value[i] = x[row * width + i] + (with_branch ? ToFloat(branch[row * width + i]) : 0.0f);
        squares += value[i] * value[i];
      }
      const double expected = 1 / std::sqrt(squares / width + epsilon);
      Expect(Near(expected, inverse[row], 1e-6), "inverse rms " + shape);
      for (int64_t i = 0; i < width; i++) {
        const int64_t at = row * width + i;
        if (with_branch) Expect(sum[at] == static_cast<float>(value[i]), "sum of " + shape);
        const double normed = value[i] * expected * weight[i];
        if (!Near(normed, ToFloat(y[at]), sizeof(T) == 2 ? 1.01 * kUnit<T> : 2e-6)) {
          Differs("norm of " + shape, normed, ToFloat(y[at]));
        }
      }
    }
  }
  Launch("RmsNormGradient" + kTypeName<T>, grid, threads, 0, gradient.data(), sum.data(), weight.data(), inverse.data(),
         residual.data(), static_cast<int>(width), packed, result.data(), rounded.data());
  for (int64_t row = 0; row < rows; row++) {
    double products = 0;
    const auto weighted = [&](int64_t i) {
      return static_cast<double>(ToFloat(gradient[row * width + i])) * weight[i];
    };
    for (int64_t i = 0; i < width; i++) products += weighted(i) * sum[row * width + i];
    const double inv = inverse[row];
    for (int64_t i = 0; i < width; i++) {
      const int64_t at = row * width + i;
      const double expected = residual[at] + (weighted(i) - sum[at] * products * inv * inv / width) * inv;
      Store(result[at], &y[at]);
      if (!Near(expected, result[at], 2e-6, 1e-5) || ToFloat(y[at]) != ToFloat(rounded[at])) {
        Differs("gradient of norm " + shape, expected, result[at]);
      }
    }
  }
}

void TestCentred(int64_t rows, int64_t width, unsigned threads) {
  Memory<float> x(rows * width), result(rows * width);
  x.FillRandom(-1, 3);
  Launch("CentredFloat32", dim3(static_cast<unsigned>(rows)), threads, 0, static_cast<const float*>(x.data()),
         static_cast<int>(width), static_cast<int>(width % 4 == 0), result.data());
  for (int64_t row = 0; row < rows; row++) {
    double sum = 0;
    for (int64_t i = 0; i < width; i++) sum += x[row * width + i];
    for (int64_t i = 0; i < width; i++) {
      const double expected = x[row * width + i] - sum / width;
      const double found = result[row * width + i];
      if (!Near(expected, found, 1e-6, 2e-6)) Differs("less the mean " + NameOf({rows, width}), expected, found);
    }
  }
}

template <typename T>
void TestCrossEntropy(int64_t classes) {
  const int64_t rows = 9;
  const int packed = classes % static_cast<int64_t>(16 / sizeof(T)) == 0;
  Memory<T> logits(rows * classes), gradient(rows * classes);
  Memory<int32_t> labels(rows);
  Memory<float> loss(rows), correct(rows);
  logits.FillRandom(-20, 20);
  for (int64_t row = 0; row < rows; row++) labels[row] = static_cast<int32_t>(row * 7919 % classes);
  Store(40.0f, &logits[labels[0]]);                                              // a loss near 0
  for (int64_t i = 0; i < classes; i++) Store(-INFINITY, &logits[classes + i]);  // all but the label impossible
  Store(-3.0f, &logits[classes + labels[1]]);
  Store(-500.0f, &logits[2 * classes + labels[2]]);  // its exponential is 0
  Store(NAN, &logits[3 * classes + classes / 2]);
  Store(INFINITY, &logits[4 * classes]);
  // Equal greatest ones: the label is the first of them in row 7, and not in row 8.
  labels[7] = 0;
  labels[8] = static_cast<int32_t>(classes - 1);
  for (int64_t row : {7, 8}) {
    Store(25.0f, &logits[row * classes]);
    Store(25.0f, &logits[row * classes + classes - 1]);
  }
  labels[5] = static_cast<int32_t>(classes);
  labels[6] = -1;
  const std::string name = "CrossEntropy" + kTypeName<T>;
  Launch(name, dim3(rows), 256, 0, logits.data(), labels.data(), classes, packed, loss.data(), gradient.data(),
         correct.data());
  for (int64_t row = 0; row < rows; row++) {
    const auto at = [&](int64_t i) { return static_cast<double>(ToFloat(logits[row * classes + i])); };
    double greatest = -INFINITY, others = 0;
    for (int64_t i = 0; i < classes; i++) greatest = std::max(greatest, at(i));
    for (int64_t i = 0; i < classes; i++) others += i == labels[row] ? 0 : std::exp(at(i) - greatest);
    const bool known = row != 5 && row != 6;
    const double own = known ? std::exp(at(labels[row]) - greatest) : NAN;
    const bool finite = row < 3 || row > 6;
    const double expected = !finite    ? NAN
                            : row == 2 ? greatest + std::log(own + others) - at(labels[row])
                                       : std::log1p(others / own);
    if (!Near(expected, loss[row], 3e-6))
      Differs(name + NameOf({classes}) + " loss of row " + std::to_string(row), expected, loss[row]);
    bool is_first = known && at(labels[row]) == greatest;
    for (int64_t i = 0; is_first && i < labels[row]; i++) is_first = at(i) < greatest;
    // Row 3 has a NaN, and so no greatest.
    if (row != 3 && correct[row] != (is_first ? 1.0f : 0.0f))
      Differs(name + NameOf({classes}) + " correct of row " + std::to_string(row), is_first, correct[row]);
    for (int64_t i = 0; i < classes; i++) {
      const double sum = own + others;
      const double by = !finite ? NAN : i == labels[row] ? -others / sum : std::exp(at(i) - greatest) / sum;
      const double found = ToFloat(gradient[row * classes + i]);
      // One class of an infinite logit has exp(infinity - infinity).
      if (row == 4 || Near(by, found, sizeof(T) == 2 ? 1.01 * kUnit<T> : 3e-6, 1e-37)) continue;
      Differs(name + NameOf({classes}) + " gradient of row " + std::to_string(row), by, found);
    }
  }
}

// Rows, their width, and the threads of a block.
const std::tuple<int64_t, int64_t, unsigned> kRows[] = {
    {1, 1, 32}, {3, 5, 32}, {2, 64, 32}, {2, 576, 160}, {2, 1027, 256}, {1, 8192, 256}, {1, 16384, 256}, {1, 2051, 256},
};

template <typename T>
void TestNorms() {
  for (auto [rows, width, threads] : kRows) TestNorm<T>(rows, width, threads);
}

template <typename T>
void TestCrossEntropies() {
  for (int64_t classes : {2, 7, 1000, 5003}) TestCrossEntropy<T>(classes);
}

}  // namespace

KERNEL_TEST(NormsFloat32) { TestNorms<float>(); }
KERNEL_TEST(NormsBFloat16) { TestNorms<bf16>(); }
KERNEL_TEST(Centred) {
  for (auto [rows, width, threads] : kRows) TestCentred(rows, width, threads);
}
KERNEL_TEST(CrossEntropyFloat32) { TestCrossEntropies<float>(); }
KERNEL_TEST(CrossEntropyBFloat16) { TestCrossEntropies<bf16>(); }
