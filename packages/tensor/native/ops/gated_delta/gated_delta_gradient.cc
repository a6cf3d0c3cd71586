// The gradient of the gated delta rule, chunk by chunk from the end of each row. Within a chunk, with S its first
// state, G the gradient by its last one, γ_t the decay from its start to token t, and Γ_ts that from s to t (of the end
// for t = C), and ∂ the gradient by what is named:
//
//   ∂δ_t = Γ_Ct Gᵀk_t + Σ_{s≥t} Γ_st (q_s·k_t) ∂o_s - Σ_{s>t} Γ_st (k_s·k_t) r_s,   r_t = ∂v_t = β_t ∂δ_t
//   ∂q_t = γ_t S ∂o_t + Σ_{s≤t} Γ_ts (δ_s·∂o_t) k_s
//   ∂k_t = Γ_Ct G δ_t + Σ_{s≥t} Γ_st (∂o_s·δ_t) q_s - Σ_{s>t} Γ_st (r_s·δ_t) k_s - γ_t S r_t - Σ_{s<t} Γ_ts (δ_s·r_t)
//   k_s ∂S   = γ_C G + Σ_s γ_s (q_s ∂o_sᵀ - k_s r_sᵀ)
//
// ∂g_t is the sum of all parts of the loss that a token before t has through the state at t or later: each is the
// product of two of the sums above. Those of the other tokens are not in it, so that a strong decay leaves no rounding
// of large numbers. The forward pass goes token by token; here that would need sums over the rows of a state, which
// vectors do badly.
#include <vector>

#include "cpu/gemm.h"
#include "cpu/row_offsets.h"
#include "cpu/vector.h"
#include "ops/gated_delta/gated_delta.h"

namespace lorasmith {
namespace {

// Tokens of a chunk that are solved for together, after those that they need.
constexpr int64_t kBlock = 8;
constexpr int64_t kHalf = kChunk / 2;

// Matrices of one chunk. A row of values has `padded` columns, one of tokens kChunk; what is beyond the values or the
// tokens is zero.
struct Chunk {
  int64_t padded;

  std::vector<float> start, end;                                   // [key_size, padded]: S, and G, which becomes ∂S
  std::vector<float> key_transposed, query_transposed;             // [key_size, kChunk]
  std::vector<float> by_output, delta, error, by_delta, by_value;  // [kChunk, padded]
  std::vector<float> by_output_transposed, delta_transposed, by_value_transposed;  // [value_size, kChunk]
  std::vector<float> by_query, by_key, product;                                    // [key_size, kChunk]
  // [kChunk, kChunk], at [t, u] for u ≥ t: Γ_ut, Γ_ut k_t·q_u, -Γ_ut k_t·k_u, Γ_ut δ_t·∂o_u and -Γ_ut δ_t·r_u. Zero for
  // u < t, those with a minus for u = t, too.
  std::vector<float> decay, key_query, key_key, delta_output, delta_value;
  std::vector<float> transposed;  // of one of them
  // Parts of ∂g: of the first state at each token, of each token at the last state, of each token at later ones, and of
  // those before at each token.
  float by_start[kChunk], by_end[kChunk];
  double to_later[kChunk], from_earlier[kChunk];
  float decay_from_start[kChunk], decay_to_end[kChunk];

