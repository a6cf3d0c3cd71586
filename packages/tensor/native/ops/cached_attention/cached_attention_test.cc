// Attention to keys and values in pages: prompts in parts, and single tokens that follow.
#include "cuda/test/kernel_test.h"
#include "ops/cached_attention/cached_attention_shape.h"

namespace {

using namespace kernel_test;

template <typename Number>
constexpr bool kIsBFloat16 = std::is_same_v<Number, bf16>;

// In bfloat16, weights and results are rounded by up to 2⁻⁹ each. In float32, sums have up to 600 terms.
template <typename Number>
constexpr double kTolerance = kIsBFloat16<Number> ? 8e-3 : 5e-6;

// The next tokens of a text.
struct Piece {
  enum Kind { kPrompt, kSingle, kPutOnly } kind;
  int text;
  int tokens;
};
using Step = std::vector<Piece>;

struct Heads {
  int heads, key_value_heads;
  int head_dim;
  int window = 0;
  float softcap = 0;
  bool has_sinks = false;
};

template <typename Number>
struct Inputs {
  Inputs(const Heads& h, const std::vector<int>& lengths)
      : heads(h), lengths(lengths), scale(1.0f / std::sqrt(static_cast<float>(h.head_dim))) {
    for (int length : lengths) qkv.push_back(Randoms<Number>(static_cast<int64_t>(length) * width(), 2));
    if (h.has_sinks) sinks = Randoms<float>(h.heads, 2);
  }

  int width() const { return (heads.heads + 2 * heads.key_value_heads) * heads.head_dim; }
  float Cosine(int position, int i) const { return static_cast<float>(std::cos(Angle(position, i))); }
  float Sine(int position, int i) const { return static_cast<float>(std::sin(Angle(position, i))); }

  Heads heads;
  std::vector<int> lengths;
  float scale;
  std::vector<Numbers<Number>> qkv;  // of each text [length, width]
  Numbers<float> sinks;              // empty for none

