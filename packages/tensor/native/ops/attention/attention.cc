// Causal grouped-query attention with rotary positions, over rows of any length in one stream, and its gradient.
//
// Only the scores of one block of queries are in memory, so memory grows with the length of a row, not with its square.
// The backward pass computes them again from the logarithm of each query's sum, as FlashAttention does
// (arXiv:2205.14135). A head can have a sink (Xiao et al. 2024, arXiv:2309.17453, as a learned logit): it takes a part
// of the weights and gives nothing. It is frozen, so the backward pass knows it by the sums only.
#include "ops/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/gemm.h"
#include "cpu/kernel.h"
#include "cpu/parallel.h"

namespace lorasmith {
namespace {

constexpr int64_t kQueryBlock = 24;

// A multiple of the vector width in float32 and of the panel width in bfloat16.
constexpr int64_t kPaddedTo = 32;

// The query heads of a key head are units of their own if there are otherwise too few for all threads. The longest
// units come first.
std::vector<Work> WorkOf(const int32_t* offsets, int64_t rows, const Shape& shape) {
  const int64_t parts = rows * shape.key_value_heads < 4 * Threads() ? shape.queries_per_key() : 1;
  const int64_t heads = shape.queries_per_key() / parts;
  std::vector<Work> work;
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t key_head = 0; key_head < shape.key_value_heads; key_head++) {
      for (int64_t part = 0; part < parts; part++) {
        const int64_t first_head = key_head * shape.queries_per_key() + part * heads;
        work.push_back({offsets[row], offsets[row + 1] - offsets[row], key_head, first_head, heads});
      }
    }
  }
  std::stable_sort(work.begin(), work.end(), [](const Work& a, const Work& b) { return a.length > b.length; });
  return work;
}

// [rows, columns] → [columns, rows]; the rows of the result are `stride` numbers apart.
void Transpose(const float* from, int64_t rows, int64_t columns, int64_t from_stride, float* to, int64_t stride) {
  constexpr int64_t kBlock = 16;
  for (int64_t row = 0; row < rows; row += kBlock) {
    for (int64_t column = 0; column < columns; column++) {
      const int64_t end = std::min(row + kBlock, rows);
      for (int64_t r = row; r < end; r++) to[column * stride + r] = from[r * from_stride + column];
    }
  }
}

// The keys and values of one row and key head, in float32.
struct KeysAndValues {
  std::vector<float> key;               // [length, padded_dim], rotated
  std::vector<float> key_transposed;    // [head_dim, slots]
  std::vector<float> value;             // [length, padded_dim]
  std::vector<float> value_transposed;  // [head_dim, slots]; for the gradient only
  int64_t slots = 0;                    // length rounded up to whole vectors

  template <typename Number>
  void Load(const Number* qkv, const Shape& shape, const Rotary& rotary, const Work& work, bool for_gradient) {
    const int64_t width = shape.all_heads() * shape.head_dim;
    const int64_t key_column = (shape.heads + work.key_head) * shape.head_dim;
    const int64_t value_column = key_column + shape.key_value_heads * shape.head_dim;
    slots = RoundUp(work.length, kLanes);
    key.assign(work.length * shape.padded_dim, 0.0f);
    value.assign(work.length * shape.padded_dim, 0.0f);
    key_transposed.assign(shape.head_dim * slots, 0.0f);
    for (int64_t i = 0; i < work.length; i++) {
      const Number* token = qkv + (work.start + i) * width;
      RotateRow(token + key_column, rotary, i, shape.head_dim, &key[i * shape.padded_dim]);
      CopyRow(token + value_column, shape.head_dim, &value[i * shape.padded_dim]);
    }
    Transpose(key.data(), work.length, shape.head_dim, shape.padded_dim, key_transposed.data(), slots);
    if (!for_gradient) return;
    value_transposed.assign(shape.head_dim * slots, 0.0f);
    Transpose(value.data(), work.length, shape.head_dim, shape.padded_dim, value_transposed.data(), slots);
  }
};

// Memory that a thread reuses for each unit of work.
struct Scratch {
  KeysAndValues keys;
  std::vector<float> query;   // [block, padded_dim]
  std::vector<float> scores;  // [block, slots]
  std::vector<float> output;  // [block, padded_dim]
  std::vector<float> score_gradient;
  std::vector<float> query_gradient;
};

Scratch& ThreadScratch() {
  static thread_local Scratch scratch;
  return scratch;
}

// Scales the scores and, if the model has a cap, caps them.
void ScaleRow(float* scores, int64_t begin, int64_t end, const Shape& shape) {
#pragma omp simd
  for (int64_t j = begin; j < end; j++) scores[j] *= shape.scale;
  if (shape.softcap == 0.0f) return;
#pragma omp simd
  for (int64_t j = begin; j < end; j++) scores[j] = Capped(scores[j], shape.softcap);
}