  void Prepare(int64_t key_size, int64_t value_size) {
    padded = RoundUp(value_size, 2 * kLanes);
    for (auto* matrix : {&start, &end}) matrix->assign(key_size * padded, 0.0f);
    for (auto* matrix : {&key_transposed, &query_transposed, &by_query, &by_key, &product}) {
      matrix->assign(key_size * kChunk, 0.0f);
    }
    for (auto* matrix : {&by_output, &delta, &error, &by_delta, &by_value}) {
      matrix->assign(kChunk * padded, 0.0f);
    }
    for (auto* matrix : {&by_output_transposed, &delta_transposed, &by_value_transposed}) {
      matrix->assign(padded * kChunk, 0.0f);
    }
    for (auto* matrix : {&decay, &key_query, &key_key, &delta_output, &delta_value, &transposed}) {
      matrix->assign(kChunk * kChunk, 0.0f);
    }
  }
};

// Vectors of `rows` tokens → [columns, kChunk], with zeros for tokens beyond them.
void TransposeTokens(const float* from, int64_t rows, int64_t columns, int64_t stride, float* to) {
  Transpose(from, stride, rows, columns, to, kChunk);
  for (int64_t column = 0; column < columns; column++) {
    std::fill(to + column * kChunk + rows, to + (column + 1) * kChunk, 0.0f);
  }
}

// The products of tokens with those from them on: at [t, u] of `to` for u ≥ t, and at some for u < t.
// a [count, depth], b [depth, kChunk]
void MultiplyUpper(const Operand& a, const float* b, float* to, int64_t count, int64_t depth) {
  Multiply(a, b, kChunk, to, kChunk, std::min(count, kHalf), kHalf, depth, false);
  Multiply(a, b + kHalf, kChunk, to + kHalf, kChunk, count, kHalf, depth, false);
}

// Adds a b to `to` [rows, kChunk]. a [rows, count], b [count, kChunk], which is zero at [t, u] for u < t
void AddByUpper(const Operand& a, const float* b, float* to, int64_t rows, int64_t count) {
  Multiply(a, b, kChunk, to, kChunk, rows, kHalf, std::min(count, kHalf), true);
  Multiply(a, b + kHalf, kChunk, to + kHalf, kChunk, rows, kHalf, count, true);
}

// The same for b that is zero at [t, u] for u > t.
void AddByLower(const Operand& a, const float* b, float* to, int64_t rows, int64_t count) {
  Multiply(a, b, kChunk, to, kChunk, rows, kHalf, count, true);
  if (count <= kHalf) return;
  const Operand later{a.data + kHalf * a.column_stride, a.row_stride, a.column_stride};
  Multiply(later, b + kHalf * kChunk + kHalf, kChunk, to + kHalf, kChunk, rows, kHalf, count - kHalf, true);
}

void AddRow(const float* row, int64_t width, float factor, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < width; i++) to[i] += factor * row[i];
}

// Multiplies column t of [rows, kChunk] by factors[t].
void ScaleColumns(float* matrix, int64_t rows, const float* factors) {
  for (int64_t row = 0; row < rows; row++) {
#pragma omp simd
    for (int64_t t = 0; t < kChunk; t++) matrix[row * kChunk + t] *= factors[t];
  }
}

void ScaleRow(float* row, int64_t width, float factor) {
#pragma omp simd
  for (int64_t i = 0; i < width; i++) row[i] *= factor;
}

void SetRow(const float* row, int64_t width, float factor, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < width; i++) to[i] = factor * row[i];
}

// The product of column t of two matrices [rows, kChunk], for each t.
void ColumnDots(const float* a, const float* b, int64_t rows, float* dots) {
  std::fill(dots, dots + kChunk, 0.0f);
  for (int64_t row = 0; row < rows; row++) {
#pragma omp simd
    for (int64_t t = 0; t < kChunk; t++) dots[t] += a[row * kChunk + t] * b[row * kChunk + t];
  }
}

float Dot(const float* a, const float* b, int64_t width) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < width; i++) sum += a[i] * b[i];
  return sum;
}

// One value head of one row.
template <typename Number>
class HeadGradient {
 public:
  // by_query, by_key [tokens, value_heads, key_size]
  HeadGradient(const DeltaGradientOperands<Number>& operands, const DeltaTokens& tokens, int64_t row, int64_t head,
               float* by_query, float* by_key)
      : o_(operands), tokens_(tokens), head_(head), by_query_(by_query), by_key_(by_key), c_(Buffers()) {
    key_at_ = o_.key_head_of(head) * o_.tokens * o_.key_size;
    first_ = o_.offsets[row];
    length_ = RowLength(o_.offsets, row);
    c_.Prepare(o_.key_size, o_.value_size);
  }

  // `kept`: the states of the row
  void Run(const float* kept) {
    for (int64_t chunk = (length_ - 1) / kChunk; chunk >= 0; chunk--) {
      const int64_t begin = chunk * kChunk;
      RunChunk(first_ + begin, std::min(kChunk, length_ - begin),
               chunk == 0 ? nullptr : kept + ((chunk - 1) * o_.value_heads + head_) * o_.state_size());
    }
  }

 private:
  static Chunk& Buffers() {
    static thread_local Chunk chunk;
    return chunk;
  }