 private:
  double Angle(int position, int i) const { return position * std::pow(10000.0, -2.0 * i / heads.head_dim); }
};

// As the host launches them, the texts with pages in turn. Outputs of each text [length, heads, head_dim]; those of
// tokens that are put only stay NaN.
template <typename Number>
std::vector<Numbers<Number>> Compute(const Inputs<Number>& in, const std::vector<Step>& steps, int head_size) {
  const Heads& h = in.heads;
  const std::string type = kIsBFloat16<Number> ? "BFloat16" : "Float32";
  const int texts = static_cast<int>(in.lengths.size()), half = h.head_dim / 2;
  int page_columns = 0;
  for (int length : in.lengths) page_columns = std::max(page_columns, (length + kPageTokens - 1) / kPageTokens);
  const int64_t page_size = 2LL * h.key_value_heads * kPageTokens * PageColumns(h.head_dim);
  // What is not written is NaN, and must not be read.
  Numbers<Number> cache = Unwritten<Number>(texts * page_columns * page_size);
  std::vector<Numbers<Number>> outputs;
  for (int length : in.lengths)
    outputs.push_back(Unwritten<Number>(static_cast<int64_t>(length) * h.heads * h.head_dim));
  std::vector<int> cached(texts);

  for (const Step& step : steps) {
    TextTable all{}, prompts{}, pieces_of{}, single{};
    Numbers<int32_t> pages;
    Numbers<Number> qkv;
    Numbers<float> cosine, sine;
    int tokens = 0, pieces = 0, tiles = 0;
    const AttentionLaunch launch = AttentionForwardLaunch(head_size, kIsBFloat16<Number>);
    for (const Piece& piece : step) {
      TextTokens text{tokens, tokens, piece.tokens, cached[piece.text], all.count, pieces};
      for (int i = 0; i < page_columns; i++) pages.push_back(i * texts + (piece.text + i) % texts);
      const auto* from = &in.qkv[piece.text][static_cast<int64_t>(text.cached) * in.width()];
      qkv.insert(qkv.end(), from, from + static_cast<int64_t>(piece.tokens) * in.width());
      for (int t = 0; t < piece.tokens; t++)
        for (int i = 0; i < half; i++) {
          cosine.push_back(in.Cosine(text.cached + t, i));
          sine.push_back(in.Sine(text.cached + t, i));
        }
      all.at[all.count++] = text;
      if (piece.kind == Piece::kPrompt) {
        text.first_block = tiles;
        prompts.at[prompts.count++] = text;
        tiles += (piece.tokens + launch.rows - 1) / launch.rows;
      } else if (piece.kind == Piece::kSingle) {
        Expect(piece.tokens == 1, "one token");
        text.first_block = single.count;
        single.at[single.count++] = text;
        text.first_block = pieces;
        pieces_of.at[pieces_of.count++] = text;
        pieces += PiecesOf(text.cached, h.window).count;
      }
      tokens += piece.tokens;
      cached[piece.text] += piece.tokens;
    }
    const AttentionShape shape{tokens,     all.count, h.heads,  h.key_value_heads,
                               h.head_dim, h.window,  in.scale, h.softcap};
    Numbers<Number> queries = Unwritten<Number>(static_cast<int64_t>(tokens) * h.heads * head_size);
    Numbers<Number> output = Unwritten<Number>(static_cast<int64_t>(tokens) * h.heads * h.head_dim);
    Numbers<float> partials = Unwritten<float>(static_cast<int64_t>(pieces) * h.heads * h.head_dim);
    Numbers<float> sums = Unwritten<float>(2LL * pieces * h.heads);
    const Number *all_queries = queries.data(), *all_keys = cache.data();
    const float* sinks = in.sinks.empty() ? nullptr : in.sinks.data();
    const int32_t* table = pages.data();
    const int put_groups = (h.heads + 2 * h.key_value_heads + kPutHeads - 1) / kPutHeads;
    Launch("CachePut" + type, dim3(tokens, put_groups), kPutThreads, 0, all, static_cast<const Number*>(qkv.data()),
           static_cast<const float*>(cosine.data()), static_cast<const float*>(sine.data()), table, page_columns, shape,
           head_size, queries.data(), cache.data());
    if (prompts.count > 0)
      Launch("AttentionPages" + type + "_" + std::to_string(head_size), dim3(tiles, h.heads, launch.column_blocks),
             launch.threads, launch.shared_bytes, prompts, all_queries, all_keys, table, page_columns, sinks, shape,
             output.data());
    if (single.count > 0) {
      const int groups = h.key_value_heads * ((h.heads / h.key_value_heads + kPieceHeads - 1) / kPieceHeads);
      Launch("CachedAttention" + type, dim3(pieces, groups), kPieceThreads, 0, pieces_of, all_queries, head_size,
             all_keys, table, page_columns, shape, partials.data(), sums.data());
      Launch("CachedAttentionMerge" + type, dim3(single.count, h.heads), kMergeThreads, 0, single,
             static_cast<const float*>(partials.data()), static_cast<const float*>(sums.data()), sinks, shape,
             output.data());
    }
    int64_t first = 0;
    for (const Piece& piece : step) {
      const int64_t size = static_cast<int64_t>(h.heads) * h.head_dim, end = first + piece.tokens * size;
      std::copy(output.begin() + first, output.begin() + end,
                outputs[piece.text].begin() + (cached[piece.text] - piece.tokens) * size);
      first = end;
    }
  }
  return outputs;
}

// Output [heads, head_dim] of one token. Rotated queries and keys are rounded as the kernels do.
template <typename Number>
void PlainToken(const Inputs<Number>& in, int text, int token, std::vector<double>& to) {
  const Heads& h = in.heads;
  const int D = h.head_dim, half = D / 2;
  const auto number = [&](int t, int head, int i) {
    return ToFloat(in.qkv[text][static_cast<int64_t>(t) * in.width() + head * D + i]);
  };
  const auto rotated = [&](int t, int head) {
    std::vector<double> result(D);
    for (int i = 0; i < half; i++) {
      const float a = number(t, head, i), b = number(t, head, i + half);
      const float c = in.Cosine(t, i), s = in.Sine(t, i);
      Number low, high;
      Store(a * c - b * s, &low);
      Store(b * c + a * s, &high);
      result[i] = ToFloat(low);
      result[i + half] = ToFloat(high);
    }
    return result;
  };
  for (int head = 0; head < h.heads; head++) {
    const int key_head = head / (h.heads / h.key_value_heads);
    const std::vector<double> query = rotated(token, head);
    std::vector<double> result(D);
    double total = h.has_sinks ? std::exp(in.sinks[head]) : 0;
    for (int t = h.window == 0 ? 0 : std::max(0, token - h.window + 1); t <= token; t++) {
      const std::vector<double> key = rotated(t, h.heads + key_head);
      double score = 0;
      for (int i = 0; i < D; i++) score += query[i] * key[i];
      score *= in.scale;
      if (h.softcap != 0) score = h.softcap * std::tanh(score / h.softcap);
      const double weight = std::exp(score);
      total += weight;
      for (int i = 0; i < D; i++) result[i] += weight * number(t, h.heads + h.key_value_heads + key_head, i);
    }
    for (int i = 0; i < D; i++) to.push_back(result[i] / total);
  }
}

template <typename Number>
void Check(const Heads& heads, const std::vector<int>& lengths, const std::vector<Step>& steps, int head_size) {
  const Inputs<Number> in(heads, lengths);
  const std::vector<Numbers<Number>> outputs = Compute(in, steps, head_size);
  for (const Numbers<Number>& output : outputs) Record(output);
  if (!run.compares) return;
  std::vector<int> cached(lengths.size());
  for (const Step& step : steps)
    for (const auto& [kind, text, tokens] : step) {
      const int from = cached[text], size = heads.heads * heads.head_dim;
      cached[text] += tokens;
      if (kind == Piece::kPutOnly) continue;
      std::vector<double> expected;
      for (int t = from; t < from + tokens; t++) PlainToken(in, text, t, expected);
      const Numbers<Number> actual(outputs[text].begin() + from * size, outputs[text].begin() + cached[text] * size);
      ExpectClose("output", actual, expected, heads.head_dim, kTolerance<Number>);
    }
}

// A text's results are the same bytes beside another, and with its prompt in other parts.
template <typename Number>
void CheckAlone(int head_size, const std::vector<Step>& alone, const std::vector<Step>& beside, int length) {
  const Heads heads{2, 1, head_size};
  const Inputs<Number> both(heads, {length, 40});
  Inputs<Number> own(heads, {length});
  own.qkv = {both.qkv[0]};
  const Numbers<Number> expected = Compute(own, alone, head_size)[0], actual = Compute(both, beside, head_size)[0];
  Expect(memcmp(expected.data(), actual.data(), actual.size() * sizeof(Number)) == 0, "another result beside a text");
}

constexpr Piece::Kind kPrompt = Piece::kPrompt, kSingle = Piece::kSingle, kPutOnly = Piece::kPutOnly;

// Tokens that follow one by one: one and several pieces of keys, texts of any length beside each other.
template <typename Number>
void CheckSingle(const Heads& heads, int head_size) {
  const int longest = small ? kPieceKeys + 2 : 2 * kPieceKeys + 40;
  Check<Number>(heads, {longest, 33, 1, kPieceKeys},
                {{{kPutOnly, 0, longest - 1}, {kPutOnly, 3, kPieceKeys - 1}, {kPutOnly, 1, 31}},
                 {{kSingle, 3, 1}, {kSingle, 1, 1}, {kSingle, 0, 1}, {kSingle, 2, 1}},
                 {{kSingle, 1, 1}}},
                head_size);
}

}  // namespace

