// Attention in float32, without tensor cores, which would round to TF32. A block of 16 x 16 threads has 64 queries (or
// keys) and takes 64 of the others in a step. Of a large head it has the sums of some columns: the grid's z says which.
#pragma once

#include "cuda/kernels/float_product.cuh"
#include "ops/attention/attention_tile.cuh"

namespace attention {

using namespace float_product;

// Rows first … of a head in a stream as the products take them, zeros from `length` on.
__device__ __forceinline__ FloatRows RowsFrom(const StreamHead<float>& rows, int first, int length) {
  return {rows.head, rows.stride, first, length};
}

// Rows: where queries, keys and values are.
template <int D, typename Rows>
__device__ __forceinline__ void ForwardFloat32(const Rows& rows, const float* sinks, const AttentionShape& shape,
                                               float* output, float* log_sums) {
  constexpr int kColumns = AttentionFloatColumns(D);
  SHARED(FloatMemory<kColumns>, memory);
  const auto tile = rows.template FindTile<kRowTile>(gridDim.x - 1 - blockIdx.x, shape);
  const int first = tile.first, length = tile.length;
  if (first >= length) return;
  const int head = blockIdx.y, key_head = head / (shape.heads / shape.key_value_heads);
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  const FloatRows queries = RowsFrom(rows.Queries(tile, head, shape), first, length);
  auto keys = RowsFrom(rows.Keys(tile, key_head, shape), 0, length);
  const int first_column = blockIdx.z * kColumns;
  auto row_values = RowsFrom(rows.Values(tile, key_head, shape), 0, length);

  float result[kOwn][kColumns / kSide];
  float greatest[kOwn], sum[kOwn];
  const float sink = SinkOf(sinks, head);
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    greatest[i] = sink;
    // One of the threads that have a row.
    sum[i] = sink > -INFINITY && x == 0 ? 1 : 0;
#pragma unroll
    for (int j = 0; j < kColumns / kSide; j++) result[i][j] = 0;
  }
  const int end = min(first + kRowTile, length);
  for (int key = FirstSeen(first, shape) / kRowTile * kRowTile; key < end; key += kRowTile) {
    keys.first = row_values.first = key;
    float weights[kOwn][kOwn];
    MultiplyTransposedFloat<D>(queries, keys, memory, weights);
#pragma unroll
    for (int i = 0; i < kOwn; i++) {
      float top = greatest[i];
#pragma unroll
      for (int j = 0; j < kOwn; j++) {
        const bool seen = Sees(first + y + kSide * i, key + x + kSide * j, length, shape);
        weights[i][j] = seen ? ScaledScore(weights[i][j], shape) : -INFINITY;
        top = fmaxf(top, weights[i][j]);
      }
      top = SideMax(top);
      // A row that has not seen a key yet has no greatest score.
      const float base = top == -INFINITY ? 0 : top;
      const float shrink = FastExp2(greatest[i] - base);
      greatest[i] = top;
      sum[i] *= shrink;
#pragma unroll
      for (int j = 0; j < kOwn; j++) {
        weights[i][j] = FastExp2(weights[i][j] - base);
        sum[i] += weights[i][j];
      }
#pragma unroll
      for (int j = 0; j < kColumns / kSide; j++) result[i][j] *= shrink;
    }
    AddProductFloat<kColumns>(weights, row_values.From(first_column), memory, result);
  }
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    const float total = SideSum(sum[i]);
    const int at = first + y + kSide * i;
    if (at >= length) continue;
    const int64_t of_head = (tile.start + at) * shape.heads + head;
#pragma unroll
    for (int j = 0; j < kColumns / kSide; j++) {
      const int column = Rows::OutputColumn(first_column + x + kSide * j, shape.head_dim);
      if (column >= 0) output[of_head * shape.head_dim + column] = result[i][j] / total;
    }
    if (Rows::kKeepsSums && first_column + x == 0) log_sums[of_head] = (greatest[i] + log2f(total)) * kLn2;
  }
}

template <int D>
__device__ __forceinline__ void StoreGradientFloat(const float (&rows)[kOwn][AttentionFloatColumns(D) / kSide],
                                                   int first, int length, int head_dim, int64_t stride, float* head) {
  constexpr int kColumns = AttentionFloatColumns(D);
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    const int at = first + y + kSide * i;
    if (at >= length) continue;
#pragma unroll
    for (int j = 0; j < kColumns / kSide; j++) {
      const int column = SourceColumn<D>(blockIdx.z * kColumns + x + kSide * j, head_dim);
      if (column >= 0) head[at * stride + column] = rows[i][j];
    }
  }
}

