// What the kernels of attention share: which keys a query sees, and the scores.
#pragma once

#include "cuda/kernels/device.h"
#include "cuda/kernels/row_tile.cuh"
#include "ops/attention/attention_shape.h"

namespace attention {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;

__device__ __forceinline__ bool Sees(int query, int key, int length, const AttentionShape& shape) {
  return key <= query && query < length && (shape.window == 0 || key > query - shape.window);
}

// Whether all queries of a range see all keys of another.
__device__ __forceinline__ bool AllSee(int query, int queries, int key, int keys, int length,
                                       const AttentionShape& shape) {
  return key + keys - 1 <= query && query + queries <= length &&
         (shape.window == 0 || key > query + queries - 1 - shape.window);
}

// The first key that a query sees.
__device__ __forceinline__ int FirstSeen(int query, const AttentionShape& shape) {
  return shape.window == 0 ? 0 : max(0, query - shape.window + 1);
}

// One more than the last query that sees a key.
__device__ __forceinline__ int EndOfQueries(int key, int length, const AttentionShape& shape) {
  return shape.window == 0 || length - key <= shape.window ? length : key + shape.window;
}

// The part of its cap that a score is.
__device__ __forceinline__ float PartOfCap(float score, const AttentionShape& shape) {
  // tanh(x) = 1 - 2 / (exp(2x) + 1)
  const float power = FastExp2(score * (2 * kLog2E * shape.scale / shape.softcap));
  return 1.0f - __fdividef(2.0f, power + 1.0f);
}

// A score as softmax takes it, in units of log2.
__device__ __forceinline__ float ScaledScore(float score, const AttentionShape& shape) {
  if (shape.softcap == 0) return score * (shape.scale * kLog2E);
  return (shape.softcap * kLog2E) * PartOfCap(score, shape);
}

// The sink of a head in units of log2: where a softmax begins.
__device__ __forceinline__ float SinkOf(const float* sinks, int head) {
  return sinks == nullptr ? -INFINITY : sinks[head] * kLog2E;
}

// The gradient by a score, given that by its weight and its query's gradient · output (delta).
__device__ __forceinline__ float ScoreGradient(float weight, float scaled, float by_weight, float delta,
                                               const AttentionShape& shape) {
  float slope = shape.scale;
  if (shape.softcap != 0) {
    const float tanh = scaled * (kLn2 / shape.softcap);
    slope *= 1.0f - tanh * tanh;
  }
  return slope * weight * (by_weight - delta);
}

// Where column c of a head of size D lies in a head of head_dim numbers; -1: it is one of the zeros.
template <int D>
__device__ __forceinline__ int SourceColumn(int c, int head_dim) {
  const int half = head_dim / 2;
  if (c < D / 2) return c < half ? c : -1;
  return c - D / 2 < half ? half + c - D / 2 : -1;
}

// The rows of a head in a stream, `stride` numbers apart.
template <typename Number>
struct StreamHead {
  const Number* head;
  int64_t stride;
};

// Rows of a stream: a query's keys and values are of tokens beside it. See ATTENTION_FORWARD.
template <int D, typename Number>
struct StreamRows {
  static constexpr bool kKeepsSums = true;
  const Number* rotated;
  const Number* values;
  int64_t value_stride;
  const int32_t* offsets;

  template <int kSize>
  __device__ __forceinline__ Tile FindTile(int slot, const AttentionShape& shape) const {
    return ::FindTile<kSize>(offsets, shape.rows, slot);
  }
  __device__ __forceinline__ StreamHead<Number> Queries(const Tile& tile, int head, const AttentionShape& shape) const {
    const int64_t stride = static_cast<int64_t>(shape.heads + shape.key_value_heads) * D;
    return {rotated + tile.start * stride + head * D, stride};
  }
  __device__ __forceinline__ StreamHead<Number> Keys(const Tile& tile, int head, const AttentionShape& shape) const {
    return Queries(tile, shape.heads + head, shape);
  }
  __device__ __forceinline__ StreamHead<Number> Values(const Tile& tile, int head, const AttentionShape&) const {
    return {values + tile.start * value_stride + head * D, value_stride};
  }
  // Where column c of a head of size D lies in the output; -1: nowhere.
  __device__ __forceinline__ static int OutputColumn(int c, int head_dim) { return SourceColumn<D>(c, head_dim); }
};

// Which gradients a kernel computes.
enum Gradients { kQueryGradient, kKeyGradient, kValueGradient, kKeyAndValueGradient };

}  // namespace attention
