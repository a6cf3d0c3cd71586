// Generation's attention to keys and values in pages: what puts new tokens into pages, and attention of one token of
// each text, where nearly all time goes into reading its keys and values. Tokens of prompts have that of attention.cuh.
//
// A token's keys are cut into pieces, so that a long text has many blocks: each has a softmax of its piece, and
// CachedAttentionMerge joins them in their order.
#include "ops/attention/attention_tile.cuh"
#include "ops/cached_attention/cached_attention_shape.h"

namespace {

constexpr int kGreatestHead = 512;

// A token's head head_dim → columns, zeros behind it; rotated by the token's angles where there are any. One warp.
template <typename Number>
__device__ __forceinline__ void PutHead(const Number* from, int head_dim, const float* cosine, const float* sine,
                                        Number* to, int columns) {
  const int half = head_dim / 2;
#pragma unroll 1
  for (int c = threadIdx.x % 32; c < columns; c += 32) {
    if (cosine == nullptr || c >= head_dim) {
      to[c] = c < head_dim ? from[c] : Number{};
    } else {
      const int angle = c < half ? c : c - half;
      const float own = ToFloat(from[c]), other = ToFloat(from[c < half ? c + half : angle]);
      Store(own * cosine[angle] + (c < half ? -other : other) * sine[angle], to + c);
    }
  }
}

// qkv [tokens, heads + 2 key_value_heads, head_dim] → queries [tokens, heads, query_columns], rotated, and the cache.
// cosine, sine [tokens, head_dim / 2].
template <typename Number>
__device__ __forceinline__ void Put(const TextTable& texts, const Number* qkv, const float* cosine, const float* sine,
                                    const int32_t* pages, int page_columns, const AttentionShape& shape,
                                    int query_columns, Number* queries, Number* cache) {
  const TextTokens& text = EntryOf(texts, blockIdx.x);
  const int index = blockIdx.x - text.first_block;
  const int head = blockIdx.y * kPutHeads + threadIdx.x / 32, key_head = head - shape.heads;
  if (key_head >= 2 * shape.key_value_heads) return;
  const int64_t token = text.first + index;
  const Number* from = qkv + (token * (shape.heads + 2 * shape.key_value_heads) + head) * shape.head_dim;
  cosine += token * (shape.head_dim / 2);
  sine += token * (shape.head_dim / 2);
  if (key_head < 0) {
    Number* to = queries + (token * shape.heads + head) * query_columns;
    PutHead(from, shape.head_dim, cosine, sine, to, query_columns);
    return;
  }
  const int position = text.cached + index;
  const int columns = PageColumns(shape.head_dim);
  const bool is_value = key_head >= shape.key_value_heads;
  const int64_t page = pages[static_cast<int64_t>(text.row) * page_columns + position / kPageTokens];
  const int64_t matrix =
      (page * shape.key_value_heads + key_head - (is_value ? shape.key_value_heads : 0)) * 2 + (is_value ? 1 : 0);
  Number* to = cache + (matrix * kPageTokens + position % kPageTokens) * columns;
  PutHead(from, shape.head_dim, is_value ? nullptr : cosine, sine, to, columns);
}

// A softmax of a piece, not yet divided: partials [pieces, heads, head_dim], and of each head its greatest score, in
// units of log2, and the sum of weights: sums [pieces, heads, 2].
template <typename Number>
__device__ __forceinline__ void AttendToPiece(const TextTable& texts, const Number* queries, int query_columns,
                                              const Number* cache, const int32_t* pages, int page_columns,
                                              const AttentionShape& shape, float* partials, float* sums) {
  constexpr int kSize = Vector<Number>::kSize;
  constexpr int kWarps = kPieceThreads / 32, kLanes = 4, kAtOnce = kPieceThreads / kLanes;
  // Heads whose sums of all threads are in memory at one time.
  constexpr int kSummed = kPieceHeads / 2;
  // The queries, and after the scores the sums.
  SHARED(float, memory, [kPieceHeads * kGreatestHead]);
  SHARED(float, weights, [kPieceHeads * kPieceKeys]);
  static_assert(kSummed * kPieceThreads * kSize <= kPieceHeads * kGreatestHead, "the sums lie where the queries were");

  const TextTokens& text = EntryOf(texts, blockIdx.x);
  const int index = blockIdx.x - text.first_block, query = text.cached;
  const int piece = PiecesOf(query, shape.window).first + index;
  const int begin = max(piece * kPieceKeys, FirstSeenKey(query, shape.window));
  const int keys = min((piece + 1) * kPieceKeys, query + 1) - begin;
  const int of_key = shape.heads / shape.key_value_heads, parts = (of_key + kPieceHeads - 1) / kPieceHeads;
  const int key_head = blockIdx.y / parts, first = blockIdx.y % parts * kPieceHeads;
  const int first_head = key_head * of_key + first, heads = min(kPieceHeads, of_key - first);
  const int columns = PageColumns(shape.head_dim);
  const int32_t* own_pages = pages + static_cast<int64_t>(text.row) * page_columns;
  const auto row = [&](int key, int is_value) {
    const int64_t matrix =
        (static_cast<int64_t>(own_pages[key / kPageTokens]) * shape.key_value_heads + key_head) * 2 + is_value;
    return cache + (matrix * kPageTokens + key % kPageTokens) * columns;
  };

  const Number* own_queries = queries + (static_cast<int64_t>(text.first) * shape.heads + first_head) * query_columns;
#pragma unroll 1
  for (int i = threadIdx.x; i < heads * columns; i += kPieceThreads) {
    const int h = i / columns, c = i % columns;
    memory[i] = c < shape.head_dim ? ToFloat(own_queries[h * query_columns + c]) : 0;
  }
  __syncthreads();

  // Four lanes have a key, each every fourth vector of it.
  const int lane = threadIdx.x % kLanes;
#pragma unroll 1
  for (int base = 0; base < keys; base += kAtOnce) {
    const int key = base + threadIdx.x / kLanes;
    const Number* at = row(begin + min(key, keys - 1), 0);
    float scores[kPieceHeads];
#pragma unroll
    for (int h = 0; h < kPieceHeads; h++) scores[h] = 0;
    for (int c = lane * kSize; c < columns; c += kLanes * kSize) {
      const Vector<Number> numbers = LoadVector(at + c);
#pragma unroll
      for (int h = 0; h < kPieceHeads; h++) {
        if (h >= heads) continue;
#pragma unroll
        for (int i = 0; i < kSize; i += 4) {
          const Vector<float> part = LoadVector(memory + h * columns + c + i);
#pragma unroll
          for (int j = 0; j < 4; j++) scores[h] += ToFloat(numbers.values[i + j]) * part.values[j];
        }
      }
    }
#pragma unroll
    for (int h = 0; h < kPieceHeads; h++) {
      if (h >= heads) continue;
      scores[h] += __shfl_xor_sync(kAllLanes, scores[h], 1);
      scores[h] += __shfl_xor_sync(kAllLanes, scores[h], 2);
      if (lane == h % kLanes) weights[h * kPieceKeys + key] = attention::ScaledScore(scores[h], shape);
    }
  }
  __syncthreads();

  const int64_t of_piece = static_cast<int64_t>(text.first_piece + index) * shape.heads + first_head;
#pragma unroll 1
  for (int h = threadIdx.x / 32; h < heads; h += kWarps) {
    float* own = weights + h * kPieceKeys;
    float greatest = -INFINITY, sum = 0;
    for (int key = threadIdx.x % 32; key < keys; key += 32) greatest = fmaxf(greatest, own[key]);
    greatest = WarpMax(greatest);
    const float base = greatest == -INFINITY ? 0 : greatest;
    for (int key = threadIdx.x % 32; key < keys; key += 32) {
      own[key] = FastExp2(own[key] - base);
      sum += own[key];
    }
    sum = WarpSum(sum);
    if (threadIdx.x % 32 == 0) reinterpret_cast<float2*>(sums)[of_piece + h] = {greatest, sum};
  }
  __syncthreads();

  // A thread has a vector of columns, of every `groups`-th key.
  const int vectors = columns / kSize, groups = kPieceThreads / vectors;
  const int group = threadIdx.x / vectors, column = threadIdx.x % vectors * kSize;
  float result[kPieceHeads][kSize];
#pragma unroll
  for (int h = 0; h < kPieceHeads; h++)
#pragma unroll
    for (int i = 0; i < kSize; i++) result[h][i] = 0;
#pragma unroll 2
  for (int key = group; group < groups && key < keys; key += groups) {
    const Vector<Number> numbers = LoadVector(row(begin + key, 1) + column);
#pragma unroll
    for (int h = 0; h < kPieceHeads; h++) {
      if (h >= heads) continue;
      const float weight = weights[h * kPieceKeys + key];
#pragma unroll
      for (int i = 0; i < kSize; i++) result[h][i] += weight * ToFloat(numbers.values[i]);
    }
  }
#pragma unroll
  for (int at = 0; at < kPieceHeads; at += kSummed) {
    if (at >= heads) continue;
    if (at > 0) __syncthreads();  // the heads before are summed
    if (group < groups) {
#pragma unroll
      for (int h = 0; h < kSummed; h++)
#pragma unroll
        for (int i = 0; i < kSize; i++) memory[(h * groups + group) * columns + column + i] = result[at + h][i];
    }
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < kSummed * columns; i += kPieceThreads) {
      const int h = i / columns, c = i % columns;
      if (at + h >= heads || c >= shape.head_dim) continue;
      float sum = 0;
      for (int g = 0; g < groups; g++) sum += memory[(h * groups + g) * columns + c];
      partials[(of_piece + at + h) * shape.head_dim + c] = sum;
    }
  }
}

