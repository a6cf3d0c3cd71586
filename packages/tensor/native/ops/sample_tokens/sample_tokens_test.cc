// The choice of tokens: against sorted weights and sums in the order of the tokens.
#include <algorithm>
#include <vector>

#include "cuda/test/guarded.h"
#include "ops/sample_tokens/token_draw.h"

using namespace kernel_test;

namespace {

constexpr unsigned kDrawThreads = 1024;

struct Settings {
  TokenChoice choice{-1, kLog2E, 0, kAllOfThem, 0, 1u << 31, 1, 0, 0, -1, 0};
  bool masked = false;
  int penalties = 0;
  // Of the row's logits.
  float spread = 8;
  float broken = 0;  // a number that the row has; 0: none
};

uint32_t Part(double share) { return static_cast<uint32_t>(share * 4294967296.0); }

// Each setting alone, then together.
std::vector<Settings> SettingsOf(int vocab) {
  std::vector<Settings> all(1);
  const auto add = [&]() -> Settings& { return all.emplace_back(); };
  add().choice.draw = 0;
  add().choice.draw = 0xffffffffu;
  add().choice.scale = 0;
  add().choice.scale = 1e7f;
  add().choice.scale = 0.03f;
  add().spread = 0;  // equal logits
  for (int k : {1, 5, vocab - 1, vocab}) add().choice.top_k = std::max(1, k);
  for (double p : {0.0, 0.4, 0.95}) add().choice.top_p = Part(p), all.back().choice.draw = Part(0.99);
  for (float p : {0.02f, 1.0f}) add().choice.min_p = p, all.back().choice.draw = Part(0.97);
  add().masked = true;
  add().masked = true, all.back().choice.scale = 0;
  add().penalties = std::min(vocab, 9), all.back().choice.repetition = 1.5f;
  add().penalties = std::min(vocab, 2000), all.back().choice.scale = 0;
  add().choice.scored = 1, all.back().choice.given = vocab / 2;
  add().choice.scored = 1, all.back().spread = 0;
  for (float number : {NAN, INFINITY, -INFINITY}) {
    add().broken = number, all.back().choice.scored = 1;
    add().broken = number, all.back().choice.scale = 0;
  }
  for (double draw : {0.3, 0.7, 0.99}) {
    // Nearly as probable tokens: half of five is far less than half of all.
    TokenChoice& choice = add().choice;
    choice.scale = 0.1f, choice.top_k = 5, choice.top_p = Part(0.5), choice.draw = Part(draw);
  }
  for (double draw : {0.1, 0.5, 0.9}) {
    Settings& together = add();
    together.choice = {-1, 0.7f * kLog2E, 20, Part(0.8), 0.01f, Part(draw), 1.2f, 0, 0, -1, 1};
    together.masked = true, together.penalties = std::min(vocab, 40);
  }
  return all;
}

// What the kernel should choose.
template <typename T>
int32_t Expected(const T* from, int vocab, const TokenChoice& choice, const std::vector<int32_t>& words) {
  std::vector<float> logits(vocab);
  float greatest = -INFINITY;
  for (int i = 0; i < vocab; i++) {
    logits[i] = ToFloat(from[i]);
    if (!(logits[i] < INFINITY)) return -1;
    greatest = std::max(greatest, logits[i]);
  }
  if (greatest == -INFINITY) return -1;
  if (choice.given >= 0) return choice.given;
  for (int i = 0; i < vocab && choice.mask >= 0; i++) {
    if ((words[choice.mask + i / 32] >> (i % 32) & 1) == 0) logits[i] = -INFINITY;
  }
  for (int i = 0; i < choice.penalty_count; i++) {
    float& logit = logits[words[choice.penalties + 2 * i]];
    logit = logit > 0 ? logit / choice.repetition : logit * choice.repetition;
    logit = logit - __int_as_float(words[choice.penalties + 2 * i + 1]);
  }
  const auto first = std::max_element(logits.begin(), logits.end());
  if (*first == -INFINITY) return -1;
  if (choice.scale == 0) return static_cast<int32_t>(first - logits.begin());
  std::vector<float> weights(vocab), sorted;
  for (int i = 0; i < vocab; i++) weights[i] = TokenWeight(*first - logits[i], choice.scale);
  sorted = weights;
  std::sort(sorted.rbegin(), sorted.rend());
  float least = OfBits(kLeastWeight);
  if (choice.top_k > 0 && choice.top_k < vocab) least = std::max(least, sorted[choice.top_k - 1]);
  const auto sum = [&](float from_weight) {
    uint64_t all = 0;
    for (float weight : weights) all += weight >= from_weight ? FixedWeight(weight) : 0;
    return all;
  };
  if (choice.top_p != kAllOfThem) {
    const uint64_t wanted = PartOf(sum(least), choice.top_p);
    size_t last = 0;
    for (uint64_t reached = FixedWeight(sorted[0]); reached < wanted; reached += FixedWeight(sorted[last])) last++;
    least = std::max(least, sorted[last]);
  }
  least = std::max(least, choice.min_p);
  uint64_t left = PartOf(sum(least), choice.draw);
  for (int i = 0; i < vocab; i++) {
    const uint64_t weight = weights[i] >= least ? FixedWeight(weights[i]) : 0;
    if (left < weight) return i;
    left -= weight;
  }
  return -1;
}

template <typename T>
void ExpectScores(const std::string& what, const T* from, int vocab, int top, const int32_t* result) {
  std::vector<int> order(vocab);
  for (int i = 0; i < vocab; i++) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return ToFloat(from[a]) > ToFloat(from[b]); });
  const float greatest = ToFloat(from[order[0]]);
  uint64_t sum = 0;
  double exact = 0;
  for (int i = 0; i < vocab; i++) {
    sum += FixedWeight(TokenWeight(greatest - ToFloat(from[i]), kLog2E));
    exact += std::exp(static_cast<double>(ToFloat(from[i])) - greatest);
  }
  const uint64_t found = static_cast<uint32_t>(result[1]) | static_cast<uint64_t>(result[2]) << 32;
  Expect(found == sum, what + ": the sum of all weights");
  if (!Near(exact, static_cast<double>(found) / (1ull << kWeightBits), 3e-7)) {
    Differs(what + ": the sum of exponentials", exact, static_cast<double>(found) / (1ull << kWeightBits));
  }
  Expect(__int_as_float(result[3]) == greatest - ToFloat(from[result[0]]), what + ": the token's logit");
  for (int place = 0; place < top; place++) {
    const int32_t* one = result + kResultWords + 2 * place;
    const bool exists = place < vocab && ToFloat(from[order[place]]) > -INFINITY;
    Expect(one[0] == (exists ? order[place] : -1), what + ": the most probable tokens");
    if (exists) Expect(__int_as_float(one[1]) == greatest - ToFloat(from[one[0]]), what + ": their logits");
  }
}

