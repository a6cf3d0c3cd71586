// What the kernels of cached attention share: see cached_attention.cc.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/parallel.h"
#include "ops/attention/attention.h"
#include "ops/cached_attention/cached_attention_operands.h"

namespace lorasmith {

// What a text has in the cache and what is new.
struct Text : CachedText {
  const int32_t* pages;
};

// The keys of a page and key head, or its values: padded_dim · 32 numbers. Rows says how they lie.
inline int64_t PageNumbers(const Shape& shape) { return shape.padded_dim * kPageTokens; }

constexpr int64_t kSoftmaxLanes = 16;

// Softmax of the scores begin … end - 1 and the head's sink, not yet divided by the sum, which it returns. Scores
// outside become zero; keys is a multiple of 16, and lanes are added in the same order whatever begin is.
inline float SoftmaxRow(float* scores, int64_t begin, int64_t end, int64_t keys, float sink, const Shape& shape) {
  for (int64_t i = 0; i < begin; i++) scores[i] = -INFINITY;
  for (int64_t i = end; i < keys; i++) scores[i] = -INFINITY;
#pragma omp simd
  for (int64_t i = begin; i < end; i++) scores[i] *= shape.scale;
  if (shape.softcap != 0.0f) {
#pragma omp simd
    for (int64_t i = begin; i < end; i++) scores[i] = Capped(scores[i], shape.softcap);
  }
  float greatest = sink;
#pragma omp simd reduction(max : greatest)
  for (int64_t i = begin; i < end; i++) greatest = scores[i] > greatest ? scores[i] : greatest;
  float lanes[kSoftmaxLanes] = {};
  for (int64_t i = 0; i < keys; i += kSoftmaxLanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < kSoftmaxLanes; lane++) {
      const float weight = Exp(scores[i + lane] - greatest);
      scores[i + lane] = weight;
      lanes[lane] += weight;
    }
  }
  float sum = Exp(sink - greatest);
  for (const float lane : lanes) sum += lane;
  return sum;
}

// The unit of work: some rows of a text and a key head. Row i is of token i / queries_per_key.
struct RowRange {
  const Text* text;
  int64_t key_head;
  int64_t first_row;
  int64_t rows;
};

// The op's tensors.
template <typename Number>
struct CachedAttentionTask {
  const Number* qkv;
  Number* cache;
  // Of each token of the stream.
  Rotary rotary;
  Shape shape;
  Number* output;
};

// Rows holds a tile's queries, scores, weights and output, and multiplies them with pages.
template <typename Number, typename Rows>
struct CachedAttentionStep : CachedAttentionTask<Number> {
  explicit CachedAttentionStep(const CachedAttentionTask<Number>& task) : CachedAttentionTask<Number>(task) {}

  using CachedAttentionTask<Number>::qkv;
  using CachedAttentionTask<Number>::cache;
  using CachedAttentionTask<Number>::rotary;
  using CachedAttentionTask<Number>::shape;
  using CachedAttentionTask<Number>::output;

  // The keys of a page and key head; its values follow.
  Number* PageOf(const Text& text, int64_t page, int64_t key_head) const {
    const int64_t index = text.pages[page] * shape.key_value_heads + key_head;
    return cache + index * 2 * PageNumbers(shape);
  }

  const Number* Head(int64_t token, int64_t head) const {
    return qkv + (token * shape.all_heads() + head) * shape.head_dim;
  }

  void PutTokens(const Text& text, int64_t key_head) const {
    static thread_local std::vector<float> rotated;
    rotated.resize(shape.head_dim);
    for (int64_t i = 0; i < text.tokens; i++) {
      const int64_t position = text.cached + i;
      const int64_t token = text.first + i;
      Number* page = PageOf(text, position / kPageTokens, key_head);
      // Every token of a page counts in a product, with weight zero where it is not seen: it must be finite.
      if (position % kPageTokens == 0) std::memset(page, 0, 2 * PageNumbers(shape) * sizeof(Number));
      RotateRow(Head(token, shape.heads + key_head), rotary, token, shape.head_dim, rotated.data());
      const Number* value = Head(token, shape.heads + shape.key_value_heads + key_head);
      Rows::Put(rotated.data(), value, position % kPageTokens, shape, page, page + PageNumbers(shape));
    }
  }

