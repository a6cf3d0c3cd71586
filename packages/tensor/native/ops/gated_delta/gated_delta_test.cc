// The causal convolution and the gated delta rule, against loops in double precision that go through each row token by
// token, forward and back.
#include "cuda/test/kernel_test.h"
#include "ops/causal_convolution/causal_convolution_shape.h"
#include "ops/gated_delta/gated_delta_shape.h"

using namespace kernel_test;

namespace {

template <typename Number>
constexpr bool kIsBFloat16 = sizeof(Number) == 2;

// Of the length of a vector. bfloat16 results are rounded once, by up to 2^-8 of each number.
template <typename Number>
constexpr double kTolerance = kIsBFloat16<Number> ? 1.0 / 256 : 2e-6;

template <typename Number>
const std::string kType = kIsBFloat16<Number> ? "BFloat16" : "Float32";

Numbers<int32_t> OffsetsOf(const std::vector<int>& lengths) {
  Numbers<int32_t> offsets{0};
  for (int length : lengths) offsets.push_back(offsets.back() + length);
  return offsets;
}

unsigned Blocks(int64_t count, int64_t of) { return static_cast<unsigned>((count + of - 1) / of); }

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Tokens of all rows that are those of row `row` alone.
template <typename Number>
Numbers<Number> PartOf(const Numbers<Number>& all, const Numbers<int32_t>& offsets, int row) {
  const int64_t width = static_cast<int64_t>(all.size()) / offsets.back();
  return {all.begin() + offsets[row] * width, all.begin() + offsets[row + 1] * width};
}

template <typename Number>
void ExpectSame(const char* what, const Numbers<Number>& a, const Numbers<Number>& b) {
  Expect(a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(Number)) == 0, what);
}

// ---------------------------------------------------------------------------------------------------------------------

template <typename Number>
struct Convolution {
  Numbers<Number> output, by_x;
};

template <typename Number>
Convolution<Number> Convolve(const Numbers<Number>& x, const Numbers<Number>& gradient, const Numbers<float>& weight,
                             const Numbers<int32_t>& offsets, const Numbers<Number>& before, int64_t taps) {
  const int64_t tokens = offsets.back(), channels = static_cast<int64_t>(weight.size()) / taps;
  const ConvolutionShape shape{tokens, channels, static_cast<int>(offsets.size()) - 1, static_cast<int>(taps)};
  const dim3 grid(Blocks(tokens, kConvolutionTokens), Blocks(channels, kConvolutionThreads));
  Convolution<Number> r{Unwritten<Number>(tokens * channels), Unwritten<Number>(tokens * channels)};
  const Number* of_before = before.empty() ? nullptr : before.data();
  Launch("CausalConvolution" + kType<Number>, grid, kConvolutionThreads, 0, x.data(), weight.data(), offsets.data(),
         shape, of_before, r.output.data());
  Launch("CausalConvolutionGradient" + kType<Number>, grid, kConvolutionThreads, 0, gradient.data(), x.data(),
         weight.data(), offsets.data(), shape, r.by_x.data());
  return r;
}

