// Attention and its gradient at every head size and in both dtypes.
#include "cuda/test/kernel_test.h"
#include "ops/attention/attention_shape.h"

namespace {

using namespace kernel_test;

template <typename Number>
constexpr bool kIsBFloat16 = std::is_same_v<Number, bf16>;

// In bfloat16, weights, their gradients and results are rounded by up to 2⁻⁹ each. In float32, sums have up to 600
// terms.
template <typename Number>
constexpr double kTolerance = kIsBFloat16<Number> ? 8e-3 : 5e-6;

struct Case {
  int head_size;  // of the kernel
  int head_dim;
  std::vector<int> lengths;
  int heads, key_value_heads;
  int window = 0;
  float softcap = 0;
  bool has_sinks = false;
};

template <typename Number>
struct Inputs {
  explicit Inputs(const Case& c)
      : shape{0,
              static_cast<int>(c.lengths.size()),
              c.heads,
              c.key_value_heads,
              c.head_dim,
              c.window,
              1.0f / std::sqrt(static_cast<float>(c.head_dim)),
              c.softcap} {
    for (int length : c.lengths) {
      offsets.push_back(offsets.back() + length);
      longest = std::max(longest, length);
    }
    shape.tokens = offsets.back();
    qkv = Randoms<Number>(shape.tokens * width(), 2);
    gradient = Randoms<Number>(shape.tokens * c.heads * c.head_dim);
    // Far below the scores, the weight of a token that sees itself alone is near one: its gradient would cancel.
    if (c.has_sinks) sinks = Randoms<float>(c.heads, 2);
    const int half = c.head_dim / 2;
    for (int position = 0; position < longest; position++)
      for (int i = 0; i < half; i++) {
        const double angle = position * std::pow(10000.0, -static_cast<double>(i) / half);
        cosine.push_back(static_cast<float>(std::cos(angle)));
        sine.push_back(static_cast<float>(std::sin(angle)));
      }
  }

  int64_t width() const { return static_cast<int64_t>(shape.heads + 2 * shape.key_value_heads) * shape.head_dim; }

