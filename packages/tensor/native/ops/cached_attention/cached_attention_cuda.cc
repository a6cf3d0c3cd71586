// Attention to keys and values in pages on a GPU: what it computes is in cached_attention.cc. Tokens that a text
// began with have the forward kernels of attention, any number of them one launch; those that it has got since have
// cached_attention.cu. So a token's result depends on its own text alone, however its prompt was cut.
//
// Memory besides inputs and outputs: rotated queries, and for new tokens the results of each piece of their keys in
// float32.
#include "cuda/host/launch.h"
#include "ops/attention/attention_heads.h"
#include "ops/cached_attention/cached_attention_operands.h"
#include "ops/cached_attention/cached_attention_shape.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
const Kernel<void(TextTable texts, const Number* qkv, const float* cosine, const float* sine, const int32_t* pages,
                  int page_columns, AttentionShape shape, int query_columns, Number* queries, Number* cache)>
    kPut{"cached_attention", "CachePut" + TypeName<Number>()};

template <typename Number>
const Kernel<void(TextTable texts, const Number* queries, int query_columns, const Number* cache, const int32_t* pages,
                  int page_columns, AttentionShape shape, float* partials, float* sums)>
    kAttend{"cached_attention", "CachedAttention" + TypeName<Number>()};

template <typename Number>
const Kernel<void(TextTable texts, const float* partials, const float* sums, const float* sinks, AttentionShape shape,
                  Number* output)>
    kMerge{"cached_attention", "CachedAttentionMerge" + TypeName<Number>()};

template <typename Number>
struct PromptKernel : Kernel<void(TextTable texts, const Number* queries, const Number* cache, const int32_t* pages,
                                  int page_columns, const float* sinks, AttentionShape shape, Number* output)> {
  explicit PromptKernel(int size)
      : PromptKernel::Kernel("attention_" + std::to_string(size),
                             "AttentionPages" + TypeName<Number>() + "_" + std::to_string(size)),
        head_size(size) {}

  int head_size;
};

template <typename Number>
const PromptKernel<Number> kPrompts[] = {PromptKernel<Number>(64),  PromptKernel<Number>(80),
                                         PromptKernel<Number>(96),  PromptKernel<Number>(128),
                                         PromptKernel<Number>(256), PromptKernel<Number>(512)};

template <typename Number>
struct CachedAttention : AttentionAttributes {
  using AttentionAttributes::AttentionAttributes;

  void Compute(Context& context) const {
    const CachedAttentionOperands<Number> o(context, *this);
    const PromptKernel<Number>* prompt_kernel = KernelsFor(context, kPrompts<Number>, o.head_dim);
    if (prompt_kernel == nullptr) return;
    const AttentionShape shape = ShapeOf(*this, o.tokens, o.texts.size(), o.head_dim);
    const Steps steps(o.texts, shape.window);
    const int columns = static_cast<int>(o.page_columns), head_size = prompt_kernel->head_size;
    const int32_t* pages = context.Input<int32_t>(3);
    Number* queries = context.Scratch<Number>(o.tokens * heads * head_size);
    float* partials = context.Scratch<float>(steps.pieces * heads * o.head_dim);
    float* sums = context.Scratch<float>(steps.pieces * heads * 2);
    if (context.failed()) return;

    ForEachTable<TextTable>(steps.all, TokensOf, [&](const TextTable& table, int64_t blocks) {
      const Grid grid{blocks, DivideUp(all_heads(), kPutHeads)};
      kPut<Number>.Launch(context, grid, kPutThreads, 0, table, o.qkv, o.rotary.cosine, o.rotary.sine, pages, columns,
                          shape, head_size, queries, o.cache);
    });
    const AttentionLaunch launch = AttentionForwardLaunch(head_size, std::is_same_v<Number, BFloat16>);
    const auto tiles_of = [&](const TextTokens& text) { return DivideUp(text.tokens, launch.rows); };
    ForEachTable<TextTable>(steps.prompts, tiles_of, [&](const TextTable& table, int64_t blocks) {
      prompt_kernel->Launch(context, {blocks, heads, launch.column_blocks}, launch.threads, launch.shared_bytes, table,
                            queries, o.cache, pages, columns, o.sinks, shape, o.output);
    });
    const auto pieces_of = [&](const TextTokens& token) { return PiecesOf(token.cached, shape.window).count; };
    ForEachTable<TextTable>(steps.single, pieces_of, [&](const TextTable& table, int64_t blocks) {
      const Grid grid{blocks, key_value_heads * DivideUp(heads / key_value_heads, kPieceHeads)};
      kAttend<Number>.Launch(context, grid, kPieceThreads, 0, table, queries, head_size, o.cache, pages, columns, shape,
                             partials, sums);
    });
    ForEachTable<TextTable>(steps.single, TokensOf, [&](const TextTable& table, int64_t blocks) {
      kMerge<Number>.Launch(context, {blocks, heads}, kMergeThreads, 0, table, partials, sums, o.sinks, shape,
                            o.output);
    });
  }

 private:
  static int64_t TokensOf(const TextTokens& text) { return text.tokens; }

  // The new tokens of all texts, as kernels take them.
  struct Steps {
    Steps(const std::vector<CachedText>& texts, int window) {
      for (size_t row = 0; row < texts.size(); row++) {
        const CachedText& text = texts[row];
        const TextTokens tokens{0,
                                static_cast<int>(text.first),
                                static_cast<int>(text.tokens),
                                static_cast<int>(text.cached),
                                static_cast<int>(row),
                                0};
        all.push_back(tokens);
        if (text.is_prompt) {
          prompts.push_back(tokens);
          continue;
        }
        for (int i = 0; i < tokens.tokens; i++) {
          single.push_back({0, tokens.first + i, 1, tokens.cached + i, tokens.row, static_cast<int>(pieces)});
          pieces += PiecesOf(tokens.cached + i, window).count;
        }
      }
    }

    std::vector<TextTokens> all;
    std::vector<TextTokens> prompts;
    std::vector<TextTokens> single;
    int64_t pieces = 0;
  };
};

const GpuOps kOps{{"LorasmithCachedAttention", GpuKernels<CachedAttention>({"texts"})}};

}  // namespace
}  // namespace lorasmith::cuda