template <typename Number>
void TestConvolution(const std::vector<int>& lengths, int64_t channels, int64_t taps, bool has_before) {
  const Numbers<int32_t> offsets = OffsetsOf(lengths);
  const int64_t tokens = offsets.back(), earlier = taps - 1;
  const Numbers<Number> x = Randoms<Number>(tokens * channels, 2), gradient = Randoms<Number>(tokens * channels);
  const Numbers<float> weight = Randoms<float>(channels * taps);
  const Numbers<Number> before = has_before ? Randoms<Number>(lengths.size() * earlier * channels) : Numbers<Number>();
  const Convolution<Number> r = Convolve(x, gradient, weight, offsets, before, taps);
  Record(r.output);
  Record(r.by_x);
  if (!run.compares) return;
  std::vector<double> output(tokens * channels), by_x(tokens * channels);
  for (size_t row = 0; row < lengths.size(); row++) {
    for (int64_t channel = 0; channel < channels; channel++) {
      const auto read = [&](int position, bool reads_before) -> double {
        if (position >= 0) return ToFloat(x[(offsets[row] + position) * channels + channel]);
        if (!reads_before) return 0;
        return ToFloat(before[(row * earlier + earlier + position) * channels + channel]);
      };
      for (int t = 0; t < lengths[row]; t++) {
        const int64_t at = (offsets[row] + t) * channels + channel;
        double sum = 0, sum_of_row = 0;
        for (int64_t tap = 0; tap < taps; tap++) {
          const int from = t - static_cast<int>(taps - 1 - tap);
          sum += weight[channel * taps + tap] * read(from, has_before);
          sum_of_row += weight[channel * taps + tap] * read(from, false);
        }
        output[at] = sum * Sigmoid(sum);
        const double sigmoid = Sigmoid(sum_of_row);
        const double by_sum = ToFloat(gradient[at]) * (sigmoid + sum_of_row * sigmoid * (1 - sigmoid));
        for (int64_t tap = 0; tap < taps; tap++) {
          const int from = t - static_cast<int>(taps - 1 - tap);
          if (from >= 0) by_x[(offsets[row] + from) * channels + channel] += weight[channel * taps + tap] * by_sum;
        }
      }
    }
  }
  ExpectClose("output", r.output, output, channels, kTolerance<Number>);
  ExpectClose("gradient", r.by_x, by_x, channels, kTolerance<Number>);
  if (small || has_before) return;
  for (size_t row = 0; row < lengths.size(); row++) {
    const Convolution<Number> own =
        Convolve(PartOf(x, offsets, row), PartOf(gradient, offsets, row), weight, OffsetsOf({lengths[row]}), {}, taps);
    ExpectSame("another output among other rows", own.output, PartOf(r.output, offsets, row));
    ExpectSame("another gradient among other rows", own.by_x, PartOf(r.by_x, offsets, row));
  }
}

template <typename Number>
void TestConvolutions() {
  TestConvolution<Number>({1, 3, 21, 2, 16, 17}, 130, 4, false);
  TestConvolution<Number>({1, 2, 20}, 5, 4, true);
  TestConvolution<Number>({2, 19}, 3, 8, false);
  TestConvolution<Number>({2, 9}, 3, 8, true);
  TestConvolution<Number>({5}, 7, 1, false);
}

// ---------------------------------------------------------------------------------------------------------------------

struct Heads {
  int keys, values, key_size, value_size;
};

template <typename Number>
struct DeltaInputs {
  Heads heads;
  Numbers<int32_t> offsets;
  Numbers<Number> qkv, ba, gradient;
  Numbers<float> a_log, dt_bias, before;

  int64_t tokens() const { return offsets.back(); }
  int64_t width() const { return 2 * heads.keys * heads.key_size + heads.values * heads.value_size; }
};

// Decays of a token from 0.999, so that a state reaches through several chunks, to next to nothing.
template <typename Number>
DeltaInputs<Number> InputsOf(const Heads& heads, const std::vector<int>& lengths) {
  DeltaInputs<Number> in{heads, OffsetsOf(lengths), {}, {}, {}, {}, {}, {}};
  in.qkv = Randoms<Number>(in.tokens() * in.width());
  in.ba = Randoms<Number>(in.tokens() * 2 * heads.values, 2);
  in.gradient = Randoms<Number>(in.tokens() * heads.values * heads.value_size);
  for (int head = 0; head < heads.values; head++) in.a_log.push_back(-6 + 2.5f * static_cast<float>(head % 4));
  in.dt_bias = Randoms<float>(heads.values);
  in.before = Randoms<float>(lengths.size() * heads.values * heads.key_size * heads.value_size);
  return in;
}

template <typename Number>
struct DeltaResults {
  Numbers<Number> output, by_qkv, by_ba;
};

