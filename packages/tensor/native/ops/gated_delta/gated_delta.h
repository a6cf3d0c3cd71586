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

#include "cpu/parallel.h"
#include "ops/gated_delta/gated_delta_operands.h"

namespace lorasmith {

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