  float Gate(int64_t token) const { return tokens_.gate[token * o_.value_heads + head_]; }
  float Beta(int64_t token) const { return tokens_.beta[token * o_.value_heads + head_]; }
  const float* Key(int64_t token) const { return tokens_.key + key_at_ + token * o_.key_size; }
  const float* Query(int64_t token) const { return tokens_.query + key_at_ + token * o_.key_size; }
  // Rows are tokens, or columns of the key head.
  Operand Keys(int64_t token) const { return {Key(token), o_.key_size, 1}; }
  Operand KeysTransposed(int64_t token) const { return {Key(token), 1, o_.key_size}; }
  Operand QueriesTransposed(int64_t token) const { return {Query(token), 1, o_.key_size}; }
  // A chunk's matrix with rows of values.
  Operand Rows(const std::vector<float>& matrix) const { return {matrix.data(), c_.padded, 1}; }

  void RunChunk(int64_t begin, int64_t count, const float* start) {
    LoadGradient(begin, count);
    LoadStart(start);
    Decays(begin, count);
    KeyProducts(begin, count);
    Deltas(begin, count);
    ByDelta(begin, count);
    DeltaProducts(count);
    ByQuery(begin, count);
    ByKey(begin, count);
    ByGates(begin, count);
    ByStart(begin, count);
  }

  void LoadGradient(int64_t begin, int64_t count) {
    std::fill(c_.by_output.begin(), c_.by_output.end(), 0.0f);
    for (int64_t t = 0; t < count; t++) {
      const Number* from = o_.gradient + ((begin + t) * o_.value_heads + head_) * o_.value_size;
      float* to = &c_.by_output[t * c_.padded];
      for (int64_t i = 0; i < o_.value_size; i++) to[i] = ToFloat(from[i]);
    }
  }

  void LoadStart(const float* start) {
    if (start == nullptr) {
      std::fill(c_.start.begin(), c_.start.end(), 0.0f);
      return;
    }
    for (int64_t i = 0; i < o_.key_size; i++) {
      std::copy_n(start + i * o_.value_size, o_.value_size, &c_.start[i * c_.padded]);
    }
  }

  // Sums of g in double precision: their differences are of a few tokens, the sums of many.
  void Decays(int64_t begin, int64_t count) {
    double sums[kChunk] = {};
    double sum = 0.0;
    for (int64_t t = 0; t < count; t++) sums[t] = sum += Gate(begin + t);
    for (int64_t t = 0; t < kChunk; t++) {
      c_.decay_from_start[t] = t < count ? Exp(static_cast<float>(sums[t])) : 0.0f;
      c_.decay_to_end[t] = t < count ? Exp(static_cast<float>(sums[count - 1] - sums[t])) : 0.0f;
    }
    for (int64_t t = 0; t < count; t++) {
      float exponents[kChunk];
#pragma omp simd
      for (int64_t u = 0; u < kChunk; u++) exponents[u] = static_cast<float>(sums[u] - sums[t]);
      float* row = &c_.decay[t * kChunk];
#pragma omp simd
      for (int64_t u = 0; u < kChunk; u++) row[u] = u >= t && u < count ? Exp(exponents[u]) : 0.0f;
    }
  }

  void KeyProducts(int64_t begin, int64_t count) {
    const int64_t size = o_.key_size;
    TransposeTokens(Key(begin), count, size, size, c_.key_transposed.data());
    TransposeTokens(Query(begin), count, size, size, c_.query_transposed.data());
    MultiplyUpper(Keys(begin), c_.query_transposed.data(), c_.key_query.data(), count, size);
    MultiplyUpper(Keys(begin), c_.key_transposed.data(), c_.key_key.data(), count, size);
    for (int64_t t = 0; t < count; t++) {
      const float* decay = &c_.decay[t * kChunk];
      float* query = &c_.key_query[t * kChunk];
      float* key = &c_.key_key[t * kChunk];
#pragma omp simd
      for (int64_t u = 0; u < kChunk; u++) {
        query[u] = u >= t ? decay[u] * query[u] : 0.0f;
        key[u] = u > t ? -decay[u] * key[u] : 0.0f;
      }
    }
  }

