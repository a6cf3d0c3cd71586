// Causal grouped-query attention to cached keys and values, for generation: each text has some new tokens, whose keys
// and values are put into the cache first.
//
// The cache is made of pages of 32 tokens. Of each key head, a page has the keys and the values as the second matrices
// of the two products: weights = keys · query needs them by dimension, output = weights · values by token. A tile of
// rows (queries of neighbouring tokens, and of the heads that share the key head) takes page after page. The numbers of
// a row do not depend on the other rows, nor on how many tokens of its text come at once.
#include "cached_attention.h"

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "kernel.h"

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

// qkv [tokens, (heads + 2 key_value_heads) head_dim], cache [pages, key_value_heads, 2, 32, padded_dim], texts
// [texts, 3 + pages of a text]: its first new token, how many it has, how many the cache has, its pages; cosine and
// sine [tokens, head_dim / 2]; sinks [heads] or [0] → output [tokens, heads head_dim]. The new keys and values are
// written into the input `cache`.
template <typename Number>
struct CachedAttention {
  explicit CachedAttention(const Attributes& attributes)
      : heads(attributes.Int("heads")),
        key_value_heads(attributes.Int("key_value_heads")),
        window(attributes.Int("window")),
        scale(attributes.Float("scale")),
        softcap(attributes.Float("softcap")) {}

  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(0, 0);
    const int64_t width = context.Dim(0, 1);
    const bool sound = heads > 0 && key_value_heads > 0 && heads % key_value_heads == 0;
    if (!context.Check(sound, "key_value_heads must divide heads")) return;
    Shape shape{heads, key_value_heads, 0, 0, scale, window, softcap, SinksInput(context, 5, heads)};
    shape.head_dim = width / shape.all_heads();
    shape.padded_dim = RoundUp(shape.head_dim, kPageTokens);
    const bool even = shape.head_dim % 2 == 0 && shape.head_dim * shape.all_heads() == width;
    if (!context.Check(even, "qkv must be as wide as all heads, each of an even size")) return;
    const bool fits = context.Dim(1, 1) == key_value_heads && context.Dim(1, 2) == 2 &&
                      context.Dim(1, 3) == kPageTokens && context.Dim(1, 4) == shape.padded_dim;
    if (!context.Check(fits, "the cache must be of pages of these heads")) return;
    const bool turned = context.Size(3) == tokens * shape.head_dim / 2 && context.Size(4) == context.Size(3);
    if (!context.Check(turned, "each token must have half as many angles as a head has numbers")) return;
    const std::vector<Text> texts = TextsOf(context, tokens);
    if (context.failed()) return;
    Number* output = context.Output<Number>(0, {tokens, shape.heads * shape.head_dim});
    if (context.failed()) return;
    const CachedAttentionTask<Number> task{context.Input<Number>(0), const_cast<Number*>(context.Input<Number>(1)),
                                           Rotary{context.Input<float>(3), context.Input<float>(4)}, shape, output};
    if (!context.failed()) AttendToCache(task, texts);
  }

 private:
  std::vector<Text> TextsOf(Context& context, int64_t tokens) const {
    const int64_t pages = context.Dim(1, 0);
    const int64_t columns = context.Dim(2, 1);
    const int32_t* numbers = context.Input<int32_t>(2);
    std::vector<Text> texts;
    int64_t next = 0;
    for (int64_t i = 0; i < context.Dim(2, 0); i++) {
      const int32_t* row = numbers + i * columns;
      const Text text{row[0], row[1], row[2], row + 3};
      const int64_t end = text.cached + text.tokens;
      const bool sound =
          text.first == next && text.tokens > 0 && text.cached >= 0 && end <= (columns - 3) * kPageTokens;
      if (!context.Check(sound, "the texts must be of the tokens in their order, and have pages for all of them"))
        return {};
      const int64_t used = (end + kPageTokens - 1) / kPageTokens;
      const bool exist =
          std::all_of(text.pages, text.pages + used, [&](int32_t page) { return page >= 0 && page < pages; });
      if (!context.Check(exist, "a text has a page that the cache has not")) return {};
      next += text.tokens;
      texts.push_back(text);
    }
    context.Check(next == tokens, "each token must be of a text");
    return texts;
  }

  int64_t heads;
  int64_t key_value_heads;
  int64_t window;
  float scale;
  float softcap;
};

}  // namespace

std::vector<OpDefinition> CachedAttentionOps() {
  return {
      {"LorasmithCachedAttention",
       {"qkv: T", "cache: T", "texts: int32", "cosine: float", "sine: float", "sinks: float"},
       {"output: T"},
       {"heads: int", "key_value_heads: int", "window: int", "scale: float", "softcap: float"},
       CpuKernels<CachedAttention>()},
  };
}

}  // namespace lorasmith
