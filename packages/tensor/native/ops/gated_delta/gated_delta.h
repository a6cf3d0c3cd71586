// The gated delta rule (Yang et al. 2024, arXiv:2412.06464) on every value head h of a row, in float32, with a state S
// [key_size, value_size]:
//
//   S ← e^g S;   δ = β (v - Sᵀk);   S ← S + k δᵀ;   o = Sᵀq
//
// with q and k of length one, q also divided by √key_size, β = sigmoid(b), and g = -e^a_log softplus(a + dt_bias). Each
// key head serves as many consecutive value heads.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/kernel.h"
#include "cpu/parallel.h"

namespace lorasmith {

// Tokens between two states that are kept for the backward pass.
constexpr int64_t kChunk = 64;

struct DeltaAttributes {
  explicit DeltaAttributes(const Attributes& attributes)
      : key_heads(attributes.Int("key_heads")),
        value_heads(attributes.Int("value_heads")),
        key_size(attributes.Int("key_size")) {}

  int64_t key_heads;
  int64_t value_heads;
  int64_t key_size;
};

// qkv [tokens, 2 key_heads key_size + value_heads value_size]; ba [tokens, 2 value_heads]: b, then a; a_log and dt_bias
// [value_heads]; offsets [rows + 1]: row i is tokens offsets[i] … offsets[i + 1] - 1.
template <typename Number>
struct DeltaStream : DeltaAttributes {
  // `qkv_input`: its number among the op's inputs; the others follow.
  DeltaStream(Context& context, const DeltaAttributes& attributes, int qkv_input)
      : DeltaAttributes(attributes),
        tokens(context.Dim(qkv_input, 0)),
        width(context.Dim(qkv_input, 1)),
        rows(context.Size(qkv_input + 4) - 1) {
    qkv = context.Input<Number>(qkv_input);
    ba = context.Input<Number>(qkv_input + 1);
    a_log = context.Input<float>(qkv_input + 2);
    dt_bias = context.Input<float>(qkv_input + 3);
    offsets = context.Input<int32_t>(qkv_input + 4);
    const bool sound = key_heads > 0 && value_heads > 0 && value_heads % key_heads == 0 && key_size > 0;
    if (!context.Check(sound, "key_heads must divide value_heads")) return;
    value_size = (width - values_at()) / value_heads;
    const bool whole = value_size > 0 && values_at() + value_heads * value_size == width;
    if (!context.Check(whole, "qkv must be as wide as all heads")) return;
    const bool gates = context.Size(qkv_input + 1) == tokens * 2 * value_heads &&
                       context.Size(qkv_input + 2) == value_heads && context.Size(qkv_input + 3) == value_heads;
    context.Check(gates, "ba, a_log and dt_bias must be of the value heads");
  }

  int64_t values_at() const { return 2 * key_heads * key_size; }
  int64_t state_size() const { return key_size * value_size; }
  int64_t key_head_of(int64_t head) const { return head / (value_heads / key_heads); }
  // The states that are kept: a row has those from offsets[row] / kChunk on, one after each whole chunk within it.
  int64_t states() const { return tokens / kChunk; }

  int64_t tokens;
  int64_t width;
  int64_t rows;
  int64_t value_size = 0;
  const Number* qkv;
  const Number* ba;
  const float* a_log;
  const float* dt_bias;
  const int32_t* offsets;
};

// The stream and before [rows, value_heads, key_size, value_size], the states before each row; without elements: zeros
// → output [tokens, value_heads value_size]; kept [states, value_heads, kept_size], if `record`; and last, the states
// after each row in the form of before, if `keep_last`.
template <typename Number>
struct DeltaOperands : DeltaStream<Number> {
  // `kept_size`: numbers of a state that is kept.
  DeltaOperands(Context& context, const DeltaStream<Number>& stream, bool record, bool keep_last, int64_t kept_size)
      : DeltaStream<Number>(stream) {
    if (context.failed()) return;
    before = context.Input<float>(5);
    const int64_t size = context.Size(5);
    const int64_t heads = this->value_heads;
    const bool fits = size == 0 || size == this->rows * heads * this->state_size();
    if (!context.Check(fits, "before must have a state of each row and head")) return;
    output = context.Output<Number>(0, {this->tokens, heads * this->value_size});
    kept = context.Output<float>(1, {record ? this->states() : 0, heads, kept_size});
    last = context.Output<float>(2, {keep_last ? this->rows : 0, heads, this->key_size, this->value_size});
  }