// `before`: null, or the states before the rows; then there is no backward pass. `last`: null, or to where.
template <typename Number>
DeltaResults<Number> Compute(const DeltaInputs<Number>& in, int D, const float* before, float* last) {
  const Heads& h = in.heads;
  const int64_t tokens = in.tokens(), rows = static_cast<int64_t>(in.offsets.size()) - 1;
  const DeltaShape shape{tokens, in.width(), static_cast<int>(rows), h.keys, h.values, h.key_size, h.value_size};
  const auto name = [&](const char* kernel) {
    return std::string("GatedDelta") + kernel + kType<Number> + "_" + std::to_string(D);
  };
  Numbers<float> of_query = Unwritten<float>(tokens * h.keys * D), of_key = Unwritten<float>(tokens * h.keys * D);
  Numbers<float> of_gate = Unwritten<float>(tokens * h.values), of_beta = Unwritten<float>(tokens * h.values);
  const float *query = of_query.data(), *key = of_key.data(), *gate = of_gate.data(), *beta = of_beta.data();
  const int32_t* offsets = in.offsets.data();
  const auto of_tokens = dim3(tokens);
  Launch("GatedDeltaPrepare" + kType<Number>, of_tokens, kDeltaTokenThreads, 0, in.qkv.data(), in.ba.data(),
         in.a_log.data(), in.dt_bias.data(), shape, D, of_query.data(), of_key.data(), of_gate.data(), of_beta.data());
  const int64_t states = tokens / kRowTile * h.values * D * D;
  DeltaResults<Number> r{Unwritten<Number>(tokens * h.values * h.value_size), Unwritten<Number>(tokens * in.width()),
                         Unwritten<Number>(tokens * 2 * h.values)};
  Numbers<float> kept = Unwritten<float>(states), ends = Unwritten<float>(states);
  const bool records = before == nullptr;
  const unsigned columns = records ? D / kDeltaColumns : Blocks(h.value_size, kDeltaColumns);
  Launch(name(""), dim3(rows, h.values, columns), kDeltaSweepThreads, 0, in.qkv.data(), query, key, gate, beta, offsets,
         shape, before, r.output.data(), records ? kept.data() : nullptr, last);
  if (!records) return r;
  const int64_t numbers = tokens * h.values * D;
  Numbers<float> by_output = Unwritten<float>(numbers), errors = Unwritten<float>(numbers),
                 by_delta = Unwritten<float>(numbers);
  Launch("GatedDeltaSpread" + kType<Number>, of_tokens, kDeltaTokenThreads, 0, in.gradient.data(), shape, D,
         by_output.data());
  const dim3 chunks(static_cast<unsigned>(RowSlots(tokens, rows)), h.values);
  const float *of_kept = kept.data(), *of_ends = ends.data(), *of_by_delta = by_delta.data();
  Launch(name("Errors"), dim3(chunks.x, h.values, columns), kDeltaSweepThreads, 0, in.qkv.data(), query, key, gate,
         beta, offsets, shape, of_kept, errors.data());
  Launch(name("Backward"), dim3(rows, h.values, columns), kDeltaSweepThreads, 0, query, key, gate, beta,
         static_cast<const float*>(by_output.data()), offsets, shape, by_delta.data(), ends.data(), r.by_qkv.data());
  Launch(name("Chunk"), chunks, kDeltaChunkThreads, 0, query, key, gate, beta, in.ba.data(), in.a_log.data(),
         in.dt_bias.data(), offsets, shape, of_kept, of_ends, of_by_delta, by_output.data(), errors.data(),
         r.by_ba.data());
  Launch("GatedDeltaByVectors" + kType<Number>, of_tokens, kDeltaTokenThreads, 0, in.qkv.data(),
         static_cast<const float*>(by_output.data()), static_cast<const float*>(errors.data()), shape, D,
         r.by_qkv.data());
  return r;
}

struct DeltaExpected {
  std::vector<double> output, last, by_qkv, by_ba;
};

using Vec = std::vector<double>;

double Dot(const Vec& a, const Vec& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += a[i] * b[i];
  return sum;
}

// Sᵀx and Sx of S [rows, columns].
Vec Transposed(const Vec& s, const Vec& x, int columns) {
  Vec y(columns);
  for (size_t i = 0; i < x.size(); i++)
    for (int j = 0; j < columns; j++) y[j] += s[i * columns + j] * x[i];
  return y;
}
Vec Times(const Vec& s, const Vec& x) {
  Vec y(s.size() / x.size());
  for (size_t i = 0; i < y.size(); i++)
    for (size_t j = 0; j < x.size(); j++) y[i] += s[i * x.size() + j] * x[j];
  return y;
}
void AddOuter(Vec& s, const Vec& a, const Vec& b, double factor) {
  for (size_t i = 0; i < a.size(); i++)
    for (size_t j = 0; j < b.size(); j++) s[i * b.size() + j] += factor * a[i] * b[j];
}

