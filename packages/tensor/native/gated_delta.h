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
#include <vector>

#include "gated_delta_operands.h"
#include "gemm.h"
#include "parallel.h"

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

// Some neighbouring columns of the state of one head: the columns of S do not depend on each other.
template <int kVectors>
struct DeltaColumns {
  static constexpr int64_t kColumns = kVectors * kLanes;

  struct Token {
    const float* query;
    const float* key;
    const float* next_key;  // of the token that follows
    float decay;            // e^g
    float beta;
  };

  struct Result {
    Vector error[kVectors];  // v - e^g Sᵀk
    Vector delta[kVectors];
    Vector output[kVectors];
  };

  // Sᵀk, for the first token of a sweep; Step has it for those that follow.
  static void Recall(const float* state, const float* key, int64_t size, Vector* recall) {
    Vector sums[kVectors] = {};
    for (int64_t i = 0; i < size; i++) {
      for (int v = 0; v < kVectors; v++) sums[v] += Row(state, i)[v] * key[i];
    }
    for (int v = 0; v < kVectors; v++) recall[v] = sums[v];
  }

  // One token. `recall` is Sᵀk and becomes that of the token that follows. state [size, kColumns]
  static void Step(float* state, const Token& token, const float* value, int64_t size, Vector* recall, Result& result) {
    Vector delta[kVectors], output[kVectors] = {}, next[kVectors] = {};
    const Vector* values = reinterpret_cast<const Vector*>(value);
    for (int v = 0; v < kVectors; v++) {
      result.error[v] = values[v] - token.decay * recall[v];
      delta[v] = token.beta * result.error[v];
    }
    for (int64_t i = 0; i < size; i++) {
      Vector* row = reinterpret_cast<Vector*>(state + i * kColumns);
      for (int v = 0; v < kVectors; v++) {
        const Vector s = token.decay * row[v] + token.key[i] * delta[v];
        row[v] = s;
        output[v] += token.query[i] * s;
        next[v] += token.next_key[i] * s;
      }
    }
    for (int v = 0; v < kVectors; v++) {
      result.delta[v] = delta[v];
      result.output[v] = output[v];
      recall[v] = next[v];
    }
  }

 private:
  static const Vector* Row(const float* state, int64_t i) {
    return reinterpret_cast<const Vector*>(state + i * kColumns);
  }
};

}  // namespace lorasmith
