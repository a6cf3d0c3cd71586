// The arithmetic of a drawn token, the same bits on every device: see sample_tokens.cc.
//
// Each operation is rounded by itself to float32, so no product and sum may become one instruction. TypeScript computes
// the same (src/kernels/token-weights.ts).
#pragma once

#include "cuda/kernels/portable.h"

// How one text's next token is chosen: words of the op's input `choices`.
struct TokenChoice {
  int32_t given;          // the token that is there already; -1: it is chosen
  float scale;            // log2(e) / temperature; 0: the most probable token
  int32_t top_k;          // 0: all
  uint32_t top_p;         // in units of 2^-32; kAllOfThem: all
  float min_p;            // 0: all
  uint32_t draw;          // in units of 2^-32
  float repetition;       // the penalty of the listed tokens; 1: none
  int32_t penalties;      // the first word of the list: pairs of a token and what is subtracted from its logit
  int32_t penalty_count;  // tokens in the list, each once
  int32_t mask;           // the first word of a bit for each token; -1: all are allowed
  int32_t scored;         // 1: log-probabilities are wanted
};

constexpr int kChoiceWords = 11;
static_assert(sizeof(TokenChoice) == kChoiceWords * sizeof(int32_t), "words of the input are read as a choice");

constexpr uint32_t kAllOfThem = 0xffffffffu;

// Words of a result: the token or -1; the sum of all weights at temperature 1, low and high word; the greatest logit
// less that of the token, as bits. Then the most probable tokens, each with the same difference.
constexpr int kResultWords = 4;

// Beyond it the sum of all weights would not fit into 62 bits.
constexpr int64_t kMostTokens = int64_t{1} << 22;

// A weight is a multiple of 2^-kWeightBits, so sums of weights are exact in any order.
constexpr int kWeightBits = 40;
// The bits of 2^-kWeightBits, the least weight that counts, and of 1, the greatest.
constexpr uint32_t kLeastWeight = (127u - kWeightBits) << 23;
constexpr uint32_t kGreatestWeight = 127u << 23;

constexpr float kLog2E = 1.44269504f;

#if defined(__CUDACC_RTC__)
static inline float Times(float a, float b) { return __fmul_rn(a, b); }
static inline float Plus(float a, float b) { return __fadd_rn(a, b); }
static inline float Less(float a, float b) { return __fsub_rn(a, b); }
static inline float Over(float a, float b) { return __fdiv_rn(a, b); }
static inline float OfBits(uint32_t bits) { return __uint_as_float(bits); }
static inline uint32_t BitsOf(float value) { return __float_as_uint(value); }
#else
#include <cstring>
#pragma GCC optimize("-ffp-contract=off")
static inline float Times(float a, float b) { return a * b; }
static inline float Plus(float a, float b) { return a + b; }
static inline float Less(float a, float b) { return a - b; }
static inline float Over(float a, float b) { return a / b; }
static inline float OfBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
static inline uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
#endif

// 2^-x of the product x = below · scale, rounded to float32: within 2^-23 of itself, 1 for x = 0; 0 where it is less
// than 2^-kWeightBits, also for an infinite or undefined product.
static inline float TokenWeight(float below, float scale) {
  const float product = Times(below, scale);
  constexpr float kMost = kWeightBits;
  const float x = product < kMost ? product : kMost;
  const int32_t n = static_cast<int32_t>(Plus(x, 0.5f));
  const float f = Less(x, static_cast<float>(n));  // within ±1/2, exact
  float p = -1.5279194e-5f;
  p = Plus(Times(p, f), 1.5506794e-4f);
  p = Plus(Times(p, f), -1.3333748e-3f);
  p = Plus(Times(p, f), 9.617928e-3f);
  p = Plus(Times(p, f), -5.5504106e-2f);
  p = Plus(Times(p, f), 2.402265e-1f);
  p = Plus(Times(p, f), -6.931472e-1f);
  p = Plus(Times(p, f), 1.0f);
  const float weight = Times(p, OfBits(static_cast<uint32_t>(127 - n) << 23));
  // A mask, since a branch would keep a compiler from computing several at once.
  return OfBits(BitsOf(weight) & (0u - static_cast<uint32_t>(x < kMost)));
}

// A weight, from 0 to 1, in units of 2^-kWeightBits, rounded down.
static inline uint64_t FixedWeight(float weight) {
  const uint32_t bits = BitsOf(weight);
  const uint64_t digits = static_cast<uint64_t>((bits & 0x7fffffu) | 0x800000u) << (kWeightBits - 23);
  const uint32_t down = 127u - (bits >> 23);
  return digits >> (down < 63u ? down : 63u);
}

// A part of a sum below 2^62, in units of 2^-32 of it, rounded down.
static inline uint64_t PartOf(uint64_t sum, uint32_t part) {
  return (sum >> 32) * part + (((sum & 0xffffffffu) * part) >> 32);
}

// A logit with its penalties: that for repetition (Keskar et al. 2019, arXiv:1909.05858), then what is subtracted.
static inline float Penalised(float logit, float repetition, float subtracted) {
  const float repeated = logit > 0.0f ? Over(logit, repetition) : Times(logit, repetition);
  return Less(repeated, subtracted);
}
