// Attention with bfloat16 products: queries, keys, values, weights and gradients are rounded to bfloat16; sums and
// softmax are float32.
//
// Scores are stored transposed, [keys, 32 queries]: the scores of a key are two vectors, softmax needs no sum across a
// vector, and the second matrix of every product is one panel. With the scores S, weights P and output O of a block of
// queries: Sᵀ = K Qᵀ, Oᵀ = Vᵀ Pᵀ. With dX the gradient by X: dPᵀ = V dOᵀ, dV += Pᵀ dO, dK += dSᵀ Q, dQᵀ = Kᵀ dSᵀ.
#include "cpu/bfloat16_tile.h"

#if defined(__AVX512BF16__)

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/vector.h"
#include "ops/attention/attention.h"

namespace lorasmith {
namespace {

constexpr int64_t kQueries = kPanelColumns;

// Keys per block of the backward pass: its scores and their gradients fit into the second-level cache.
constexpr int64_t kKeyBlock = 256;

// The depth of every product is a multiple of this, with zeros where there are no more keys.
constexpr int64_t kDepthStep = 32;

// Distance between rows of `columns` elements. Rows a power of two apart would compete for a few cache lines.
int64_t SpreadStride(int64_t columns) {
  const int64_t stride = RoundUp(columns, 32);
  return stride % 1024 == 0 ? stride + 32 : stride;
}

void RoundRow(const float* from, int64_t size, BFloat16* to) {
  for (int64_t i = 0; i < size; i += 16) StoreNumbers(_mm512_loadu_ps(from + i), to + i);
}

// [slots, dim] → [dim, slots]; both are multiples of 32.
void TransposeNumbers(const BFloat16* from, int64_t slots, int64_t dim, BFloat16* to, int64_t stride) {
  for (int64_t slot = 0; slot < slots; slot += 16) {
    for (int64_t column = 0; column < dim; column += 32) {
      __m512i block[16];
      for (int i = 0; i < 16; i++) block[i] = Load(from + (slot + i) * dim + column);
      Transpose16(block);
      for (int i = 0; i < 16; i++) {
        const __m256i even = _mm512_cvtepi32_epi16(block[i]);
        const __m256i odd = _mm512_cvtepi32_epi16(_mm512_srli_epi32(block[i], 16));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (column + 2 * i) * stride + slot), even);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + (column + 2 * i + 1) * stride + slot), odd);
      }
    }
  }
}

// [dim, 32] → [32, dim]
void TransposeSums(const float* from, int64_t dim, float* to) {
  for (int64_t query = 0; query < kQueries; query += 16) {
    for (int64_t column = 0; column < dim; column += 16) {
      __m512i block[16];
      for (int i = 0; i < 16; i++) block[i] = Load(from + (column + i) * kQueries + query);
      Transpose16(block);
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + (query + i) * dim + column, block[i]);
    }
  }
}

// The keys and values of one row and key head, padded with zeros.
struct KeysAndValues {
  int64_t slots = 0;
  int64_t stride = 0;                      // of the transposed matrices
  std::vector<BFloat16> key;               // [slots, dim], rotated
  std::vector<BFloat16> value;             // [slots, dim]
  std::vector<BFloat16> key_transposed;    // [dim, stride]; for the gradient only
  std::vector<BFloat16> value_transposed;  // [dim, stride]; for the output only

  void Load(const BFloat16* qkv, const Shape& shape, const Rotary& rotary, const Work& work, int64_t dim,
            bool for_gradient) {
    const int64_t width = shape.all_heads() * shape.head_dim;
    const int64_t key_column = (shape.heads + work.key_head) * shape.head_dim;
    const int64_t value_column = key_column + shape.key_value_heads * shape.head_dim;
    slots = RoundUp(work.length, kDepthStep);
    stride = SpreadStride(slots);
    key.assign(slots * dim, BFloat16{0});
    value.assign(slots * dim, BFloat16{0});
    std::vector<float> rotated(dim, 0.0f);
    for (int64_t i = 0; i < work.length; i++) {
      const BFloat16* token = qkv + (work.start + i) * width;
      RotateRow(token + key_column, rotary, i, shape.head_dim, rotated.data());
      RoundRow(rotated.data(), dim, &key[i * dim]);
      std::memcpy(&value[i * dim], token + value_column, shape.head_dim * sizeof(BFloat16));
    }
    std::vector<BFloat16>& transposed = for_gradient ? key_transposed : value_transposed;
    transposed.resize(dim * stride);
    TransposeNumbers(for_gradient ? key.data() : value.data(), slots, dim, transposed.data(), stride);
  }
};