template <typename T>
void TestSampleTokens(int vocab, int top) {
  const std::vector<Settings> settings = SettingsOf(vocab);
  const int rows = static_cast<int>(settings.size());
  Memory<T> logits(int64_t{rows} * vocab);
  std::vector<int32_t> list(rows * kChoiceWords);
  for (int row = 0; row < rows; row++) {
    T* own = logits.data() + int64_t{row} * vocab;
    for (int i = 0; i < vocab; i++) Store(settings[row].spread * Random(), &own[i]);
    // Equal greatest ones, and one that is never drawn.
    if (vocab > 8) own[vocab / 3] = own[vocab - 2], Store(-INFINITY, &own[1]);
    if (settings[row].broken != 0) Store(settings[row].broken, &own[vocab - 1]);
    if (settings[row].broken < 0) std::fill(own, own + vocab, own[vocab - 1]);
    TokenChoice choice = settings[row].choice;
    choice.penalties = static_cast<int32_t>(list.size());
    choice.penalty_count = settings[row].penalties;
    for (int i = 0; i < choice.penalty_count; i++) {
      list.push_back(static_cast<int32_t>(int64_t{i} * vocab / choice.penalty_count));
      list.push_back(__float_as_int(0.5f * static_cast<float>(i % 5)));
    }
    if (settings[row].masked) {
      choice.mask = static_cast<int32_t>(list.size());
      for (int word = 0; word < (vocab + 31) / 32; word++)
        list.push_back(static_cast<int32_t>(0x5b6db6d1u >> word % 7));
    }
    std::memcpy(list.data() + row * kChoiceWords, &choice, sizeof(choice));
  }
  Memory<int32_t> words(static_cast<int64_t>(list.size()));
  std::copy(list.begin(), list.end(), words.data());
  Memory<int32_t> results(int64_t{rows} * (kResultWords + 2 * top));
  {
    Numbers<float> scratch = Unwritten<float>(static_cast<size_t>(rows) * vocab);
    Launch("SampleTokens" + kTypeName<T>, dim3(rows), kDrawThreads, 0, static_cast<const T*>(logits.data()),
           static_cast<const int32_t*>(words.data()), vocab, top, scratch.data(), results.data());
  }
  for (int row = 0; row < rows; row++) {
    TokenChoice choice;
    std::memcpy(&choice, list.data() + row * kChoiceWords, sizeof(choice));
    const T* from = logits.data() + int64_t{row} * vocab;
    const int32_t* result = results.data() + row * (kResultWords + 2 * top);
    const std::string what = "row " + std::to_string(row) + " of " + std::to_string(vocab) + " tokens";
    const int32_t expected = Expected(from, vocab, choice, list);
    if (result[0] != expected) Differs(what, expected, result[0]);
    if (expected >= 0 && choice.scored != 0) {
      ExpectScores(what, from, vocab, top, result);
    } else {
      for (int i = 1; i < kResultWords + 2 * top; i++) Expect(result[i] == 0, what + ": words without a meaning");
    }
  }
}