void ZeroOutside(float* row, int64_t from, int64_t begin, int64_t end, int64_t to) {
  for (int64_t j = from; j < begin; j++) row[j] = 0.0f;
  for (int64_t j = end; j < to; j++) row[j] = 0.0f;
}

// Softmax of the scaled scores begin … end - 1 and the head's sink. Returns the logarithm of the sum.
float SoftmaxRow(float* scores, int64_t begin, int64_t end, float sink) {
  float greatest = sink;
#pragma omp simd reduction(max : greatest)
  for (int64_t j = begin; j < end; j++) greatest = scores[j] > greatest ? scores[j] : greatest;
  float sum = Exp(sink - greatest);
#pragma omp simd reduction(+ : sum)
  for (int64_t j = begin; j < end; j++) {
    const float weight = Exp(scores[j] - greatest);
    scores[j] = weight;
    sum += weight;
  }
  const float inverse = 1.0f / sum;
#pragma omp simd
  for (int64_t j = begin; j < end; j++) scores[j] *= inverse;
  return greatest + std::log(sum);
}

template <typename Number>
void Attend(const Number* qkv, const Shape& shape, const Rotary& rotary, const Work& work, Number* output,
            float* log_sums) {
  Scratch& s = ThreadScratch();
  s.keys.Load(qkv, shape, rotary, work, false);
  const int64_t width = shape.all_heads() * shape.head_dim;
  s.query.assign(kQueryBlock * shape.padded_dim, 0.0f);
  s.output.assign(kQueryBlock * shape.padded_dim, 0.0f);
  s.scores.resize(kQueryBlock * s.keys.slots);
  for (int64_t head = work.first_head; head < work.first_head + work.heads; head++) {
    for (int64_t first = 0; first < work.length; first += kQueryBlock) {
      const int64_t queries = std::min(kQueryBlock, work.length - first);
      for (int64_t i = 0; i < queries; i++) {
        const Number* token = qkv + (work.start + first + i) * width;
        RotateRow(token + head * shape.head_dim, rotary, first + i, shape.head_dim, &s.query[i * shape.padded_dim]);
      }
      // The queries of this block see keys begin … end - 1. Scores are computed for the whole vectors around them.
      const int64_t begin = shape.first_seen(first) / kLanes * kLanes;
      const int64_t end = first + queries;
      const int64_t columns = RoundUp(end, kLanes) - begin;
      Multiply({s.query.data(), shape.padded_dim, 1}, s.keys.key_transposed.data() + begin, s.keys.slots,
               s.scores.data() + begin, s.keys.slots, queries, columns, shape.head_dim, false);
      for (int64_t i = 0; i < queries; i++) {
        float* scores = &s.scores[i * s.keys.slots];
        const int64_t own_begin = shape.first_seen(first + i);
        const int64_t own_end = first + i + 1;
        ScaleRow(scores, own_begin, own_end, shape);
        log_sums[(work.start + first + i) * shape.heads + head] =
            SoftmaxRow(scores, own_begin, own_end, shape.sink(head));
        ZeroOutside(scores, begin, own_begin, own_end, begin + columns);
      }
      Multiply({s.scores.data() + begin, s.keys.slots, 1}, s.keys.value.data() + begin * shape.padded_dim,
               shape.padded_dim, s.output.data(), shape.padded_dim, queries, shape.padded_dim, end - begin, false);
      for (int64_t i = 0; i < queries; i++) {
        Number* to = output + ((work.start + first + i) * shape.heads + head) * shape.head_dim;
#pragma omp simd
        for (int64_t c = 0; c < shape.head_dim; c++) Store(s.output[i * shape.padded_dim + c], to + c);
      }
    }
  }
}