#define CACHED_SINGLE_TESTS(Type, Number)                                                                      \
  KERNEL_TEST(CachedSingle##Type##Heads) { CheckSingle<Number>({6, 2, 64}, 64); }                              \
  KERNEL_TEST(CachedSingle##Type##Window) { CheckSingle<Number>({2, 1, 12, kPieceKeys + 30, 4}, 64); }         \
  KERNEL_TEST(CachedSingle##Type##ShortWindow) { CheckSingle<Number>({1, 1, 68, 20, 0, true}, 80); }           \
  KERNEL_TEST(CachedSingle##Type##ManyHeads) { CheckSingle<Number>({11, 1, 36, 0, 0, true}, 64); }             \
  KERNEL_TEST(CachedSingle##Type##LargeHead) { CheckSingle<Number>({small ? 1 : 5, 1, 512, 0, 5}, 512); }      \
  KERNEL_TEST(CachedSingle##Type##Alone) {                                                                     \
    if (small) return; /* runs no code of its own */                                                           \
    CheckAlone<Number>(                                                                                        \
        64, {{{kPutOnly, 0, 300}}, {{kSingle, 0, 1}}, {{kSingle, 0, 1}}},                                      \
        {{{kPutOnly, 0, 300}, {kPrompt, 1, 30}}, {{kSingle, 1, 1}, {kSingle, 0, 1}}, {{kSingle, 0, 1}}}, 302); \
  }

CACHED_SINGLE_TESTS(BFloat16, bf16)
CACHED_SINGLE_TESTS(Float32, float)

// `narrow`: of the head, smaller than the kernel's.
#define CACHED_PROMPT_TESTS_OF(Type, Number, D, narrow)                                                               \
  KERNEL_TEST(CachedPrompt##Type##Parts_##D) {                                                                        \
    Check<Number>({2, 1, D}, {100, 65, 30},                                                                           \
                  {{{kPrompt, 0, 29}, {kPrompt, 2, 2}},                                                               \
                   {{kPrompt, 1, 65}, {kPrompt, 0, 70}, {kSingle, 2, 1}},                                             \
                   {{kPrompt, 0, 1}, {kPrompt, 2, 27}}},                                                              \
                  D);                                                                                                 \
  }                                                                                                                   \
  KERNEL_TEST(CachedPrompt##Type##Narrow_##D) {                                                                       \
    Check<Number>({4, 2, narrow, 40, 5, true}, {small ? 70 : 140, 7},                                                 \
                  {{{kPutOnly, 0, small ? 66 : 70}}, {{kPrompt, 0, small ? 4 : 70}, {kPrompt, 1, 7}}}, D);            \
  }                                                                                                                   \
  KERNEL_TEST(CachedPrompt##Type##Alone_##D) {                                                                        \
    if (small) return; /* runs no code of its own */                                                                  \
    CheckAlone<Number>(D, {{{kPrompt, 0, 130}}},                                                                      \
                       {{{kPrompt, 1, 9}, {kPrompt, 0, 37}}, {{kPrompt, 0, 92}, {kSingle, 1, 1}}, {{kPrompt, 0, 1}}}, \
                       130);                                                                                          \
  }

#define CACHED_PROMPT_TESTS(D, narrow)              \
  CACHED_PROMPT_TESTS_OF(BFloat16, bf16, D, narrow) \
  CACHED_PROMPT_TESTS_OF(Float32, float, D, narrow)

CACHED_PROMPT_TESTS(64, 12)
CACHED_PROMPT_TESTS(80, 68)
CACHED_PROMPT_TESTS(96, 84)
CACHED_PROMPT_TESTS(128, 100)
CACHED_PROMPT_TESTS(256, 160)
CACHED_PROMPT_TESTS(512, 320)
