// Inputs and outputs of attention to cached keys and values, on every device.
#pragma once

#include <vector>

#include "ops/attention/attention_operands.h"
#include "ops/cached_attention/cache_page.h"

namespace lorasmith {

// The new tokens of a text.
struct CachedText {
  int64_t first;  // in the stream
  int64_t tokens;
  int64_t cached;  // tokens of the text in the cache before these
  bool is_prompt;
};

// qkv [tokens, (heads + 2 key_value_heads) head_dim], cache [pages, key_value_heads, 2, 32, padded_dim], texts
// [texts, 4] in the host's memory: of each text its first new token, how many it has, how many the cache has, and
// whether they are of what it began with; pages [texts, page_columns]: the pages of each; cosine and sine [tokens,
// head_dim / 2]; sinks [heads] or [0] → output [tokens, heads head_dim].
template <typename Number>
struct CachedAttentionOperands {
  CachedAttentionOperands(Context& context, const AttentionAttributes& attributes)
      : tokens(context.Dim(0, 0)),
        pages(context.Dim(1, 0)),
        page_columns(context.Dim(3, 1)),
        qkv(context.Input<Number>(0)),
        cache(const_cast<Number*>(context.Input<Number>(1))),
        rotary{context.Input<float>(4), context.Input<float>(5)},
        sinks(SinksInput(context, 6, attributes.heads)) {
    const int64_t heads = attributes.heads, key_value_heads = attributes.key_value_heads;
    const bool sound = heads > 0 && key_value_heads > 0 && heads % key_value_heads == 0;
    if (!context.Check(sound, "key_value_heads must divide heads")) return;
    const int64_t width = context.Dim(0, 1);
    head_dim = width / attributes.all_heads();
    const bool even = head_dim % 2 == 0 && head_dim * attributes.all_heads() == width;
    if (!context.Check(even, "qkv must be as wide as all heads, each of an even size")) return;
    padded_dim = PageColumns(static_cast<int>(head_dim));
    const bool fits = context.Dim(1, 1) == key_value_heads && context.Dim(1, 2) == 2 &&
                      context.Dim(1, 3) == kPageTokens && context.Dim(1, 4) == padded_dim;
    if (!context.Check(fits, "the cache must be of pages of these heads")) return;
    const bool turned = context.Size(4) == tokens * head_dim / 2 && context.Size(5) == context.Size(4);
    if (!context.Check(turned, "each token must have half as many angles as a head has numbers")) return;
    ReadTexts(context);
    if (!context.failed()) output = context.Output<Number>(0, {tokens, heads * head_dim});
  }

  int64_t tokens;
  int64_t pages;  // of the cache
  int64_t page_columns;
  int64_t head_dim = 0;
  int64_t padded_dim = 0;
  const Number* qkv;
  Number* cache;
  std::vector<CachedText> texts;
  // Of each token of the stream.
  Rotary rotary;
  const float* sinks;
  Number* output = nullptr;

 private:
  void ReadTexts(Context& context) {
    const int32_t* numbers = context.Input<int32_t>(2);
    const int64_t count = context.Dim(2, 0);
    const bool whole = count == 0 || context.Dim(2, 1) == 4;
    if (!context.Check(whole && context.Dim(3, 0) == count, "each text must have four numbers, and pages")) return;
    int64_t next = 0;
    for (int64_t i = 0; i < count; i++) {
      const int32_t* row = numbers + 4 * i;
      const CachedText text{row[0], row[1], row[2], row[3] != 0};
      const bool sound = text.first == next && text.tokens > 0 && text.cached >= 0 &&
                         text.cached + text.tokens <= page_columns * kPageTokens;
      if (!context.Check(sound, "the texts must be of the tokens in their order, and have pages for all of them"))
        return;
      next += text.tokens;
      texts.push_back(text);
    }
    context.Check(next == tokens, "each token must be of a text");
  }
};

}  // namespace lorasmith