// With P the weights and dO the gradient of the output: dV = Pᵀ dO, dP = dO Vᵀ, dS = scale P (dP - Σ P dP), where the
// sum over a query's keys is dO · O; dQ = dS K, dK = dSᵀ Q.
template <typename Number>
void AttendGradient(const Number* qkv, const Number* output, const float* log_sums, const Number* gradient,
                    const Shape& shape, const Rotary& rotary, const Work& work, Number* result,
                    KeyGradient* by_key_head) {
  Scratch& s = ThreadScratch();
  s.keys.Load(qkv, shape, rotary, work, true);
  const int64_t width = shape.all_heads() * shape.head_dim;
  const int64_t dim = shape.padded_dim;
  const int64_t slots = s.keys.slots;
  s.query.assign(kQueryBlock * dim, 0.0f);
  s.output.assign(kQueryBlock * dim, 0.0f);  // holds the gradient of the output
  s.query_gradient.resize(kQueryBlock * dim);
  s.scores.resize(kQueryBlock * slots);
  s.score_gradient.resize(kQueryBlock * slots);
  SumOfHeads sum_of_heads(work.length * dim, by_key_head);
  for (int64_t head = work.first_head; head < work.first_head + work.heads; head++) {
    KeyGradient& by = sum_of_heads.Next();
    for (int64_t first = 0; first < work.length; first += kQueryBlock) {
      const int64_t queries = std::min(kQueryBlock, work.length - first);
      float row_sums[kQueryBlock];
      for (int64_t i = 0; i < queries; i++) {
        const int64_t token = work.start + first + i;
        RotateRow(qkv + token * width + head * shape.head_dim, rotary, first + i, shape.head_dim, &s.query[i * dim]);
        const int64_t at = (token * shape.heads + head) * shape.head_dim;
        CopyRow(gradient + at, shape.head_dim, &s.output[i * dim]);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < shape.head_dim; c++) sum += s.output[i * dim + c] * ToFloat(output[at + c]);
        row_sums[i] = sum;
      }
      const int64_t begin = shape.first_seen(first) / kLanes * kLanes;
      const int64_t end = first + queries;
      const int64_t columns = RoundUp(end, kLanes) - begin;
      Multiply({s.query.data(), dim, 1}, s.keys.key_transposed.data() + begin, slots, s.scores.data() + begin, slots,
               queries, columns, shape.head_dim, false);
      Multiply({s.output.data(), dim, 1}, s.keys.value_transposed.data() + begin, slots,
               s.score_gradient.data() + begin, slots, queries, columns, shape.head_dim, false);
      for (int64_t i = 0; i < queries; i++) {
        const float log_sum = log_sums[(work.start + first + i) * shape.heads + head];
        float* weights = &s.scores[i * slots];
        float* by_score = &s.score_gradient[i * slots];
        const float row_sum = row_sums[i];
        const int64_t own_begin = shape.first_seen(first + i);
        const int64_t own_end = first + i + 1;
        ScaleRow(weights, own_begin, own_end, shape);
        const float slope_of_cap = shape.softcap == 0.0f ? 0.0f : 1.0f / (shape.softcap * shape.softcap);
#pragma omp simd
        for (int64_t j = own_begin; j < own_end; j++) {
          // d (cap tanh(s / cap)) / ds = 1 - tanh²
          const float slope = 1.0f - weights[j] * weights[j] * slope_of_cap;
          const float weight = Exp(weights[j] - log_sum);
          weights[j] = weight;
          by_score[j] = shape.scale * slope * weight * (by_score[j] - row_sum);
        }
        ZeroOutside(weights, begin, own_begin, own_end, begin + columns);
        ZeroOutside(by_score, begin, own_begin, own_end, begin + columns);
      }
      const int64_t seen = end - begin;
      Multiply({s.scores.data() + begin, 1, slots}, s.output.data(), dim, &by.value[begin * dim], dim, seen, dim,
               queries, true);
      Multiply({s.score_gradient.data() + begin, 1, slots}, s.query.data(), dim, &by.key[begin * dim], dim, seen, dim,
               queries, true);
      Multiply({s.score_gradient.data() + begin, slots, 1}, &s.keys.key[begin * dim], dim, s.query_gradient.data(), dim,
               queries, dim, seen, false);
      for (int64_t i = 0; i < queries; i++) {
        Number* to = result + (work.start + first + i) * width + head * shape.head_dim;
        RotateBack(&s.query_gradient[i * dim], rotary, first + i, shape.head_dim, to);
      }
    }
  }
  sum_of_heads.Finish();
}

// Writes the gradients by the keys and values of one row and key head.
template <typename Number>
void StoreKeyGradient(const KeyGradient& by, const Shape& shape, const Rotary& rotary, const Work& work,
                      Number* result) {
  const int64_t width = shape.all_heads() * shape.head_dim;
  const int64_t key_column = (shape.heads + work.key_head) * shape.head_dim;
  const int64_t value_column = key_column + shape.key_value_heads * shape.head_dim;
  for (int64_t i = 0; i < work.length; i++) {
    Number* token = result + (work.start + i) * width;
    RotateBack(&by.key[i * shape.padded_dim], rotary, i, shape.head_dim, token + key_column);
    const float* values = &by.value[i * shape.padded_dim];
#pragma omp simd
    for (int64_t c = 0; c < shape.head_dim; c++) Store(values[c], token + value_column + c);
  }
}