  // Computes the chunk again: δ and v - e^g Sᵀk of each token, by the first state and the tokens before it.
  void Deltas(int64_t begin, int64_t count) {
    float* error = c_.error.data();
    float* delta = c_.delta.data();
    Multiply(Keys(begin), c_.start.data(), c_.padded, error, c_.padded, count, c_.padded, o_.key_size, false);
    for (int64_t t = 0; t < count; t++) {
      const Number* value = o_.qkv + (begin + t) * o_.width + o_.values_at() + head_ * o_.value_size;
      const float decay = c_.decay_from_start[t];
      float* own = error + t * c_.padded;
#pragma omp simd
      for (int64_t i = 0; i < o_.value_size; i++) own[i] = ToFloat(value[i]) - decay * own[i];
    }
    for (int64_t block = 0; block < count; block += kBlock) {
      const int64_t end = std::min(block + kBlock, count);
      if (block > 0) {
        Multiply({&c_.key_key[block], 1, kChunk}, delta, c_.padded, error + block * c_.padded, c_.padded, end - block,
                 c_.padded, block, true);
      }
      for (int64_t t = block; t < end; t++) {
        float* own = error + t * c_.padded;
        for (int64_t s = block; s < t; s++) AddRow(delta + s * c_.padded, c_.padded, c_.key_key[s * kChunk + t], own);
        SetRow(own, c_.padded, Beta(begin + t), delta + t * c_.padded);
      }
    }
  }

  void ByDelta(int64_t begin, int64_t count) {
    float* by_delta = c_.by_delta.data();
    float* by_value = c_.by_value.data();
    Multiply(Keys(begin), c_.end.data(), c_.padded, by_delta, c_.padded, count, c_.padded, o_.key_size, false);
    for (int64_t t = 0; t < count; t++) ScaleRow(by_delta + t * c_.padded, c_.padded, c_.decay_to_end[t]);
    for (int64_t block = (count - 1) / kBlock * kBlock; block >= 0; block -= kBlock) {
      const int64_t end = std::min(block + kBlock, count);
      Multiply({&c_.key_query[block * kChunk + block], kChunk, 1}, &c_.by_output[block * c_.padded], c_.padded,
               by_delta + block * c_.padded, c_.padded, end - block, c_.padded, count - block, true);
      if (end < count) {
        Multiply({&c_.key_key[block * kChunk + end], kChunk, 1}, by_value + end * c_.padded, c_.padded,
                 by_delta + block * c_.padded, c_.padded, end - block, c_.padded, count - end, true);
      }
      for (int64_t t = end - 1; t >= block; t--) {
        float* own = by_delta + t * c_.padded;
        for (int64_t s = t + 1; s < end; s++) {
          AddRow(by_value + s * c_.padded, c_.padded, c_.key_key[t * kChunk + s], own);
        }
        SetRow(own, c_.padded, Beta(begin + t), by_value + t * c_.padded);
      }
    }
    for (int64_t t = 0; t < count; t++) {
      Number* to = o_.by_qkv + (begin + t) * o_.width + o_.values_at() + head_ * o_.value_size;
#pragma omp simd
      for (int64_t i = 0; i < o_.value_size; i++) Store(by_value[t * c_.padded + i], to + i);
    }
  }

  void DeltaProducts(int64_t count) {
    const int64_t size = o_.value_size;
    TransposeTokens(c_.by_output.data(), count, size, c_.padded, c_.by_output_transposed.data());
    TransposeTokens(c_.delta.data(), count, size, c_.padded, c_.delta_transposed.data());
    TransposeTokens(c_.by_value.data(), count, size, c_.padded, c_.by_value_transposed.data());
    MultiplyUpper(Rows(c_.delta), c_.by_output_transposed.data(), c_.delta_output.data(), count, size);
    MultiplyUpper(Rows(c_.delta), c_.by_value_transposed.data(), c_.delta_value.data(), count, size);
    std::fill(c_.from_earlier, c_.from_earlier + kChunk, 0.0);
    for (int64_t t = 0; t < count; t++) WeighProducts(t);
  }

