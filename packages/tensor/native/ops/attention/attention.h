// Definitions shared by the attention kernels of different processors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/number.h"
#include "ops/attention/attention_operands.h"

namespace lorasmith {

struct Shape {
  int64_t heads;
  int64_t key_value_heads;
  int64_t head_dim;
  // head_dim rounded up to whole panels; the columns beyond are zero.
  int64_t padded_dim;
  float scale;
  // A query sees keys j > i - window; 0 for all before it.
  int64_t window;
  // A score becomes softcap tanh(score / softcap); 0 for no cap.
  float softcap;
  // A logit of each head that takes part in softmax beside its scores, and has no value; null for none.
  const float* sinks = nullptr;

  float sink(int64_t head) const { return sinks == nullptr ? -INFINITY : sinks[head]; }
  int64_t first_seen(int64_t query) const { return window == 0 ? 0 : std::max<int64_t>(0, query - window + 1); }
  int64_t all_heads() const { return heads + 2 * key_value_heads; }
  int64_t queries_per_key() const { return heads / key_value_heads; }
};

// The unit of work: one row of the batch, one key head, and some of the query heads that use it.
struct Work {
  int64_t start;
  int64_t length;
  int64_t key_head;
  int64_t first_head;
  int64_t heads;
};

// Gradients by the rotated keys and by the values of one row and key head, [length, padded_dim] each.
struct KeyGradient {
  std::vector<float> key;
  std::vector<float> value;

  void Clear(int64_t numbers) {
    key.assign(numbers, 0.0f);
    value.assign(numbers, 0.0f);
  }

  void Add(const KeyGradient& other) {
    const int64_t numbers = static_cast<int64_t>(key.size());
#pragma omp simd
    for (int64_t i = 0; i < numbers; i++) key[i] += other.key[i];
#pragma omp simd
    for (int64_t i = 0; i < numbers; i++) value[i] += other.value[i];
  }
};

// The sum of the query heads' gradients. That of each head is complete before it is added, so the result does not
// depend on how heads are divided into units of work.
class SumOfHeads {
 public:
  SumOfHeads(int64_t numbers, KeyGradient* sum) : numbers_(numbers), sum_(sum) {}

  // Where the next head adds its gradients, which are zero.
  KeyGradient& Next() {
    static thread_local KeyGradient own;
    Finish();
    unfinished_ = heads_ == 0 ? nullptr : &own;
    KeyGradient* next = heads_ == 0 ? sum_ : &own;
    next->Clear(numbers_);
    heads_++;
    return *next;
  }

  void Finish() {
    if (unfinished_ != nullptr) sum_->Add(*unfinished_);
    unfinished_ = nullptr;
  }

 private:
  int64_t numbers_;
  KeyGradient* sum_;
  KeyGradient* unfinished_ = nullptr;
  int64_t heads_ = 0;
};

template <typename Number>
inline void CopyRow(const Number* from, int64_t size, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < size; i++) to[i] = ToFloat(from[i]);
}

// Rotates the pairs (i, i + head_dim / 2) by the angle of the position.
template <typename Number>
inline void RotateRow(const Number* from, const Rotary& rotary, int64_t position, int64_t head_dim, float* to) {
  const int64_t half = head_dim / 2;
  const float* cosine = rotary.cosine + position * half;
  const float* sine = rotary.sine + position * half;
#pragma omp simd
  for (int64_t i = 0; i < half; i++) {
    const float first = ToFloat(from[i]);
    const float second = ToFloat(from[i + half]);
    to[i] = first * cosine[i] - second * sine[i];
    to[i + half] = second * cosine[i] + first * sine[i];
  }
}

template <typename Number>
inline void RotateBack(const float* from, const Rotary& rotary, int64_t position, int64_t head_dim, Number* to) {
  const int64_t half = head_dim / 2;
  const float* cosine = rotary.cosine + position * half;
  const float* sine = rotary.sine + position * half;
#pragma omp simd
  for (int64_t i = 0; i < half; i++) {
    Store(from[i] * cosine[i] + from[i + half] * sine[i], to + i);
    Store(from[i + half] * cosine[i] - from[i] * sine[i], to + i + half);
  }
}

inline float Capped(float scaled, float cap) {
  // tanh(x) = 1 - 2 / (exp(2x) + 1)
  return cap * (1.0f - 2.0f / (Exp(2.0f * scaled / cap) + 1.0f));
}

#if defined(__AVX512BF16__)

// Attention with bfloat16 products: qkv [tokens, all heads head_dim] → output [tokens, heads head_dim] and log_sums
// [tokens, heads], both for the tokens and heads of `work` only.
void AttendBFloat16(const BFloat16* qkv, const Shape& shape, const Rotary& rotary, const Work& work, BFloat16* output,
                    float* log_sums);

// Its gradient: gradient by the output → result [tokens, all heads head_dim], by the queries of `work` only, and
// the sum over its heads of the gradients by keys and values.
void AttendGradientBFloat16(const BFloat16* qkv, const BFloat16* output, const float* log_sums,
                            const BFloat16* gradient, const Shape& shape, const Rotary& rotary, const Work& work,
                            BFloat16* result, KeyGradient* by_key_head);

#endif

}  // namespace lorasmith