#if defined(__AVX512BF16__)

// On these processors bfloat16 has its own product instructions.
template <>
void Attend(const BFloat16* qkv, const Shape& shape, const Rotary& rotary, const Work& work, BFloat16* output,
            float* log_sums) {
  AttendBFloat16(qkv, shape, rotary, work, output, log_sums);
}

template <>
void AttendGradient(const BFloat16* qkv, const BFloat16* output, const float* log_sums, const BFloat16* gradient,
                    const Shape& shape, const Rotary& rotary, const Work& work, BFloat16* result,
                    KeyGradient* by_key_head) {
  AttendGradientBFloat16(qkv, output, log_sums, gradient, shape, rotary, work, result, by_key_head);
}

#endif

Shape ShapeOf(const AttentionAttributes& attributes, int64_t head_dim, const float* sinks) {
  return {attributes.heads, attributes.key_value_heads, head_dim,           RoundUp(head_dim, kPaddedTo),
          attributes.scale, attributes.window,          attributes.softcap, sinks};
}

template <typename Number>
bool CheckRows(Context& context, const AttentionStream<Number>& stream) {
  const int32_t* offsets = stream.offsets;
  const bool whole = offsets[0] == 0 && offsets[stream.rows] == stream.tokens;
  if (!context.Check(whole, "offsets must begin at 0 and end at the tokens")) return false;
  for (int64_t row = 0; row < stream.rows; row++) {
    const int64_t length = offsets[row + 1] - offsets[row];
    if (!context.Check(length > 0 && length <= stream.positions, "a row is empty or longer than the rotary table"))
      return false;
  }
  return true;
}

template <typename Number>
struct Attention : AttentionAttributes {
  using AttentionAttributes::AttentionAttributes;

  void Compute(Context& context) const {
    const AttentionOperands<Number> o(context, *this);
    if (context.failed() || !CheckRows(context, o)) return;
    const Shape shape = ShapeOf(*this, o.head_dim, o.sinks);
    const std::vector<Work> work = WorkOf(o.offsets, o.rows, shape);
    ParallelFor(static_cast<int64_t>(work.size()),
                [&](int64_t i) { Attend(o.qkv, shape, o.rotary, work[i], o.output, o.log_sums); });
  }
};

template <typename Number>
struct AttentionGradient : AttentionAttributes {
  using AttentionAttributes::AttentionAttributes;

  void Compute(Context& context) const {
    const AttentionGradientOperands<Number> o(context, *this);
    if (context.failed() || !CheckRows(context, o)) return;
    // The sinks are in the logarithms of the sums.
    const Shape shape = ShapeOf(*this, o.head_dim, nullptr);
    const std::vector<Work> work = WorkOf(o.offsets, o.rows, shape);
    const auto attend = [&](int64_t i, KeyGradient* by) {
      AttendGradient(o.qkv, o.output, o.log_sums, o.gradient, shape, o.rotary, work[i], o.result, by);
    };
    const int64_t parts = static_cast<int64_t>(work.size()) / (o.rows * key_value_heads);
    if (parts == 1) {
      ParallelFor(static_cast<int64_t>(work.size()), [&](int64_t i) {
        static thread_local KeyGradient by;
        attend(i, &by);
        StoreKeyGradient(by, shape, o.rotary, work[i], o.result);
      });
      return;
    }
    // The sort is stable, so the heads of a row and key head are next to each other.
    std::vector<KeyGradient> by(work.size());
    ParallelFor(static_cast<int64_t>(work.size()), [&](int64_t i) { attend(i, &by[i]); });
    ParallelFor(static_cast<int64_t>(work.size()) / parts, [&](int64_t of_key) {
      const int64_t first = of_key * parts;
      for (int64_t i = first + 1; i < first + parts; i++) by[first].Add(by[i]);
      StoreKeyGradient(by[first], shape, o.rotary, work[first], o.result);
    });
  }
};

}  // namespace

std::vector<OpDefinition> AttentionOps() {
  const std::vector<const char*> attributes{"heads: int", "key_value_heads: int", "window: int", "scale: float",
                                            "softcap: float"};
  return {
      {"LorasmithAttention",
       {"qkv: T", "offsets: int32", "cosine: float", "sine: float", "sinks: float"},
       {"output: T", "log_sums: float"},
       attributes,
       CpuKernels<Attention>()},
      {"LorasmithAttentionGradient",
       {"gradient: T", "qkv: T", "output: T", "log_sums: float", "offsets: int32", "cosine: float", "sine: float"},
       {"result: T"},
       attributes,
       CpuKernels<AttentionGradient>()},
  };
}

}  // namespace lorasmith
