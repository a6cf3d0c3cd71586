// Causal grouped-query attention to cached keys and values, for generation: each text has some new tokens, whose keys
// and values are put into the cache first.
//
// The cache is made of pages of 32 tokens. Of each key head, a page has the keys and the values as the second matrices
// of the two products: weights = keys · query needs them by dimension, output = weights · values by token. A tile of
// rows (queries of neighbouring tokens, and of the heads that share the key head) takes page after page. The numbers of
// a row do not depend on the other rows, nor on how many tokens of its text come at once.
#include "ops/cached_attention/cached_attention.h"

#include <algorithm>
#include <vector>

#include "cpu/gemm.h"
#include "cpu/kernel.h"

namespace lorasmith {
namespace {

// Products in float32. Pages in bfloat16 are converted one at a time. Keys lie as [dim, 32], values as [32, dim].
template <typename Number>
struct Rows {
  static constexpr int64_t kMost = 24;
  static int64_t Most() { return kMost; }
  std::vector<float> query;   // [rows, dim]
  std::vector<float> scores;  // [rows, keys]; then the weights
  std::vector<float> output;  // [rows, dim]
  std::vector<float> converted;
  int64_t stride = 0;

  static void Put(const float* key, const Number* value, int64_t slot, const Shape& shape, Number* keys,
                  Number* values) {
    for (int64_t i = 0; i < shape.head_dim; i++) Store(key[i], keys + i * kPageTokens + slot);
    std::memcpy(values + slot * shape.padded_dim, value, shape.head_dim * sizeof(Number));
  }

  void Resize(int64_t keys, const Shape& shape) {
    stride = keys;
    query.resize(kMost * shape.padded_dim);
    scores.resize(kMost * keys);
    output.resize(kMost * shape.padded_dim);
  }

  void SetQuery(int64_t row, const float* rotated, const Shape& shape) {
    RoundRow(rotated, shape.head_dim, &query[row * shape.padded_dim]);
  }

  void Score(int64_t rows, int64_t at, const Number* keys, const Shape& shape) {
    Multiply({query.data(), shape.padded_dim, 1}, InFloat32(keys, shape), kPageTokens, &scores[at], stride, rows,
             kPageTokens, shape.head_dim, false);
  }

  void SetWeights(int64_t row, int64_t keys) { RoundRow(&scores[row * stride], keys, &scores[row * stride]); }

  void Mix(int64_t rows, int64_t at, const Number* values, const Shape& shape, bool first) {
    Multiply({&scores[at], stride, 1}, InFloat32(values, shape), shape.padded_dim, output.data(), shape.padded_dim,
             rows, shape.padded_dim, kPageTokens, !first);
  }

 private:
  // To what Number can hold.
  static void RoundRow(const float* from, int64_t size, float* to) {
    for (int64_t i = 0; i < size; i++) {
      Number rounded;
      Store(from[i], &rounded);
      to[i] = ToFloat(rounded);
    }
  }

  const float* InFloat32(const float* numbers, const Shape&) { return numbers; }
  const float* InFloat32(const BFloat16* numbers, const Shape& shape) {
    converted.resize(PageNumbers(shape));
    CopyRow(numbers, PageNumbers(shape), converted.data());
    return converted.data();
  }
};

template <typename Number>
void AttendToCache(const CachedAttentionTask<Number>& task, const std::vector<Text>& texts) {
  CachedAttentionStep<Number, Rows<Number>>(task).Run(texts);
}

#if defined(__AVX512BF16__)

template <>
void AttendToCache(const CachedAttentionTask<BFloat16>& task, const std::vector<Text>& texts) {
  AttendToCacheBFloat16(task, texts);
}

#endif

// The new keys and values are written into the input `cache`.
template <typename Number>
struct CachedAttention : AttentionAttributes {
  using AttentionAttributes::AttentionAttributes;

  void Compute(Context& context) const {
    const CachedAttentionOperands<Number> o(context, *this);
    if (context.failed()) return;
    const Shape shape{heads, key_value_heads, o.head_dim, o.padded_dim, scale, window, softcap, o.sinks};
    const std::vector<Text> texts = TextsOf(context, o);
    const CachedAttentionTask<Number> task{o.qkv, o.cache, o.rotary, shape, o.output};
    if (!context.failed()) AttendToCache(task, texts);
  }

 private:
  static std::vector<Text> TextsOf(Context& context, const CachedAttentionOperands<Number>& o) {
    const int32_t* table = context.Input<int32_t>(3);
    std::vector<Text> texts;
    for (size_t i = 0; i < o.texts.size(); i++) {
      const Text text{o.texts[i], table + i * o.page_columns};
      const int64_t used = (text.cached + text.tokens + kPageTokens - 1) / kPageTokens;
      const bool exist =
          std::all_of(text.pages, text.pages + used, [&](int32_t page) { return page >= 0 && page < o.pages; });
      if (!context.Check(exist, "a text has a page that the cache has not")) return {};
      texts.push_back(text);
    }
    return texts;
  }
};

}  // namespace

std::vector<OpDefinition> CachedAttentionOps() {
  return {
      {"LorasmithCachedAttention",
       {"qkv: T", "cache: T", "texts: int32", "pages: int32", "cosine: float", "sine: float", "sinks: float"},
       {"output: T"},
       {"heads: int", "key_value_heads: int", "window: int", "scale: float", "softcap: float"},
       CpuKernels<CachedAttention>()},
  };
}

}  // namespace lorasmith