  AttentionShape shape;
  Numbers<int32_t> offsets{0};
  int longest = 0;
  Numbers<Number> qkv, gradient;
  Numbers<float> cosine, sine;
  Numbers<float> sinks;  // empty for none
};

template <typename Number>
struct Results {
  Numbers<Number> output, by_qkv;
  Numbers<float> log_sums;
};

// As the host launches them.
template <typename Number>
Results<Number> Compute(const Inputs<Number>& in, int head_size) {
  const AttentionShape& shape = in.shape;
  const int64_t tokens = shape.tokens;
  const int heads = shape.heads, key_heads = shape.key_value_heads, both = heads + key_heads;
  const std::string type = kIsBFloat16<Number> ? "BFloat16" : "Float32";
  const auto name = [&](const char* kernel) { return kernel + type + "_" + std::to_string(head_size); };
  const int32_t* offsets = in.offsets.data();
  const float *cosine = in.cosine.data(), *sine = in.sine.data(), *no_table = nullptr;
  const auto prepare = [&](const Number* from, int64_t stride, int of_heads, bool rotated) {
    Numbers<Number> to = Unwritten<Number>(tokens * of_heads * head_size);
    Launch("AttentionRotate" + type, dim3(tokens), 128, 0, from, stride, of_heads, shape.head_dim, head_size, offsets,
           shape.rows, rotated ? cosine : no_table, rotated ? sine : no_table, 1.0f, to.data(),
           static_cast<int64_t>(of_heads) * head_size);
    return to;
  };
  const Numbers<Number> rotated = prepare(in.qkv.data(), in.width(), both, true);
  const Number* values = in.qkv.data() + both * shape.head_dim;
  int64_t value_stride = in.width();
  const Number* gradient = in.gradient.data();
  Numbers<Number> packed_values, packed_gradient;
  if (shape.head_dim != head_size) {
    packed_values = prepare(values, value_stride, key_heads, false);
    packed_gradient = prepare(gradient, heads * shape.head_dim, heads, false);
    values = packed_values.data();
    value_stride = key_heads * head_size;
    gradient = packed_gradient.data();
  }

  Results<Number> r;
  r.output = Unwritten<Number>(tokens * heads * shape.head_dim);
  r.by_qkv = Unwritten<Number>(tokens * in.width());
  r.log_sums = Unwritten<float>(tokens * heads);
  const auto grid = [&](const AttentionLaunch& of, int of_heads) {
    return dim3(static_cast<unsigned>(RowSlots(tokens, shape.rows, of.rows)), of_heads, of.column_blocks);
  };
  const AttentionLaunch forward = AttentionForwardLaunch(head_size, kIsBFloat16<Number>);
  Launch(name("Attention"), grid(forward, heads), forward.threads, forward.shared_bytes, rotated.data(), values,
         value_stride, offsets, in.sinks.empty() ? no_table : in.sinks.data(), shape, r.output.data(),
         r.log_sums.data());
  Numbers<float> sums = Unwritten<float>(2 * tokens * heads);
  Launch("AttentionSums" + type, dim3((tokens + kSumTokens - 1) / kSumTokens, heads), kSumThreads, 0,
         in.gradient.data(), static_cast<const Number*>(r.output.data()), static_cast<const float*>(r.log_sums.data()),
         tokens, heads, shape.head_dim, sums.data());
  const auto launch = [&](const char* kernel, bool of_queries) {
    const AttentionLaunch backward = AttentionGradientLaunch(head_size, kIsBFloat16<Number>, of_queries);
    const int of_heads = of_queries ? heads : key_heads;
    const float* all_sums = sums.data();
    if constexpr (kIsBFloat16<Number>) {
      Launch(name(kernel), grid(backward, of_heads), backward.threads, backward.shared_bytes, rotated.data(), values,
             value_stride, gradient, all_sums, offsets, cosine, sine, shape, r.by_qkv.data());
    } else {
      Launch(name(kernel), grid(backward, of_heads), backward.threads, backward.shared_bytes, rotated.data(), values,
             value_stride, gradient, all_sums, offsets, shape, r.by_qkv.data());
    }
  };
  launch("AttentionQueryGradient", true);
  if (kIsBFloat16<Number> && AttentionSplitsKeyGradient(head_size)) {
    launch("AttentionKeyGradient", false);
    launch("AttentionValueGradient", false);
  } else {
    launch("AttentionKeyAndValueGradient", false);
  }
  if (!kIsBFloat16<Number>)
    Launch("AttentionRotate" + type, dim3(tokens), 128, 0, static_cast<const Number*>(r.by_qkv.data()), in.width(),
           both, shape.head_dim, shape.head_dim, offsets, shape.rows, cosine, sine, -1.0f, r.by_qkv.data(), in.width());
  return r;
}

struct Expected {
  std::vector<double> output, by_qkv, log_sums;
};

// One row and head at a time. What the kernels round on the way is rounded here, too: rotated queries and keys, and the
// output that the gradient is given.
template <typename Number>
Expected Plain(const Inputs<Number>& in, const Numbers<Number>& given_output) {
  const AttentionShape& s = in.shape;
  const int D = s.head_dim, half = D / 2, H = s.heads, KV = s.key_value_heads;
  const int64_t width = in.width();
  Expected e{std::vector<double>(s.tokens * H * D), std::vector<double>(s.tokens * width),
             std::vector<double>(s.tokens * H)};
  for (int r = 0; r < s.rows; r++) {
    const int64_t base = in.offsets[r];
    const int length = in.offsets[r + 1] - in.offsets[r];
    const auto rotate = [&](const auto& numbers, double direction, auto&& store) {
      for (int t = 0; t < length; t++)
        for (int i = 0; i < half; i++) {
          const auto a = numbers(t, i), b = numbers(t, i + half);  // float, or double
          const float c = in.cosine[t * half + i], d = static_cast<float>(direction) * in.sine[t * half + i];
          store(t, i, a * c - b * d);
          store(t, i + half, b * c + a * d);
        }
    };
    const auto read = [&](int head) {
      std::vector<double> to(length * D);
      rotate([&](int t, int i) { return ToFloat(in.qkv[(base + t) * width + head * D + i]); }, 1,
             [&](int t, int i, float value) {
               Number rounded;
               Store(value, &rounded);
               to[t * D + i] = ToFloat(rounded);
             });
      return to;
    };
    for (int h = 0; h < H; h++) {
      const int kh = h / (H / KV);
      const std::vector<double> q = read(h), k = read(H + kh);
      std::vector<double> v(length * D), g(length * D), dq(length * D), dk(length * D), dv(length * D);
      for (int t = 0; t < length; t++)
        for (int i = 0; i < D; i++) {
          v[t * D + i] = ToFloat(in.qkv[(base + t) * width + (H + KV + kh) * D + i]);
          g[t * D + i] = ToFloat(in.gradient[((base + t) * H + h) * D + i]);
        }
      for (int t = 0; t < length; t++) {
        const int from = s.window == 0 ? 0 : std::max(0, t - s.window + 1);
        std::vector<double> p(t + 1), slope(t + 1);
        double total = in.sinks.empty() ? 0 : std::exp(in.sinks[h]);
        for (int j = from; j <= t; j++) {
          double score = 0;
          for (int i = 0; i < D; i++) score += q[t * D + i] * k[j * D + i];
          score *= s.scale;
          slope[j] = s.scale;
          if (s.softcap != 0) {
            const double tanh = std::tanh(score / s.softcap);
            score = s.softcap * tanh;
            slope[j] *= 1 - tanh * tanh;
          }
          total += p[j] = std::exp(score);
        }
        e.log_sums[(base + t) * H + h] = std::log(total);
        double* output = &e.output[((base + t) * H + h) * D];
        double delta = 0;
        for (int j = from; j <= t; j++) {
          p[j] /= total;
          for (int i = 0; i < D; i++) output[i] += p[j] * v[j * D + i];
        }
        for (int i = 0; i < D; i++) delta += ToFloat(given_output[((base + t) * H + h) * D + i]) * g[t * D + i];
        for (int j = from; j <= t; j++) {
          double by_weight = 0;
          for (int i = 0; i < D; i++) {
            by_weight += g[t * D + i] * v[j * D + i];
            dv[j * D + i] += p[j] * g[t * D + i];
          }
          const double by_score = slope[j] * p[j] * (by_weight - delta);
          for (int i = 0; i < D; i++) {
            dq[t * D + i] += by_score * k[j * D + i];
            dk[j * D + i] += by_score * q[t * D + i];
          }
        }
      }
      const auto add = [&](int head) {
        return [&, head](int t, int i, double value) { e.by_qkv[(base + t) * width + head * D + i] += value; };
      };
      rotate([&](int t, int i) { return dq[t * D + i]; }, -1, add(h));
      rotate([&](int t, int i) { return dk[t * D + i]; }, -1, add(H + kh));
      for (int t = 0; t < length; t++)
        for (int i = 0; i < D; i++) add(H + KV + kh)(t, i, dv[t * D + i]);
    }
  }
  return e;
}

template <typename Number>
void Check(const Case& c) {
  const Inputs<Number> in(c);
  const Results<Number> r = Compute(in, c.head_size);
  Record(r.output);
  Record(r.log_sums);
  Record(r.by_qkv);
  if (!run.compares) return;
  const Expected e = Plain(in, r.output);
  ExpectClose("output", r.output, e.output, c.head_dim, kTolerance<Number>);
  ExpectClose("log_sums", r.log_sums, e.log_sums, 1, 5e-6);
  ExpectClose("gradient", r.by_qkv, e.by_qkv, c.head_dim, kTolerance<Number>);
}

// A row's results are the same bytes whatever else is in the stream.
template <typename Number>
void CheckRowAlone(int head_size) {
  if (small) return;  // runs no code of its own
  Case c{head_size, head_size, {70, 150, 17}, 2, 1};
  const Inputs<Number> in(c);
  const Results<Number> all = Compute(in, head_size);
  c.lengths = {150};
  Inputs<Number> alone(c);
  const auto part = [](const auto& numbers, int64_t width) {
    return std::decay_t<decltype(numbers)>(numbers.begin() + 70 * width, numbers.begin() + 220 * width);
  };
  alone.qkv = part(in.qkv, in.width());
  alone.gradient = part(in.gradient, 2 * head_size);
  const Results<Number> own = Compute(alone, head_size);
  const auto same = [](const auto& a, const auto& b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
  };
  Expect(same(part(all.output, 2 * head_size), own.output), "another output among other rows");
  Expect(same(part(all.by_qkv, in.width()), own.by_qkv), "another gradient among other rows");
}

}  // namespace