template <typename Number>
DeltaExpected Plain(const DeltaInputs<Number>& in, bool has_before) {
  const auto [keys, values, K, V] = in.heads;
  const int64_t width = in.width(), size = K * V;
  DeltaExpected e{Vec(in.tokens() * values * V), Vec((in.offsets.size() - 1) * values * size), Vec(in.tokens() * width),
                  Vec(in.tokens() * 2 * values)};
  for (size_t row = 0; row + 1 < in.offsets.size(); row++) {
    const int length = in.offsets[row + 1] - in.offsets[row];
    for (int head = 0; head < values; head++) {
      const int key_head = head / (values / keys);
      const int64_t base = in.offsets[row], of_state = (row * values + head) * size;
      const auto numbers = [&](const Numbers<Number>& from, int64_t at, int count) {
        Vec vector(count);
        for (int i = 0; i < count; i++) vector[i] = ToFloat(from[at + i]);
        return vector;
      };
      const auto query_at = [&](int t) { return (base + t) * width + key_head * K; };
      const auto key_at = [&](int t) { return query_at(t) + keys * K; };
      const auto value_at = [&](int t) { return (base + t) * width + 2 * keys * K + head * V; };
      const auto ba_at = [&](int t) { return (base + t) * 2 * values + head; };
      const auto inverse = [](const Vec& x) { return 1 / std::sqrt(Dot(x, x) + 1e-6); };
      std::vector<Vec> q(length), k(length), errors(length), states(length + 1, Vec(size));
      Vec beta(length), gate(length);
      for (int64_t i = 0; has_before && i < size; i++) states[0][i] = in.before[of_state + i];
      for (int t = 0; t < length; t++) {
        q[t] = numbers(in.qkv, query_at(t), K), k[t] = numbers(in.qkv, key_at(t), K);
        const double of_query = inverse(q[t]) / std::sqrt(K), of_key = inverse(k[t]);
        for (int i = 0; i < K; i++) q[t][i] *= of_query, k[t][i] *= of_key;
        beta[t] = Sigmoid(ToFloat(in.ba[ba_at(t)]));
        const double a = static_cast<double>(ToFloat(in.ba[ba_at(t) + values])) + in.dt_bias[head];
        gate[t] = -std::exp(static_cast<double>(in.a_log[head])) * std::log1p(std::exp(a));
        Vec& s = states[t + 1];
        s = states[t];
        for (double& number : s) number *= std::exp(gate[t]);
        errors[t] = numbers(in.qkv, value_at(t), V);
        const Vec recalled = Transposed(s, k[t], V);
        for (int j = 0; j < V; j++) errors[t][j] -= recalled[j];
        AddOuter(s, k[t], errors[t], beta[t]);
        const Vec output = Transposed(s, q[t], V);
        std::copy(output.begin(), output.end(), &e.output[((base + t) * values + head) * V]);
      }
      std::copy(states[length].begin(), states[length].end(), &e.last[of_state]);
      Vec by_state(size);
      for (int t = length - 1; t >= 0; t--) {
        const Vec by_output = numbers(in.gradient, ((base + t) * values + head) * V, V);
        Vec by_query = Times(states[t + 1], by_output);
        AddOuter(by_state, q[t], by_output, 1);
        Vec by_delta = Transposed(by_state, k[t], V), delta = errors[t];
        for (double& number : delta) number *= beta[t];
        Vec by_key = Times(by_state, delta);
        const double by_beta = Dot(by_delta, errors[t]);
        for (double& number : by_delta) number *= beta[t];  // now by v
        for (int j = 0; j < V; j++) e.by_qkv[value_at(t) + j] = by_delta[j];
        Vec decayed = states[t];
        for (double& number : decayed) number *= std::exp(gate[t]);
        const Vec by_recall = Times(decayed, by_delta);
        for (int i = 0; i < K; i++) by_key[i] -= by_recall[i];
        AddOuter(by_state, k[t], by_delta, -1);
        const double by_gate = Dot(by_state, decayed);
        for (double& number : by_state) number *= std::exp(gate[t]);
        const auto by_vector = [&](int64_t at, const Vec& by, double scale) {
          const Vec x = numbers(in.qkv, at, K);
          const double inverse_length = inverse(x), along = Dot(x, by) * inverse_length * inverse_length;
          for (int i = 0; i < K; i++) e.by_qkv[at + i] += (by[i] - x[i] * along) * inverse_length * scale;
        };
        by_vector(query_at(t), by_query, 1 / std::sqrt(K));
        by_vector(key_at(t), by_key, 1);
        const double a = static_cast<double>(ToFloat(in.ba[ba_at(t) + values])) + in.dt_bias[head];
        e.by_ba[ba_at(t)] = by_beta * beta[t] * (1 - beta[t]);
        e.by_ba[ba_at(t) + values] = -by_gate * std::exp(static_cast<double>(in.a_log[head])) * Sigmoid(a);
      }
    }
  }
  return e;
}