  void Attend(const RowRange& range) const {
    static thread_local Rows rows;
    static thread_local std::vector<float> rotated;
    const Text& text = *range.text;
    const int64_t group = shape.queries_per_key();
    const auto token_of = [&](int64_t row) { return (range.first_row + row) / group; };
    const auto head_of = [&](int64_t row) { return range.key_head * group + (range.first_row + row) % group; };
    const auto position_of = [&](int64_t row) { return text.cached + token_of(row); };
    // The first row's first key to the last row's own.
    const int64_t first_page = shape.first_seen(position_of(0)) / kPageTokens;
    const int64_t end_page = position_of(range.rows - 1) / kPageTokens + 1;
    const int64_t origin = first_page * kPageTokens;
    const int64_t keys = end_page * kPageTokens - origin;
    rows.Resize(keys, shape);
    rotated.resize(shape.head_dim);
    for (int64_t row = 0; row < range.rows; row++) {
      const int64_t token = text.first + token_of(row);
      RotateRow(Head(token, head_of(row)), rotary, token, shape.head_dim, rotated.data());
      rows.SetQuery(row, rotated.data(), shape);
    }
    for (int64_t page = first_page; page < end_page; page++) {
      rows.Score(range.rows, page * kPageTokens - origin, PageOf(text, page, range.key_head), shape);
    }
    float sums[Rows::kMost];
    for (int64_t row = 0; row < range.rows; row++) {
      const int64_t position = position_of(row);
      sums[row] = SoftmaxRow(&rows.scores[row * rows.stride], shape.first_seen(position) - origin,
                             position + 1 - origin, keys, shape.sink(head_of(row)), shape);
      rows.SetWeights(row, keys);
    }
    for (int64_t page = first_page; page < end_page; page++) {
      const Number* values = PageOf(text, page, range.key_head) + PageNumbers(shape);
      rows.Mix(range.rows, page * kPageTokens - origin, values, shape, page == first_page);
    }
    for (int64_t row = 0; row < range.rows; row++) {
      Number* to = output + ((text.first + token_of(row)) * shape.heads + head_of(row)) * shape.head_dim;
      const float inverse = 1.0f / sums[row];
      for (int64_t i = 0; i < shape.head_dim; i++) Store(rows.output[row * shape.padded_dim + i] * inverse, to + i);
    }
  }

  void Run(const std::vector<Text>& texts) const {
    const int64_t units = static_cast<int64_t>(texts.size()) * shape.key_value_heads;
    const auto put = [&](int64_t i) { PutTokens(texts[i / shape.key_value_heads], i % shape.key_value_heads); };
    int64_t tokens = 0;
    for (const Text& text : texts) tokens += text.tokens;
    // Few tokens take less time than waking the threads.
    if (tokens > kPageTokens) {
      ParallelFor(units, put);
    } else {
      for (int64_t i = 0; i < units; i++) put(i);
    }
    std::vector<RowRange> ranges;
    const int64_t most = Rows::Most();
    for (const Text& text : texts) {
      const int64_t rows = text.tokens * shape.queries_per_key();
      // The last rows see the most keys, so they come first.
      const int64_t last = (rows - 1) / most * most;
      for (int64_t row = last; row >= 0; row -= most) {
        for (int64_t key_head = 0; key_head < shape.key_value_heads; key_head++) {
          ranges.push_back({&text, key_head, row, std::min<int64_t>(most, rows - row)});
        }
      }
    }
    ParallelFor(static_cast<int64_t>(ranges.size()), [&](int64_t i) { Attend(ranges[i]); });
  }
};

#if defined(__AVX512BF16__)

// In bfloat16, on these processors, with their product instructions.
void AttendToCacheBFloat16(const CachedAttentionTask<BFloat16>& task, const std::vector<Text>& texts);

#endif

}  // namespace lorasmith