// The pieces of a token, and the head's sink → output [tokens, heads, head_dim]
template <typename Number>
__device__ __forceinline__ void Merge(const TextTable& texts, const float* partials, const float* sums,
                                      const float* sinks, const AttentionShape& shape, Number* output) {
  const TextTokens& text = EntryOf(texts, blockIdx.x);
  const int head = blockIdx.y, pieces = PiecesOf(text.cached, shape.window).count;
  const int64_t of_piece = static_cast<int64_t>(text.first_piece) * shape.heads + head;
  const float2* own = reinterpret_cast<const float2*>(sums) + of_piece;
  const float sink = attention::SinkOf(sinks, head);
  float greatest = sink;
#pragma unroll 1
  for (int i = 0; i < pieces; i++) greatest = fmaxf(greatest, own[static_cast<int64_t>(i) * shape.heads].x);
  float total = FastExp2(sink - greatest);
#pragma unroll 1
  for (int i = 0; i < pieces; i++) {
    const float2 piece = own[static_cast<int64_t>(i) * shape.heads];
    total += piece.y * FastExp2(piece.x - greatest);
  }
  const float inverse = 1.0f / total;
#pragma unroll 1
  for (int c = threadIdx.x; c < shape.head_dim; c += kMergeThreads) {
    float result = 0;
#pragma unroll 2
    for (int i = 0; i < pieces; i++) {
      const int64_t piece = static_cast<int64_t>(i) * shape.heads;
      result += partials[(of_piece + piece) * shape.head_dim + c] * FastExp2(own[piece].x - greatest);
    }
    Store(result * inverse, output + (static_cast<int64_t>(text.first) * shape.heads + head) * shape.head_dim + c);
  }
}

}  // namespace