template <typename Number>
void TestDelta(const Heads& heads, const std::vector<int>& lengths, int D) {
  const DeltaInputs<Number> in = InputsOf<Number>(heads, lengths);
  const int V = heads.value_size;
  const DeltaResults<Number> r = Compute(in, D, nullptr, nullptr);
  Numbers<float> last = Unwritten<float>(in.before.size());
  const DeltaResults<Number> continued = Compute(in, D, in.before.data(), last.data());
  for (const Numbers<Number>* result : {&r.output, &r.by_qkv, &r.by_ba, &continued.output}) Record(*result);
  Record(last);
  if (!run.compares) return;
  const DeltaExpected zeros = Plain(in, false), e = Plain(in, true);
  ExpectClose("output", r.output, zeros.output, V, kTolerance<Number>);
  ExpectClose("gradient by qkv", r.by_qkv, zeros.by_qkv, in.width(), kTolerance<Number>);
  ExpectClose("gradient by b and a", r.by_ba, zeros.by_ba, 2 * heads.values, 2 * kTolerance<Number>);
  ExpectClose("output after a state", continued.output, e.output, V, kTolerance<Number>);
  ExpectClose("last state", last, e.last, V, kTolerance<float>);
  if (small) return;
  for (size_t row = 0; row < lengths.size(); row++) {
    DeltaInputs<Number> alone = in;
    alone.offsets = OffsetsOf({lengths[row]});
    alone.qkv = PartOf(in.qkv, in.offsets, row), alone.ba = PartOf(in.ba, in.offsets, row);
    alone.gradient = PartOf(in.gradient, in.offsets, row);
    const DeltaResults<Number> own = Compute(alone, D, nullptr, nullptr);
    ExpectSame("another output among other rows", own.output, PartOf(r.output, in.offsets, row));
    ExpectSame("another gradient by qkv among other rows", own.by_qkv, PartOf(r.by_qkv, in.offsets, row));
    ExpectSame("another gradient by b and a among other rows", own.by_ba, PartOf(r.by_ba, in.offsets, row));
  }
}

// A text that is read in pieces has the bytes of one that is read at once.
template <typename Number>
void TestPieces(int D) {
  if (small || !run.compares) return;  // runs no code of its own
  DeltaInputs<Number> in = InputsOf<Number>({1, 2, 12, 21}, {70});
  std::fill(in.before.begin(), in.before.end(), 0.0f);
  const DeltaResults<Number> whole = Compute(in, D, in.before.data(), nullptr);
  Numbers<float> state = in.before;
  const Numbers<int32_t> ends{0, 1, 17, 66, 70};
  for (int piece = 0; piece < 4; piece++) {
    DeltaInputs<Number> part = in;
    part.offsets = OffsetsOf({ends[piece + 1] - ends[piece]});
    part.qkv = PartOf(in.qkv, ends, piece), part.ba = PartOf(in.ba, ends, piece);
    Numbers<float> last = Unwritten<float>(state.size());
    const DeltaResults<Number> own = Compute(part, D, state.data(), last.data());
    ExpectSame("another output in pieces", own.output, PartOf(whole.output, ends, piece));
    state = last;
  }
}

}  // namespace

#define LINEAR_ATTENTION_TESTS(Type, Number)                                                               \
  KERNEL_TEST(CausalConvolution##Type) { TestConvolutions<Number>(); }                                     \
  KERNEL_TEST(GatedDelta##Type##_64) {                                                                     \
    if (small) return TestDelta<Number>({1, 2, 12, 21}, {130, 3}, 64);                                     \
    TestDelta<Number>({2, 4, 12, 21}, {1, 3, 5, 63, 64, 65, 130}, 64);                                     \
  }                                                                                                        \
  KERNEL_TEST(GatedDelta##Type##Whole_64) { TestDelta<Number>({1, 3, 64, 64}, {small ? 1 : 129, 2}, 64); } \
  KERNEL_TEST(GatedDelta##Type##_128) { TestDelta<Number>({1, 1, 128, 128}, {130}, 128); }                 \
  KERNEL_TEST(GatedDelta##Type##Narrow_128) { TestDelta<Number>({1, 2, 68, 33}, {65}, 128); }              \
  KERNEL_TEST(GatedDelta##Type##Pieces_64) { TestPieces<Number>(64); }

LINEAR_ATTENTION_TESTS(Float32, float)
LINEAR_ATTENTION_TESTS(BFloat16, bf16)