// A block of 32 vectors of one head; those beyond the end of the row are zero.
struct Block {
  std::vector<BFloat16> numbers;   // [32, dim]
  std::vector<BFloat16> by_dim;    // the transposed block, one panel of depth dim
  std::vector<BFloat16> by_query;  // the block, dim / 32 panels of depth 32

  explicit Block(int64_t dim) : numbers(kQueries * dim), by_dim(kQueries * dim), by_query(kQueries * dim) {}

  void Clear(int64_t from, int64_t dim) { std::fill(numbers.begin() + from * dim, numbers.end(), BFloat16{0}); }
  void PackByDim(int64_t dim) {
    PackTransposedPanel(Matrix<BFloat16>{numbers.data(), dim}, dim, kQueries, by_dim.data());
  }
  void PackByQuery(int64_t dim) {
    for (int64_t column = 0; column < dim; column += kPanelColumns) {
      PackPanel(Matrix<BFloat16>{numbers.data() + column, dim}, kQueries, kPanelColumns, &by_query[column * kQueries]);
    }
  }
};

// Which of the keys begin … end - 1 each query of a block sees.
struct Seen {
  int64_t first;
  int64_t queries;
  int64_t begin;
  int64_t end;
  int64_t window;

  Seen(const Shape& shape, const Work& work, int64_t first_query)
      : first(first_query),
        queries(std::min(kQueries, work.length - first_query)),
        begin(shape.first_seen(first_query) / kDepthStep * kDepthStep),
        end(first_query + queries),
        window(shape.window) {}

  // Bit i is set if query first + i sees the key.
  uint32_t Mask(int64_t key) const {
    const int64_t from = std::clamp<int64_t>(key - first, 0, kQueries);
    const int64_t to = window == 0 ? kQueries : std::clamp<int64_t>(key - first + window, 0, kQueries);
    return static_cast<uint32_t>(((uint64_t{1} << to) - 1) & ~((uint64_t{1} << from) - 1));
  }
};

__m512 CappedOf(__m512 x, float cap) {
  // tanh(x) = 1 - 2 / (exp(2x) + 1)
  const __m512 one = _mm512_set1_ps(1.0f), two = _mm512_set1_ps(2.0f);
  const __m512 power = ExpOf(_mm512_mul_ps(x, _mm512_set1_ps(2.0f / cap)));
  return _mm512_mul_ps(_mm512_set1_ps(cap), _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(power, one))));
}

// A scaled and capped score.
inline __m512 Scaled(__m512 score, const Shape& shape) {
  const __m512 scaled = _mm512_mul_ps(score, _mm512_set1_ps(shape.scale));
  return shape.softcap == 0.0f ? scaled : CappedOf(scaled, shape.softcap);
}

