// The gated delta rule, token by token: a text that is read in pieces has the same bits as one that is read at once.
#include "ops/gated_delta/gated_delta.h"

#include <vector>

#include "cpu/gemm.h"
#include "cpu/row_offsets.h"

namespace lorasmith {
namespace {

// Vectors of a state that are computed together: with two, their part of it stays in the first cache.
constexpr int kVectors = 2;

// Some neighbouring columns of the state of one head: the columns of S do not depend on each other.
struct Columns {
  static constexpr int64_t kColumns = kVectors * kLanes;

  struct Token {
    const float* query;
    const float* key;
    const float* next_key;  // of the token that follows
    float decay;            // e^g
    float beta;
  };

  // Sᵀk, for the first token of a sweep; Step has it for those that follow.
  static void Recall(const float* state, const float* key, int64_t size, Vector* recall) {
    Vector sums[kVectors] = {};
    for (int64_t i = 0; i < size; i++) {
      for (int v = 0; v < kVectors; v++) sums[v] += Row(state, i)[v] * key[i];
    }
    for (int v = 0; v < kVectors; v++) recall[v] = sums[v];
  }

  // One token. `recall` is Sᵀk and becomes that of the token that follows. state [size, kColumns]
  static void Step(float* state, const Token& token, const float* value, int64_t size, Vector* recall, Vector* output) {
    Vector delta[kVectors], sums[kVectors] = {}, next[kVectors] = {};
    const Vector* values = reinterpret_cast<const Vector*>(value);
    for (int v = 0; v < kVectors; v++) delta[v] = token.beta * (values[v] - token.decay * recall[v]);
    for (int64_t i = 0; i < size; i++) {
      Vector* row = reinterpret_cast<Vector*>(state + i * kColumns);
      for (int v = 0; v < kVectors; v++) {
        const Vector s = token.decay * row[v] + token.key[i] * delta[v];
        row[v] = s;
        sums[v] += token.query[i] * s;
        next[v] += token.next_key[i] * s;
      }
    }
    for (int v = 0; v < kVectors; v++) {
      output[v] = sums[v];
      recall[v] = next[v];
    }
  }

 private:
  static const Vector* Row(const float* state, int64_t i) {
    return reinterpret_cast<const Vector*>(state + i * kColumns);
  }
};

// Tokens whose values are fetched before they are needed.
constexpr int64_t kAhead = 4;

struct Unit {
  int64_t row;
  int64_t head;
  int64_t column;
};

template <typename Number>
void RunUnit(const DeltaOperands<Number>& o, const DeltaTokens& tokens, const Unit& unit) {
  const int64_t size = o.key_size;
  const int64_t width = std::min<int64_t>(Columns::kColumns, o.value_size - unit.column);
  const int64_t head_at = (unit.row * o.value_heads + unit.head) * o.state_size() + unit.column;
  static thread_local std::vector<float> state;
  state.assign(size * Columns::kColumns, 0.0f);
  const auto copy_out = [&](float* to) {
    for (int64_t i = 0; i < size; i++) {
      std::copy_n(&state[i * Columns::kColumns], width, to + i * o.value_size);
    }
  };
  if (o.before != nullptr) {
    for (int64_t i = 0; i < size; i++) {
      std::copy_n(o.before + head_at + i * o.value_size, width, &state[i * Columns::kColumns]);
    }
  }
  const int64_t first = o.offsets[unit.row], end = o.offsets[unit.row + 1];
  const int64_t key_head = o.key_head_of(unit.head) * o.tokens * size;
  Vector recall[kVectors] = {};
  Columns::Recall(state.data(), tokens.key + key_head + first * size, size, recall);
  for (int64_t token = first; token < end; token++) {
    if (o.kept != nullptr && token > first && (token - first) % kChunk == 0) {
      const int64_t state = first / kChunk + (token - first) / kChunk - 1;
      copy_out(o.kept + (state * o.value_heads + unit.head) * o.state_size() + unit.column);
    }
    const int64_t gate = token * o.value_heads + unit.head;
    const float* key = tokens.key + key_head + token * size;
    const float* query = tokens.query + key_head + token * size;
    const float* next_key = token + 1 < end ? key + size : key;
    const int64_t value_at = unit.head * o.value_size + unit.column;
    const Number* value = o.qkv + token * o.width + o.values_at() + value_at;
    // Tokens lie pages apart, which the processor does not foresee.
    if (token + kAhead < end) __builtin_prefetch(value + kAhead * o.width);
    float values[Columns::kColumns] = {};
    for (int64_t i = 0; i < width; i++) values[i] = ToFloat(value[i]);
    Vector output[kVectors];
    Columns::Step(state.data(), {query, key, next_key, std::exp(tokens.gate[gate]), tokens.beta[gate]}, values, size,
                  recall, output);
    const float* from = reinterpret_cast<const float*>(output);
    Number* to = o.output + token * o.value_heads * o.value_size + value_at;
    for (int64_t i = 0; i < width; i++) Store(from[i], to + i);
  }
  if (o.last != nullptr) copy_out(o.last + head_at);
}

template <typename Number>
struct GatedDelta {
  explicit GatedDelta(const Attributes& attributes)
      : attributes(attributes), record(attributes.Bool("record")), keep_last(attributes.Bool("keep_last")) {}

  void Compute(Context& context) const {
    const DeltaStream<Number> stream(context, attributes, 0);
    CheckRows(context, stream.offsets, stream.rows, stream.tokens);
    const DeltaOperands<Number> o(context, stream, record, keep_last, stream.state_size());
    if (context.failed()) return;
    const DeltaTokens tokens(context, o);
    if (context.failed()) return;
    PrepareTokens(o, tokens);
    std::vector<Unit> units;
    for (int64_t row = 0; row < o.rows; row++) {
      if (RowLength(o.offsets, row) == 0) continue;
      for (int64_t head = 0; head < o.value_heads; head++) {
        for (int64_t column = 0; column < o.value_size; column += Columns::kColumns) {
          units.push_back({row, head, column});
        }
      }
    }
    std::stable_sort(units.begin(), units.end(), [&](const Unit& a, const Unit& b) {
      return RowLength(o.offsets, a.row) > RowLength(o.offsets, b.row);
    });
    ParallelFor(static_cast<int64_t>(units.size()), [&](int64_t i) { RunUnit(o, tokens, units[i]); });
  }

  DeltaAttributes attributes;
  bool record;
  bool keep_last;
};

}  // namespace

std::vector<OpDefinition> GatedDeltaOps() {
  return {{"LorasmithGatedDelta",
           {"qkv: T", "ba: T", "a_log: float", "dt_bias: float", "offsets: int32", "before: float"},
           {"output: T", "kept: float", "last: float"},
           {"key_heads: int", "value_heads: int", "key_size: int", "record: bool", "keep_last: bool"},
           CpuKernels<GatedDelta>()}};
}

}  // namespace lorasmith