// As GradientBFloat16, but the gradients by queries and keys are those by the rotated ones: to be turned back
// afterwards.
template <int D, Gradients kGradients>
__device__ __forceinline__ void GradientFloat32(const float* rotated, const float* values, int64_t value_stride,
                                                const float* gradient, const float* sums, const int32_t* offsets,
                                                const AttentionShape& shape, float* result) {
  constexpr bool kOfQueries = kGradients == kQueryGradient;
  constexpr bool kHasValue = kGradients == kValueGradient || kGradients == kKeyAndValueGradient;
  constexpr bool kHasScore = kGradients != kValueGradient;
  constexpr int kColumns = AttentionFloatColumns(D);
  SHARED(FloatMemory<kColumns>, memory);
  const int slot = kOfQueries ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  const Tile tile = FindTile(offsets, shape.rows, slot);
  const int first = tile.first, length = tile.length;
  if (first >= length) return;
  const int queries_per_key = shape.heads / shape.key_value_heads;
  const int key_head = kOfQueries ? blockIdx.y / queries_per_key : blockIdx.y;
  const int first_head = kOfQueries ? blockIdx.y : key_head * queries_per_key;
  const int heads = kOfQueries ? 1 : queries_per_key;
  const int64_t stride = static_cast<int64_t>(shape.heads + shape.key_value_heads) * D;
  const int64_t output_stride = static_cast<int64_t>(shape.heads) * D;
  const float* row = rotated + tile.start * stride;
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  FloatRows keys{row + (shape.heads + key_head) * D, stride, first, length};
  FloatRows row_values{values + tile.start * value_stride + key_head * D, value_stride, first, length};

  float by_own[kOwn][kColumns / kSide], by_value[kOwn][kColumns / kSide];
#pragma unroll
  for (int i = 0; i < kOwn; i++)
#pragma unroll
    for (int j = 0; j < kColumns / kSide; j++) by_own[i][j] = by_value[i][j] = 0;
  const int first_column = blockIdx.z * kColumns;
  const int last = min(first + kRowTile, length);
  const int begin = (kOfQueries ? FirstSeen(first, shape) : first) / kRowTile * kRowTile;
  const int end = kOfQueries ? last : EndOfQueries(last - 1, length, shape);
  for (int head = first_head; head < first_head + heads; head++) {
    FloatRows queries{row + head * D, stride, first, length};
    FloatRows row_gradient{gradient + tile.start * output_stride + head * D, output_stride, first, length};
    // [head][token]: log_sum and delta
    const float2* row_sums = reinterpret_cast<const float2*>(sums) + head * shape.tokens + tile.start;
    for (int other = begin; other < end; other += kRowTile) {
      float weights[kOwn][kOwn], by_weight[kOwn][kOwn];
      if (kOfQueries) {
        keys.first = row_values.first = other;
        MultiplyTransposedFloat<D>(queries, keys, memory, weights);
        MultiplyTransposedFloat<D>(row_gradient, row_values, memory, by_weight);
      } else {
        queries.first = row_gradient.first = other;
        MultiplyTransposedFloat<D>(keys, queries, memory, weights);
        if (kHasScore) MultiplyTransposedFloat<D>(row_values, row_gradient, memory, by_weight);
      }
#pragma unroll
      for (int i = 0; i < kOwn; i++)
#pragma unroll
        for (int j = 0; j < kOwn; j++) {
          const int own = first + y + kSide * i, column = other + x + kSide * j;
          const int query = kOfQueries ? own : column, key = kOfQueries ? column : own;
          const bool seen = Sees(query, key, length, shape);
          const float2 of_query = seen ? row_sums[query] : float2{0, 0};
          const float scaled = ScaledScore(weights[i][j], shape);
          const float weight = seen ? FastExp2(scaled - of_query.x * kLog2E) : 0;
          weights[i][j] = weight;
          if (!kHasScore) continue;
          by_weight[i][j] = seen ? ScoreGradient(weight, scaled, by_weight[i][j], of_query.y, shape) : 0;
        }
      if (kHasValue) AddProductFloat<kColumns>(weights, row_gradient.From(first_column), memory, by_value);
      if (kHasScore)
        AddProductFloat<kColumns>(by_weight, (kOfQueries ? keys : queries).From(first_column), memory, by_own);
    }
  }

  const int64_t result_stride = static_cast<int64_t>(shape.heads + 2 * shape.key_value_heads) * shape.head_dim;
  float* head = result + tile.start * result_stride;
  head += static_cast<int64_t>(kOfQueries ? first_head : shape.heads + key_head) * shape.head_dim;
  if (kHasScore) StoreGradientFloat<D>(by_own, first, length, shape.head_dim, result_stride, head);
  head += shape.key_value_heads * shape.head_dim;
  if (kHasValue) StoreGradientFloat<D>(by_value, first, length, shape.head_dim, result_stride, head);
}

}  // namespace attention