  // Row t of the products of δ, and its parts of ∂g.
  void WeighProducts(int64_t t) {
    const float* decay = &c_.decay[t * kChunk];
    const float* query = &c_.key_query[t * kChunk];
    const float* key = &c_.key_key[t * kChunk];
    float* output = &c_.delta_output[t * kChunk];
    float* value = &c_.delta_value[t * kChunk];
    float parts[kChunk];
#pragma omp simd
    for (int64_t u = 0; u < kChunk; u++) {
      parts[u] = u > t ? query[u] * output[u] + key[u] * value[u] : 0.0f;
      output[u] = u >= t ? decay[u] * output[u] : 0.0f;
      value[u] = u > t ? -decay[u] * value[u] : 0.0f;
    }
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int64_t u = 0; u < kChunk; u++) {
      sum += parts[u];
      c_.from_earlier[u] += parts[u];
    }
    c_.to_later[t] = sum;
  }

  void ByQuery(int64_t begin, int64_t count) {
    const int64_t size = o_.key_size;
    float* by_query = c_.by_query.data();
    Multiply(Rows(c_.start), c_.by_output_transposed.data(), kChunk, by_query, kChunk, size, kChunk, o_.value_size,
             false);
    ScaleColumns(by_query, size, c_.decay_from_start);
    ColumnDots(c_.query_transposed.data(), by_query, size, c_.by_start);
    AddByUpper(KeysTransposed(begin), c_.delta_output.data(), by_query, size, count);
    Scatter(c_.by_query, begin, count, by_query_);
  }

  void ByKey(int64_t begin, int64_t count) {
    const int64_t size = o_.key_size;
    float* by_key = c_.by_key.data();
    Multiply(Rows(c_.end), c_.delta_transposed.data(), kChunk, by_key, kChunk, size, kChunk, o_.value_size, false);
    ScaleColumns(by_key, size, c_.decay_to_end);
    ColumnDots(c_.key_transposed.data(), by_key, size, c_.by_end);
    Multiply(Rows(c_.start), c_.by_value_transposed.data(), kChunk, c_.product.data(), kChunk, size, kChunk,
             o_.value_size, false);
    ScaleColumns(c_.product.data(), size, c_.decay_from_start);
    float by_recall[kChunk];
    ColumnDots(c_.key_transposed.data(), c_.product.data(), size, by_recall);
    for (int64_t t = 0; t < kChunk; t++) c_.by_start[t] -= by_recall[t];
    for (size_t i = 0; i < c_.by_key.size(); i++) by_key[i] -= c_.product[i];
    float* transposed = c_.transposed.data();
    Transpose(c_.delta_output.data(), kChunk, kChunk, kChunk, transposed, kChunk);
    AddByLower(QueriesTransposed(begin), transposed, by_key, size, count);
    // Of the tokens before each one, and after it.
    Transpose(c_.delta_value.data(), kChunk, kChunk, kChunk, transposed, kChunk);
    for (size_t i = 0; i < c_.transposed.size(); i++) transposed[i] += c_.delta_value[i];
    Multiply(KeysTransposed(begin), transposed, kChunk, by_key, kChunk, size, kChunk, count, true);
    Scatter(c_.by_key, begin, count, by_key_);
  }

  // [key_size, kChunk] → [tokens, value_heads, key_size]
  void Scatter(const std::vector<float>& from, int64_t begin, int64_t count, float* to) {
    const int64_t stride = o_.value_heads * o_.key_size;
    Transpose(from.data(), kChunk, o_.key_size, count, to + begin * stride + head_ * o_.key_size, stride);
  }

  void ByGates(int64_t begin, int64_t count) {
    // What passes t, from tokens before it to t and later ones.
    double passing = c_.decay_from_start[count - 1] * Dot(c_.start.data(), c_.end.data(), o_.key_size * c_.padded);
    for (int64_t t = 0; t < count; t++) passing += c_.by_start[t];
    for (int64_t t = 0; t < count; t++) {
      const int64_t at = t * c_.padded;
      const int64_t token = begin + t;
      const Number* ba = o_.ba + token * 2 * o_.value_heads;
      const float beta = Beta(token);
      const float by_beta = Dot(&c_.by_delta[at], &c_.error[at], c_.padded);
      const float slope = PreciseSigmoid(ToFloat(ba[o_.value_heads + head_]) + o_.dt_bias[head_]);
      Number* to = o_.by_ba + token * 2 * o_.value_heads;
      Store(by_beta * beta * (1.0f - beta), to + head_);
      Store(static_cast<float>(-passing) * std::exp(o_.a_log[head_]) * slope, to + o_.value_heads + head_);
      // From t on, what comes from it passes, and what goes to it does not.
      passing += c_.by_end[t] - c_.by_start[t] + (c_.to_later[t] - c_.from_earlier[t]);
    }
  }

  // The gradient by the first state, which is the last of the chunk before it.
  void ByStart(int64_t begin, int64_t count) {
    const int64_t size = o_.key_size;
    ScaleRow(c_.end.data(), size * c_.padded, c_.decay_from_start[count - 1]);
    for (int64_t t = 0; t < count; t++) {
      ScaleRow(&c_.by_output[t * c_.padded], c_.padded, c_.decay_from_start[t]);
      ScaleRow(&c_.by_value[t * c_.padded], c_.padded, -c_.decay_from_start[t]);
    }
    Multiply(QueriesTransposed(begin), c_.by_output.data(), c_.padded, c_.end.data(), c_.padded, size, c_.padded, count,
             true);
    Multiply(KeysTransposed(begin), c_.by_value.data(), c_.padded, c_.end.data(), c_.padded, size, c_.padded, count,
             true);
  }

  const DeltaGradientOperands<Number>& o_;
  const DeltaTokens& tokens_;
  int64_t head_;
  float* by_query_;
  float* by_key_;
  Chunk& c_;
  int64_t key_at_;
  int64_t first_;
  int64_t length_;
};