#define CACHED_ATTENTION(Type, Number)                                                                              \
  extern "C" __global__ void __launch_bounds__(kPutThreads)                                                         \
      CachePut##Type(const __grid_constant__ TextTable texts, const Number* qkv, const float* cosine,               \
                     const float* sine, const int32_t* pages, int page_columns, AttentionShape shape,               \
                     int query_columns, Number* queries, Number* cache) {                                           \
    Put(texts, qkv, cosine, sine, pages, page_columns, shape, query_columns, queries, cache);                       \
  }                                                                                                                 \
  EXPORT_KERNEL(CachePut##Type)                                                                                     \
  extern "C" __global__ void __launch_bounds__(kPieceThreads) CachedAttention##Type(                                \
      const __grid_constant__ TextTable texts, const Number* queries, int query_columns, const Number* cache,       \
      const int32_t* pages, int page_columns, AttentionShape shape, float* partials, float* sums) {                 \
    AttendToPiece(texts, queries, query_columns, cache, pages, page_columns, shape, partials, sums);                \
  }                                                                                                                 \
  EXPORT_KERNEL(CachedAttention##Type)                                                                              \
  extern "C" __global__ void __launch_bounds__(kMergeThreads)                                                       \
      CachedAttentionMerge##Type(const __grid_constant__ TextTable texts, const float* partials, const float* sums, \
                                 const float* sinks, AttentionShape shape, Number* output) {                        \
    Merge(texts, partials, sums, sinks, shape, output);                                                             \
  }                                                                                                                 \
  EXPORT_KERNEL(CachedAttentionMerge##Type)

CACHED_ATTENTION(Float32, float)
CACHED_ATTENTION(BFloat16, bf16)