template <typename T>
void TestVocabularies() {
  // One more than a part of each warp, so that the last token is in a part of its own.
  for (int vocab : {1, 33, 1025}) {
    if (!small || vocab == 1025) TestSampleTokens<T>(vocab, vocab == 33 ? 0 : 3);
  }
}

// The polynomial is right to 2^-23, and what is too small for a weight is 0.
void TestWeights() {
  for (float below = 0; below < 60; below += 0.00731f) {
    const double exact = std::exp2(-static_cast<double>(below * 1.25f));
    const float weight = TokenWeight(below, 1.25f);
    if (below * 1.25f < kWeightBits) {
      if (!Near(exact, weight, 1.0 / (1 << 23))) Differs("the weight at " + std::to_string(below), exact, weight);
      Expect(FixedWeight(weight) == static_cast<uint64_t>(std::ldexp(weight, kWeightBits)), "a weight in units");
    } else {
      Expect(weight == 0 && FixedWeight(weight) == 0, "a weight that is too small");
    }
  }
  Expect(TokenWeight(INFINITY, 1e-37f) == 0 && TokenWeight(INFINITY, 1) == 0, "the weight of -infinity");
  Expect(FixedWeight(1) == uint64_t{1} << kWeightBits, "the greatest weight");
  const uint64_t sum = (uint64_t{1} << 61) + 987'654'321'123;
  const uint64_t exact = static_cast<uint64_t>(static_cast<unsigned __int128>(sum) * 0xfedcba98u >> 32);
  Expect(PartOf(sum, 0xfedcba98u) == exact, "a part of a sum");
}

}  // namespace

KERNEL_TEST(SampleTokensFloat32) { TestVocabularies<float>(); }
KERNEL_TEST(SampleTokensBFloat16) { TestVocabularies<bf16>(); }
KERNEL_TEST(TokenWeights) { TestWeights(); }