// The gradient by x of x / length, times scale. `from`: one gradient for each value head, `size` apart, which add up.
template <typename Number>
void ByVector(const Number* x, const float* from, int64_t heads, int64_t size, float scale, Number* to) {
  static thread_local std::vector<float> sums;
  sums.assign(from, from + size);
  for (int64_t head = 1; head < heads; head++) {
    for (int64_t i = 0; i < size; i++) sums[i] += from[head * size + i];
  }
  const float inverse = InverseLength(x, size);
  float along = 0.0f;
#pragma omp simd reduction(+ : along)
  for (int64_t i = 0; i < size; i++) along += ToFloat(x[i]) * sums[i];
  along *= inverse * inverse;
#pragma omp simd
  for (int64_t i = 0; i < size; i++) Store((sums[i] - ToFloat(x[i]) * along) * (inverse * scale), to + i);
}

template <typename Number>
struct GatedDeltaGradient {
  explicit GatedDeltaGradient(const Attributes& attributes) : attributes(attributes) {}

  void Compute(Context& context) const {
    const DeltaStream<Number> stream(context, attributes, 1);
    CheckRows(context, stream.offsets, stream.rows, stream.tokens);
    const DeltaGradientOperands<Number> o(context, stream, stream.state_size());
    if (context.failed()) return;
    const DeltaTokens tokens(context, o);
    const int64_t numbers = o.tokens * o.value_heads * o.key_size;
    float* by_query = context.Scratch<float>(numbers);
    float* by_key = context.Scratch<float>(numbers);
    if (context.failed()) return;
    PrepareTokens(o, tokens);
    std::vector<int64_t> rows;
    for (int64_t row = 0; row < o.rows; row++) {
      if (RowLength(o.offsets, row) > 0) rows.push_back(row);
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [&](int64_t a, int64_t b) { return RowLength(o.offsets, a) > RowLength(o.offsets, b); });
    ParallelFor(static_cast<int64_t>(rows.size()) * o.value_heads, [&](int64_t i) {
      const int64_t row = rows[i / o.value_heads];
      HeadGradient<Number> head(o, tokens, row, i % o.value_heads, by_query, by_key);
      head.Run(o.kept + o.offsets[row] / kChunk * o.value_heads * o.state_size());
    });
    ParallelRanges(o.tokens, 4, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; token++) ByToken(o, token, by_query, by_key);
    });
  }

  static void ByToken(const DeltaGradientOperands<Number>& o, int64_t token, const float* by_query,
                      const float* by_key) {
    const int64_t size = o.key_size;
    const int64_t shared = o.value_heads / o.key_heads;
    const float scale = 1.0f / std::sqrt(static_cast<float>(size));
    for (int64_t head = 0; head < o.key_heads; head++) {
      const int64_t from = (token * o.value_heads + head * shared) * size;
      const int64_t query = token * o.width + head * size;
      const int64_t key = query + o.key_heads * size;
      ByVector(o.qkv + query, by_query + from, shared, size, scale, o.by_qkv + query);
      ByVector(o.qkv + key, by_key + from, shared, size, 1.0f, o.by_qkv + key);
    }
  }

  DeltaAttributes attributes;
};

}  // namespace

std::vector<OpDefinition> GatedDeltaGradientOps() {
  return {{"LorasmithGatedDeltaGradient",
           {"gradient: T", "qkv: T", "ba: T", "a_log: float", "dt_bias: float", "offsets: int32", "kept: float"},
           {"by_qkv: T", "by_ba: T"},
           {"key_heads: int", "value_heads: int", "key_size: int"},
           CpuKernels<GatedDeltaGradient>()}};
}

}  // namespace lorasmith
