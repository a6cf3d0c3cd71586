// The next token of some texts, from the logits of each and one number that is drawn for it.
//
// The weight of a token is exp((logit - greatest logit) / temperature) = 2^-x. The exponent x is rounded to float32
// three times, and 2^-x is one polynomial, right to 2^-23 (token_draw.h). It is rounded down to a multiple
// of 2^-40: a whole number. Sums of whole numbers are exact, so they do not depend on their order, and neither does a
// token: every device and the plain variant choose the same for the same logits. Of an exact softmax the probability of
// a token differs by at most (1 + x) 2^-22 of itself, which is less than 2^-16, and 2^-40 of the greatest one.
//
// 1. Logits with penalties, and only those of allowed tokens. Without a temperature: the first of the greatest ones.
// 2. top_k: the least of the `top_k` greatest weights is the threshold, so as probable tokens are kept.
// 3. top_p: of what is kept, the greatest threshold above which the sum is at least `top_p` of theirs.
// 4. min_p: weights of at least `min_p` times the greatest.
// 5. In the order of the tokens, the first at which the sum of the kept weights exceeds `draw` times all of theirs.
//
// The log-probability is that of the logits as they are, at temperature 1. A row with a NaN or an infinite logit, but
// -infinity, has no token; nor one without an allowed token above -infinity.
#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/parallel.h"
#include "ops/sample_tokens/sample_tokens_operands.h"

namespace lorasmith {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Tokens whose weights are summed at once while the drawn one is looked for.
constexpr int64_t kWalked = 1024;

struct Greatest {
  float logit;
  int64_t id;  // -1: a number is not finite, or there is none above -infinity
};

template <typename Number>
Greatest FirstGreatest(const Number* logits, int64_t vocab) {
  float greatest = -kInfinity;
  int broken = 0;
#pragma omp simd reduction(max : greatest) reduction(| : broken)
  for (int64_t i = 0; i < vocab; i++) {
    const float logit = ToFloat(logits[i]);
    greatest = logit > greatest ? logit : greatest;
    broken |= logit < kInfinity ? 0 : 1;
  }
  if (broken != 0 || greatest == -kInfinity) return {greatest, -1};
  int64_t id = 0;
  while (ToFloat(logits[id]) != greatest) id++;
  return {greatest, id};
}

// Weights of all tokens, and their sum.
template <typename Number>
uint64_t Weigh(const Number* logits, int64_t vocab, float greatest, float scale, float* weights) {
  uint64_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < vocab; i++) {
    const float weight = TokenWeight(Less(greatest, ToFloat(logits[i])), scale);
    weights[i] = weight;
    sum += FixedWeight(weight);
  }
  return sum;
}

// Only their sum.
template <typename Number>
uint64_t SumOfAll(const Number* logits, int64_t vocab, float greatest, float scale) {
  uint64_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < vocab; i++) sum += FixedWeight(TokenWeight(Less(greatest, ToFloat(logits[i])), scale));
  return sum;
}

// The sum of the weights of at least `least`.
uint64_t Sum(const float* weights, int64_t size, float least) {
  uint64_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; i++) sum += weights[i] >= least ? FixedWeight(weights[i]) : 0;
  return sum;
}

// How many weights are at least `least`.
uint64_t Count(const float* weights, int64_t size, float least) {
  uint32_t count = 0;
#pragma omp simd reduction(+ : count)
  for (int64_t i = 0; i < size; i++) count += weights[i] >= least ? 1 : 0;
  return count;
}

// The weights within [least, above), in their order.
void KeepBetween(std::vector<float>* weights, float least, float above) {
  float* const begin = weights->data();
  float* to = begin;
  for (const float weight : *weights) {
    *to = weight;
    to += weight >= least && weight < above;
  }
  weights->resize(to - begin);
}

// The greatest weight such that those of at least it are `wanted`, or together reach it, found by bisection of its
// bits; the least weight of all if none is.
template <typename Measure>
float Threshold(const float* weights, int64_t vocab, uint64_t wanted, Measure measure) {
  thread_local std::vector<float> candidates;
  candidates.assign(weights, weights + vocab);
  uint32_t low = kLeastWeight, high = kGreatestWeight + 1;
  uint64_t above = 0;  // of the weights that are no candidates any more since they are too great
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    const float least = OfBits(middle);
    const uint64_t found = above + measure(candidates.data(), static_cast<int64_t>(candidates.size()), least);
    if (found >= wanted) {
      low = middle;
    } else {
      above = found;
      high = middle;
    }
    KeepBetween(&candidates, OfBits(low), OfBits(high));
  }
  return OfBits(low);
}

// The token at which the sum of the weights of at least `least` exceeds `target`.
int64_t Walk(const float* weights, int64_t vocab, float least, uint64_t target) {
  int64_t begin = 0;
  for (; begin + kWalked < vocab; begin += kWalked) {
    const uint64_t sum = Sum(weights + begin, kWalked, least);
    if (target < sum) break;
    target -= sum;
  }
  for (int64_t i = begin; i < vocab; i++) {
    const uint64_t weight = weights[i] >= least ? FixedWeight(weights[i]) : 0;
    if (target < weight) return i;
    target -= weight;
  }
  return -1;
}