// `narrow`: of the head, smaller than the kernel's.
#define ATTENTION_TESTS_OF(Type, Number, D, narrow)                                                                   \
  KERNEL_TEST(Attention##Type##Rows_##D) {                                                                            \
    if (small) return Check<Number>({D, D, {1, 64, 65}, 2, 1});                                                       \
    Check<Number>({D, D, {1, 63, 65, 128, 130}, 2, 1});                                                               \
  }                                                                                                                   \
  KERNEL_TEST(Attention##Type##Window_##D) { Check<Number>({D, D, {small ? 100 : 200, 33}, 1, 1, small ? 20 : 50}); } \
  KERNEL_TEST(Attention##Type##Cap_##D) { Check<Number>({D, D, {small ? 66 : 129}, 3, 1, 0, 3}); }                    \
  KERNEL_TEST(Attention##Type##Narrow_##D) { Check<Number>({D, narrow, {small ? 68 : 100, 2, 7}, 4, 2, 40, 5}); }     \
  KERNEL_TEST(Attention##Type##Sinks_##D) { Check<Number>({D, narrow, {small ? 66 : 129, 3}, 4, 2, 30, 0, true}); }   \
  KERNEL_TEST(Attention##Type##Alone_##D) { CheckRowAlone<Number>(D); }

#define ATTENTION_TESTS(D, narrow)              \
  ATTENTION_TESTS_OF(BFloat16, bf16, D, narrow) \
  ATTENTION_TESTS_OF(Float32, float, D, narrow)

ATTENTION_TESTS(64, 12)
ATTENTION_TESTS(80, 72)
ATTENTION_TESTS(96, 84)
ATTENTION_TESTS(128, 100)
ATTENTION_TESTS(256, 252)
ATTENTION_TESTS(512, 320)
