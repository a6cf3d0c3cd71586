// Causal grouped-query attention with rotary positions, over rows of any length in one stream, and its gradient.
//
// Only the scores of one block of queries are in memory, so memory grows with the length of a row, not with its square.
// The backward pass computes them again from the logarithm of each query's sum, as FlashAttention does
// (arXiv:2205.14135).
#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "gemm.h"
#include "kernel.h"
#include "parallel.h"

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

// Softmax of the scaled scores begin … end - 1. Returns the logarithm of the sum.
float SoftmaxRow(float* scores, int64_t begin, int64_t end) {
  float greatest = scores[begin];
#pragma omp simd reduction(max : greatest)
  for (int64_t j = begin; j < end; j++) greatest = scores[j] > greatest ? scores[j] : greatest;
  float sum = 0;
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
        log_sums[(work.start + first + i) * shape.heads + head] = SoftmaxRow(scores, own_begin, own_end);
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

// The attributes of both ops.
struct AttentionKernel {
  explicit AttentionKernel(const Attributes& attributes)
      : heads(attributes.Int("heads")),
        key_value_heads(attributes.Int("key_value_heads")),
        window(attributes.Int("window")),
        scale(attributes.Float("scale")),
        softcap(attributes.Float("softcap")) {}

  // Derives the shape from the width of qkv. Returns false after a failure.
  bool ShapeOf(Context& context, int64_t width, Shape* shape) const {
    *shape = {heads, key_value_heads, 0, 0, scale, window, softcap};
    const bool sound = heads > 0 && key_value_heads > 0 && heads % key_value_heads == 0;
    if (!context.Check(sound, "key_value_heads must divide heads")) return false;
    shape->head_dim = width / shape->all_heads();
    shape->padded_dim = RoundUp(shape->head_dim, kPaddedTo);
    return context.Check(shape->head_dim % 2 == 0 && shape->head_dim * shape->all_heads() == width,
                         "qkv must be as wide as all heads, each of an even size");
  }

  int64_t heads;
  int64_t key_value_heads;
  int64_t window;
  float scale;
  float softcap;
};

// offsets [rows + 1]: row i is tokens offsets[i] … offsets[i + 1] - 1 of the stream.
bool CheckRows(Context& context, const int32_t* offsets, int64_t rows, int64_t tokens, int64_t positions) {
  if (!context.Check(offsets[0] == 0 && offsets[rows] == tokens, "offsets must begin at 0 and end at the tokens"))
    return false;
  for (int64_t row = 0; row < rows; row++) {
    const int64_t length = offsets[row + 1] - offsets[row];
    if (!context.Check(length > 0 && length <= positions, "a row is empty or longer than the rotary table"))
      return false;
  }
  return true;
}

// qkv [tokens, (heads + 2 key_value_heads) head_dim], offsets [rows + 1], cosine and sine [positions, head_dim / 2]
// → output [tokens, heads head_dim], log_sums [tokens, heads]
template <typename Number>
struct Attention : AttentionKernel {
  using AttentionKernel::AttentionKernel;

  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(0, 0);
    const int64_t rows = context.Size(1) - 1;
    const Number* qkv = context.Input<Number>(0);
    const int32_t* offsets = context.Input<int32_t>(1);
    const Rotary rotary{context.Input<float>(2), context.Input<float>(3)};
    Shape shape;
    if (context.failed() || !ShapeOf(context, context.Dim(0, 1), &shape)) return;
    if (!context.Check(context.Dim(2, 1) == shape.head_dim / 2, "the rotary table must be half as wide as a head"))
      return;
    if (!CheckRows(context, offsets, rows, tokens, context.Dim(2, 0))) return;
    Number* output = context.Output<Number>(0, {tokens, shape.heads * shape.head_dim});
    float* log_sums = context.Output<float>(1, {tokens, shape.heads});
    if (context.failed()) return;
    const std::vector<Work> work = WorkOf(offsets, rows, shape);
    ParallelFor(static_cast<int64_t>(work.size()),
                [&](int64_t i) { Attend(qkv, shape, rotary, work[i], output, log_sums); });
  }
};

// gradient [tokens, heads head_dim] by the output, and the inputs and outputs of the forward op → gradient by qkv
template <typename Number>
struct AttentionGradient : AttentionKernel {
  using AttentionKernel::AttentionKernel;

  void Compute(Context& context) const {
    const int64_t tokens = context.Dim(1, 0);
    const int64_t rows = context.Size(4) - 1;
    const Number* gradient = context.Input<Number>(0);
    const Number* qkv = context.Input<Number>(1);
    const Number* output = context.Input<Number>(2);
    const float* log_sums = context.Input<float>(3);
    const int32_t* offsets = context.Input<int32_t>(4);
    const Rotary rotary{context.Input<float>(5), context.Input<float>(6)};
    Shape shape;
    if (context.failed() || !ShapeOf(context, context.Dim(1, 1), &shape)) return;
    const bool fits = context.Size(0) == tokens * shape.heads * shape.head_dim && context.Size(2) == context.Size(0) &&
                      context.Size(3) == tokens * shape.heads;
    if (!context.Check(fits, "gradient, output and log_sums must be of the same tokens")) return;
    if (!CheckRows(context, offsets, rows, tokens, context.Dim(5, 0))) return;
    Number* result = context.Output<Number>(0, {tokens, shape.all_heads() * shape.head_dim});
    if (context.failed()) return;
    const std::vector<Work> work = WorkOf(offsets, rows, shape);
    const int64_t parts = static_cast<int64_t>(work.size()) / (rows * shape.key_value_heads);
    if (parts == 1) {
      ParallelFor(static_cast<int64_t>(work.size()), [&](int64_t i) {
        static thread_local KeyGradient by;
        AttendGradient(qkv, output, log_sums, gradient, shape, rotary, work[i], result, &by);
        StoreKeyGradient(by, shape, rotary, work[i], result);
      });
      return;
    }
    // The sort is stable, so the heads of a row and key head are next to each other.
    std::vector<KeyGradient> by(work.size());
    ParallelFor(static_cast<int64_t>(work.size()), [&](int64_t i) {
      AttendGradient(qkv, output, log_sums, gradient, shape, rotary, work[i], result, &by[i]);
    });
    ParallelFor(static_cast<int64_t>(work.size()) / parts, [&](int64_t of_key) {
      const int64_t first = of_key * parts;
      for (int64_t i = first + 1; i < first + parts; i++) by[first].Add(by[i]);
      StoreKeyGradient(by[first], shape, rotary, work[first], result);
    });
  }
};

}  // namespace

std::vector<OpDefinition> AttentionOps() {
  const std::vector<const char*> attributes{"heads: int", "key_value_heads: int", "window: int", "scale: float",
                                            "softcap: float"};
  return {
      {"LorasmithAttention",
       {"qkv: T", "offsets: int32", "cosine: float", "sine: float"},
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