template <typename Number>
int64_t Draw(const Number* logits, int64_t vocab, float greatest, const TokenChoice& choice, float* weights) {
  uint64_t sum = Weigh(logits, vocab, greatest, choice.scale, weights);
  float least = OfBits(kLeastWeight);
  if (choice.top_k > 0 && choice.top_k < vocab) {
    least = Threshold(weights, vocab, static_cast<uint64_t>(choice.top_k), Count);
    sum = Sum(weights, vocab, least);
  }
  if (choice.top_p != kAllOfThem) least = std::max(least, Threshold(weights, vocab, PartOf(sum, choice.top_p), Sum));
  least = std::max(least, choice.min_p);
  return Walk(weights, vocab, least, PartOf(Sum(weights, vocab, least), choice.draw));
}

// Logits with penalties, -infinity for tokens that are not allowed.
template <typename Number>
void Adjust(const Number* logits, int64_t vocab, const TokenChoice& choice, const int32_t* words, float* adjusted) {
  const uint32_t* mask = reinterpret_cast<const uint32_t*>(words) + choice.mask;
  for (int64_t i = 0; i < vocab; i++) {
    const bool allowed = choice.mask < 0 || (mask[i / 32] >> (i % 32) & 1) != 0;
    adjusted[i] = allowed ? ToFloat(logits[i]) : -kInfinity;
  }
  const int32_t* list = words + choice.penalties;
  for (int64_t i = 0; i < choice.penalty_count; i++) {
    float* logit = adjusted + list[2 * i];
    *logit = Penalised(*logit, choice.repetition, OfBits(static_cast<uint32_t>(list[2 * i + 1])));
  }
}

template <typename Number>
int64_t Choose(const Number* logits, int64_t vocab, Greatest greatest, const TokenChoice& choice,
               const int32_t* words) {
  if (choice.given >= 0) return choice.given;
  thread_local std::vector<float> adjusted, weights;
  const bool draws = choice.scale != 0;
  if (draws) weights.resize(vocab);
  if (choice.mask < 0 && choice.penalty_count == 0) {
    return draws ? Draw(logits, vocab, greatest.logit, choice, weights.data()) : greatest.id;
  }
  adjusted.resize(vocab);
  Adjust(logits, vocab, choice, words, adjusted.data());
  const Greatest allowed = FirstGreatest(adjusted.data(), vocab);
  if (allowed.id < 0 || !draws) return allowed.id;
  return Draw(adjusted.data(), vocab, allowed.logit, choice, weights.data());
}

// What log-probabilities are made of: see kResultWords.
template <typename Number>
void Score(const Number* logits, int64_t vocab, float greatest, int64_t top, int32_t* result) {
  const uint64_t sum = SumOfAll(logits, vocab, greatest, kLog2E);
  result[1] = static_cast<int32_t>(sum);
  result[2] = static_cast<int32_t>(sum >> 32);
  result[3] = static_cast<int32_t>(BitsOf(Less(greatest, ToFloat(logits[result[0]]))));
  Greatest last{kInfinity, -1};
  for (int64_t place = 0; place < top; place++) {
    Greatest next{-kInfinity, -1};
    for (int64_t i = 0; i < vocab; i++) {
      const float logit = ToFloat(logits[i]);
      const bool follows = logit < last.logit || (logit == last.logit && i > last.id);
      if (follows && logit > next.logit) next = {logit, i};
    }
    result[kResultWords + 2 * place] = static_cast<int32_t>(next.id);
    result[kResultWords + 2 * place + 1] = static_cast<int32_t>(BitsOf(Less(greatest, next.logit)));
    last = next;
  }
}

// Whether what a choice names is in the input and in the vocabulary.
bool Fits(const TokenChoice& choice, const int32_t* words, int64_t count, int64_t vocab) {
  const int64_t first = choice.penalties, tokens = choice.penalty_count;
  if (choice.given < -1 || choice.given >= vocab || choice.top_k < 0) return false;
  if (choice.mask < -1 || (choice.mask >= 0 && choice.mask + (vocab + 31) / 32 > count)) return false;
  if (tokens < 0 || first < 0 || first + 2 * tokens > count) return false;
  for (int64_t i = 0; i < tokens; i++) {
    if (words[first + 2 * i] < 0 || words[first + 2 * i] >= vocab) return false;
  }
  return true;
}

template <typename Number>
struct SampleTokens {
  explicit SampleTokens(const Attributes& attributes) : top(attributes.Int("top")) {}

  void Compute(Context& context) const {
    const SampleTokensOperands<Number> o(context, top);
    if (context.failed()) return;
    const TokenChoice* choices = reinterpret_cast<const TokenChoice*>(o.choices);
    for (int64_t row = 0; row < o.rows; row++) {
      const bool fits = Fits(choices[row], o.choices, o.words, o.vocab);
      if (!context.Check(fits, "a choice names words or tokens that do not exist")) return;
    }
    ParallelFor(o.rows, [&](int64_t row) {
      const Number* logits = o.logits + row * o.vocab;
      const TokenChoice& choice = choices[row];
      int32_t* result = o.results + row * (kResultWords + 2 * top);
      std::fill(result, result + kResultWords + 2 * top, 0);
      const Greatest greatest = FirstGreatest(logits, o.vocab);
      const int64_t id = greatest.id < 0 ? -1 : Choose(logits, o.vocab, greatest, choice, o.choices);
      result[0] = static_cast<int32_t>(id);
      if (id >= 0 && choice.scored != 0) Score(logits, o.vocab, greatest.logit, top, result);
    });
  }

  int64_t top;
};

}  // namespace

std::vector<OpDefinition> SampleTokensOps() {
  return {
      {"LorasmithSampleTokens",
       {"logits: T", "choices: int32"},
       {"results: int32"},
       {"top: int"},
       CpuKernels<SampleTokens>()},
  };
}

}  // namespace lorasmith