inline __m512i Rounded(__m512 values) {
  return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

// Two rows of sixteen numbers → sixteen pairs.
inline __m512i PairsOf(__m512 even, __m512 odd) {
  return _mm512_or_si512(Rounded(even), _mm512_slli_epi32(Rounded(odd), 16));
}

// Makes a panel zero from this key on until the next whole step.
void ClearUnseen(BFloat16* panel, int64_t keys) {
  std::fill(panel + RoundUp(keys, 2) * kQueries, panel + RoundUp(keys, kDepthStep) * kQueries, BFloat16{0});
}

// Softmax over the keys and the head's sink: scores [keys, 32] → weights as a panel, not yet divided by their sums, and
// the greatest score and the sum of each query.
struct Softmax {
  alignas(64) float greatest[kQueries];
  alignas(64) float sums[kQueries];

  Softmax(float* scores, const Seen& seen, const Shape& shape, float sink, BFloat16* weights) {
    const int64_t keys = seen.end - seen.begin;
    for (int half = 0; half < 2; half++) {
      const __m512 unseen = _mm512_set1_ps(-INFINITY), of_sink = _mm512_set1_ps(sink);
      __m512 most = of_sink;
      for (int64_t key = 0; key < keys; key++) {
        float* at = scores + key * kQueries + 16 * half;
        const __mmask16 mask = static_cast<__mmask16>(seen.Mask(seen.begin + key) >> (16 * half));
        const __m512 score = _mm512_mask_mov_ps(unseen, mask, Scaled(_mm512_loadu_ps(at), shape));
        _mm512_storeu_ps(at, score);
        most = _mm512_max_ps(most, score);
      }
      __m512 sum = ExpOf(_mm512_sub_ps(of_sink, most));
      for (int64_t key = 0; key < keys; key += 2) {
        const float* at = scores + key * kQueries + 16 * half;
        const __m512 even = ExpOf(_mm512_sub_ps(_mm512_loadu_ps(at), most));
        const __m512 odd =
            key + 1 < keys ? ExpOf(_mm512_sub_ps(_mm512_loadu_ps(at + kQueries), most)) : _mm512_setzero_ps();
        sum = _mm512_add_ps(sum, _mm512_add_ps(even, odd));
        _mm512_storeu_si512(weights + key * kQueries + 32 * half, PairsOf(even, odd));
      }
      _mm512_store_ps(greatest + 16 * half, most);
      _mm512_store_ps(sums + 16 * half, sum);
    }
    ClearUnseen(weights, keys);
  }
};

// Computes, for some keys, the weights and the gradients by the scores, in the layouts that their products need.
struct ScoreGradient {
  alignas(64) float log_sums[kQueries];
  alignas(64) float output_sums[kQueries];  // Σ P dP over a query's keys = dO · O

  // scores and by_weight [keys, 32] → weights and by_score [keys, 32], and by_score as a panel
  void Compute(const float* scores, const float* by_weight, const Seen& seen, int64_t first_key, int64_t keys,
               const Shape& shape, BFloat16* weights, BFloat16* by_score, BFloat16* panel) const {
    const __m512 zero = _mm512_setzero_ps();
    const float slope = shape.softcap == 0.0f ? 0.0f : 1.0f / (shape.softcap * shape.softcap);
    for (int half = 0; half < 2; half++) {
      const __m512 log_sum = _mm512_load_ps(log_sums + 16 * half);
      const __m512 output_sum = _mm512_load_ps(output_sums + 16 * half);
      __m512 before = zero;
      for (int64_t key = 0; key < keys; key++) {
        const int64_t at = key * kQueries + 16 * half;
        const __mmask16 mask = static_cast<__mmask16>(seen.Mask(first_key + key) >> (16 * half));
        const __m512 score = Scaled(_mm512_loadu_ps(scores + at), shape);
        const __m512 weight = _mm512_maskz_mov_ps(mask, ExpOf(_mm512_sub_ps(score, log_sum)));
        // d (cap tanh(s / cap)) / ds = 1 - tanh²
        const __m512 by_scaled =
            _mm512_fnmadd_ps(_mm512_mul_ps(score, score), _mm512_set1_ps(slope), _mm512_set1_ps(1.0f));
        const __m512 factor = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(shape.scale), by_scaled), weight);
        const __m512 gradient =
            _mm512_maskz_mul_ps(mask, factor, _mm512_sub_ps(_mm512_loadu_ps(by_weight + at), output_sum));
        StoreNumbers(weight, weights + at);
        StoreNumbers(gradient, by_score + at);
        if (key % 2 == 1) {
          _mm512_storeu_si512(panel + (key - 1) * kQueries + 32 * half, PairsOf(before, gradient));
        } else if (key + 1 == keys) {
          _mm512_storeu_si512(panel + key * kQueries + 32 * half, PairsOf(gradient, zero));
        }
        before = gradient;
      }
    }
    ClearUnseen(panel, keys);
  }
};

// Loads and rotates the queries of one head.
void LoadQueries(const BFloat16* qkv, const Shape& shape, const Rotary& rotary, const Work& work, const Seen& seen,
                 int64_t head, int64_t dim, float* rotated, Block* block) {
  const int64_t width = shape.all_heads() * shape.head_dim;
  for (int64_t i = 0; i < seen.queries; i++) {
    const BFloat16* token = qkv + (work.start + seen.first + i) * width;
    RotateRow(token + head * shape.head_dim, rotary, seen.first + i, shape.head_dim, rotated);
    RoundRow(rotated, dim, &block->numbers[i * dim]);
  }
  block->Clear(seen.queries, dim);
  block->PackByDim(dim);
}

}  // namespace

void AttendBFloat16(const BFloat16* qkv, const Shape& shape, const Rotary& rotary, const Work& work, BFloat16* output,
                    float* log_sums) {
  const int64_t dim = shape.padded_dim;
  static thread_local KeysAndValues keys;
  keys.Load(qkv, shape, rotary, work, dim, false);
  static thread_local std::vector<float> scores;
  static thread_local std::vector<BFloat16> weights;
  scores.resize(keys.slots * kQueries);
  weights.resize(keys.slots * kQueries);
  std::vector<float> transposed(dim * kQueries), block(kQueries * dim), rotated(dim, 0.0f);
  Block queries(dim);
  for (int64_t head = work.first_head; head < work.first_head + work.heads; head++) {
    for (int64_t first = 0; first < work.length; first += kQueries) {
      const Seen seen(shape, work, first);
      LoadQueries(qkv, shape, rotary, work, seen, head, dim, rotated.data(), &queries);
      const int64_t seen_keys = seen.end - seen.begin;
      MultiplyPanel({&keys.key[seen.begin * dim], dim}, seen_keys, queries.by_dim.data(), dim, scores.data(), kQueries,
                    false);
      const Softmax softmax(scores.data(), seen, shape, shape.sink(head), weights.data());
      MultiplyPanel({&keys.value_transposed[seen.begin], keys.stride}, dim, weights.data(),
                    RoundUp(seen_keys, kDepthStep), transposed.data(), kQueries, false);
      TransposeSums(transposed.data(), dim, block.data());
      for (int64_t i = 0; i < seen.queries; i++) {
        const int64_t at = (work.start + first + i) * shape.heads + head;
        log_sums[at] = softmax.greatest[i] + std::log(softmax.sums[i]);
        const float inverse = 1.0f / softmax.sums[i];
        BFloat16* to = output + at * shape.head_dim;
#pragma omp simd
        for (int64_t c = 0; c < shape.head_dim; c++) Store(block[i * dim + c] * inverse, to + c);
      }
    }
  }
}