  const float* before;
  Number* output = nullptr;
  float* kept = nullptr;  // null without elements, as last
  float* last = nullptr;
};

// gradient [tokens, value_heads value_size] by the output, the stream, and kept as the forward op has it → by_qkv and
// by_ba, in the shapes of qkv and ba
template <typename Number>
struct DeltaGradientOperands : DeltaStream<Number> {
  DeltaGradientOperands(Context& context, const DeltaStream<Number>& stream, int64_t kept_size)
      : DeltaStream<Number>(stream) {
    if (context.failed()) return;
    gradient = context.Input<Number>(0);
    kept = context.Input<float>(6);
    const int64_t heads = this->value_heads;
    const bool fits = context.Size(0) == this->tokens * heads * this->value_size &&
                      context.Size(6) == this->states() * heads * kept_size;
    if (!context.Check(fits, "gradient and kept must be of the same rows")) return;
    by_qkv = context.Output<Number>(0, {this->tokens, this->width});
    by_ba = context.Output<Number>(1, {this->tokens, 2 * heads});
  }

  const Number* gradient;
  const float* kept;
  Number* by_qkv = nullptr;
  Number* by_ba = nullptr;
};

// What every value head needs of each token, in float32. The vectors of one head lie beside each other: a head goes
// through a whole row.
struct DeltaTokens {
  float* query;  // [key_heads, tokens, key_size], of length 1 / √key_size
  float* key;    // [key_heads, tokens, key_size], of length 1
  float* gate;   // [tokens, value_heads]: g
  float* beta;   // [tokens, value_heads]

  template <typename Number>
  DeltaTokens(Context& context, const DeltaStream<Number>& stream)
      : query(context.Scratch<float>(stream.tokens * stream.key_heads * stream.key_size)),
        key(context.Scratch<float>(stream.tokens * stream.key_heads * stream.key_size)),
        gate(context.Scratch<float>(stream.tokens * stream.value_heads)),
        beta(context.Scratch<float>(stream.tokens * stream.value_heads)) {}
};

// 1 / length, as transformers' l2norm has it.
template <typename Number>
float InverseLength(const Number* x, int64_t size) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; i++) sum += ToFloat(x[i]) * ToFloat(x[i]);
  return 1.0f / std::sqrt(sum + 1e-6f);
}

inline float PreciseSigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// As in PyTorch, the identity above 20.
inline float Softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

template <typename Number>
void PrepareToken(const DeltaStream<Number>& stream, int64_t token, const DeltaTokens& to) {
  const int64_t size = stream.key_size;
  const int64_t keys = stream.key_heads * size;
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  const Number* from = stream.qkv + token * stream.width;
  for (int64_t head = 0; head < stream.key_heads; head++) {
    const Number* query = from + head * size;
    const Number* key = query + keys;
    const float by_query = InverseLength(query, size) * scale;
    const float by_key = InverseLength(key, size);
    float* query_to = to.query + (head * stream.tokens + token) * size;
    float* key_to = to.key + (head * stream.tokens + token) * size;
#pragma omp simd
    for (int64_t i = 0; i < size; i++) {
      query_to[i] = ToFloat(query[i]) * by_query;
      key_to[i] = ToFloat(key[i]) * by_key;
    }
  }
  const Number* ba = stream.ba + token * 2 * stream.value_heads;
  for (int64_t head = 0; head < stream.value_heads; head++) {
    const float step = Softplus(ToFloat(ba[stream.value_heads + head]) + stream.dt_bias[head]);
    to.beta[token * stream.value_heads + head] = PreciseSigmoid(ToFloat(ba[head]));
    to.gate[token * stream.value_heads + head] = -std::exp(stream.a_log[head]) * step;
  }
}

template <typename Number>
void PrepareTokens(const DeltaStream<Number>& stream, const DeltaTokens& to) {
  ParallelRanges(stream.tokens, 4, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; token++) PrepareToken(stream, token, to);
  });
}

}  // namespace lorasmith