void AttendGradientBFloat16(const BFloat16* qkv, const BFloat16* output, const float* log_sums,
                            const BFloat16* gradient, const Shape& shape, const Rotary& rotary, const Work& work,
                            BFloat16* result, KeyGradient* by_key_head) {
  const int64_t dim = shape.padded_dim;
  const int64_t width = shape.all_heads() * shape.head_dim;
  static thread_local KeysAndValues keys;
  keys.Load(qkv, shape, rotary, work, dim, true);
  constexpr int64_t kBlockNumbers = kKeyBlock * kQueries;
  std::vector<float> scores(kBlockNumbers), by_weight(kBlockNumbers);
  std::vector<BFloat16> weights(kBlockNumbers), by_score(kBlockNumbers), panel(kBlockNumbers);
  std::vector<float> transposed(dim * kQueries), query_gradient(kQueries * dim), rotated(dim, 0.0f);
  Block queries(dim), by_output(dim);
  ScoreGradient by_scores;
  SumOfHeads sum_of_heads(work.length * dim, by_key_head);
  for (int64_t head = work.first_head; head < work.first_head + work.heads; head++) {
    KeyGradient& by = sum_of_heads.Next();
    for (int64_t first = 0; first < work.length; first += kQueries) {
      const Seen seen(shape, work, first);
      LoadQueries(qkv, shape, rotary, work, seen, head, dim, rotated.data(), &queries);
      queries.PackByQuery(dim);
      for (int64_t i = 0; i < kQueries; i++) {
        // For a query beyond the end, these make the weights zero.
        by_scores.log_sums[i] = 1e30f;
        by_scores.output_sums[i] = 0.0f;
        if (i >= seen.queries) continue;
        const int64_t at = (work.start + first + i) * shape.heads + head;
        const BFloat16* from = gradient + at * shape.head_dim;
        const BFloat16* out = output + at * shape.head_dim;
        std::memcpy(&by_output.numbers[i * dim], from, shape.head_dim * sizeof(BFloat16));
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < shape.head_dim; c++) sum += ToFloat(from[c]) * ToFloat(out[c]);
        by_scores.log_sums[i] = log_sums[at];
        by_scores.output_sums[i] = sum;
      }
      by_output.Clear(seen.queries, dim);
      by_output.PackByDim(dim);
      by_output.PackByQuery(dim);
      for (int64_t key = seen.begin; key < seen.end; key += kKeyBlock) {
        const int64_t count = std::min(kKeyBlock, seen.end - key);
        MultiplyPanel({&keys.key[key * dim], dim}, count, queries.by_dim.data(), dim, scores.data(), kQueries, false);
        MultiplyPanel({&keys.value[key * dim], dim}, count, by_output.by_dim.data(), dim, by_weight.data(), kQueries,
                      false);
        by_scores.Compute(scores.data(), by_weight.data(), seen, key, count, shape, weights.data(), by_score.data(),
                          panel.data());
        for (int64_t column = 0; column < dim; column += kPanelColumns) {
          MultiplyPanel({weights.data(), kQueries}, count, &by_output.by_query[column * kQueries], kQueries,
                        &by.value[key * dim + column], dim, true);
          MultiplyPanel({by_score.data(), kQueries}, count, &queries.by_query[column * kQueries], kQueries,
                        &by.key[key * dim + column], dim, true);
        }
        MultiplyPanel({&keys.key_transposed[key], keys.stride}, dim, panel.data(), RoundUp(count, kDepthStep),
                      transposed.data(), kQueries, key != seen.begin);
      }
      TransposeSums(transposed.data(), dim, query_gradient.data());
      for (int64_t i = 0; i < seen.queries; i++) {
        BFloat16* to = result + (work.start + first + i) * width + head * shape.head_dim;
        RotateBack(&query_gradient[i * dim], rotary, first + i, shape.head_dim, to);
      }
    }
  }
  sum_of_heads.Finish();
}

}  // namespace lorasmith

#endif
