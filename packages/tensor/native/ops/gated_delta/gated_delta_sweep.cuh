// The gated delta rule token by token, forward and back. The columns of a state do not depend on each other, so a block
// goes through a row with 16 columns of one head's state. They stay in registers: 8 lanes have the rows of a column.
// Tokens come through shared memory, 16 at a time, the next ones on their way while these are computed.
#pragma once

#include "cuda/kernels/row_tile.cuh"
#include "ops/gated_delta/gated_delta_shape.h"

namespace gated_delta {

constexpr int kTokens = 16;
static_assert(kRowTile % kTokens == 0, "a state is kept between two tiles of tokens");

// The scratch memory of what every value head needs: see gated_delta_tokens.cu.
struct Tokens {
  const float* query;
  const float* key;
  const float* gate;
  const float* beta;
};

template <int D>
struct SweepMemory {
  alignas(16) float keys[2][kTokens][D];
  alignas(16) float queries[2][kTokens][D];
  float columns[2][kTokens][kDeltaColumns];
  float decays[2][kTokens], betas[2][kTokens];
  float results[kTokens][kDeltaColumns];
};

// Where a block's head and columns are.
struct Place {
  int head;
  int first_column;
  int column;  // of this thread, in the block's
  int lane;    // among those of the column

  __device__ __forceinline__ static Place Own() {
    const int thread = threadIdx.x;
    return {static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z) * kDeltaColumns, thread / kDeltaLanes,
            thread % kDeltaLanes};
  }
};

// The sum over the lanes of a column, the same in all.
__device__ __forceinline__ float ColumnSum(float value) {
#pragma unroll
  for (int by = kDeltaLanes / 2; by > 0; by >>= 1) value += __shfl_xor_sync(kAllLanes, value, by);
  return value;
}

// A lane's rows of one column: 4 neighbours of every 32, so that the lanes of a column read 128 bytes in a row.
template <int D>
struct ColumnState {
  static constexpr int kParts = D / (4 * kDeltaLanes);
  float at[kParts][4];

  __device__ __forceinline__ static int Row(int lane, int part, int i) { return part * 4 * kDeltaLanes + 4 * lane + i; }

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int part = 0; part < kParts; part++)
#pragma unroll
      for (int i = 0; i < 4; i++) at[part][i] = 0;
  }

  // From or to a matrix with rows of `stride` numbers; zeros, or nothing, from `rows` on. column: the thread's own.
  __device__ __forceinline__ void Load(const float* column, int64_t stride, int lane, int rows) {
#pragma unroll
    for (int part = 0; part < kParts; part++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int row = Row(lane, part, i);
        at[part][i] = row < rows ? column[row * stride] : 0.0f;
      }
  }
  __device__ __forceinline__ void Save(float* column, int64_t stride, int lane, int rows) const {
#pragma unroll
    for (int part = 0; part < kParts; part++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int row = Row(lane, part, i);
        if (row < rows) column[row * stride] = at[part][i];
      }
  }

  // The product of the column and a vector in shared memory, the same in all lanes.
  __device__ __forceinline__ float Dot(const float* vector, int lane) const {
    float sums[4] = {};
#pragma unroll
    for (int part = 0; part < kParts; part++) {
      const Vector<float> numbers = LoadVector(vector + Row(lane, part, 0));
#pragma unroll
      for (int i = 0; i < 4; i++) sums[i] += numbers.values[i] * at[part][i];
    }
    return ColumnSum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  }

  // column ← decay column + factor vector
  __device__ __forceinline__ void Step(float decay, float factor, const float* vector, int lane) {
#pragma unroll
    for (int part = 0; part < kParts; part++) {
      const Vector<float> numbers = LoadVector(vector + Row(lane, part, 0));
#pragma unroll
      for (int i = 0; i < 4; i++) at[part][i] = decay * at[part][i] + factor * numbers.values[i];
    }
  }
};

// A tile of tokens on its way from memory to one of two buffers.
template <int D>
struct Fetch {
  static constexpr int kOwn = kTokens * kDeltaColumns / kDeltaSweepThreads;
  float columns[kOwn];
  float decay, beta;

  // Tokens first … first + count - 1 of the stream. column_of(token, column): a number of the block's columns.
  template <typename ColumnOf>
  __device__ __forceinline__ void Start(const Tokens& tokens, const DeltaShape& shape, int head, int64_t first,
                                        int count, bool with_queries, SweepMemory<D>& memory, int buffer,
                                        const ColumnOf& column_of) {
    const int key_head = head / (shape.value_heads / shape.key_heads);
    const int64_t at = (key_head * shape.tokens + first) * D;
    for (int i = threadIdx.x; i < count * (D / 4); i += kDeltaSweepThreads) {
      const int token = i / (D / 4), c = i % (D / 4) * 4;
      CopyAsync16(&memory.keys[buffer][token][c], tokens.key + at + token * D + c);
      if (with_queries) CopyAsync16(&memory.queries[buffer][token][c], tokens.query + at + token * D + c);
    }
#pragma unroll
    for (int k = 0; k < kOwn; k++) {
      const int i = threadIdx.x + k * kDeltaSweepThreads, token = i / kDeltaColumns;
      columns[k] = token < count ? column_of(first + token, i % kDeltaColumns) : 0.0f;
    }
    const bool has_gate = static_cast<int>(threadIdx.x) < count;
    const int64_t gate = head * shape.tokens + first + threadIdx.x;
    decay = has_gate ? expf(tokens.gate[gate]) : 0.0f;
    beta = has_gate ? tokens.beta[gate] : 0.0f;
  }

  // What passes through registers. Nobody reads the buffer.
  __device__ __forceinline__ void Finish(SweepMemory<D>& memory, int buffer) const {
#pragma unroll
    for (int k = 0; k < kOwn; k++) {
      const int i = threadIdx.x + k * kDeltaSweepThreads;
      memory.columns[buffer][i / kDeltaColumns][i % kDeltaColumns] = columns[k];
    }
    if (threadIdx.x < kTokens) {
      memory.decays[buffer][threadIdx.x] = decay;
      memory.betas[buffer][threadIdx.x] = beta;
    }
  }
};

// Which results a sweep has.
enum Results { kOutputs, kErrors };

// One tile of 64 tokens of a row with kErrors, a whole row with kOutputs. S ← e^g S; δ = β (v - Sᵀk); S ← S + k δᵀ;
// o = Sᵀq.
template <int D, Results kResults, typename Number>
__device__ __forceinline__ void Forward(const Number* qkv, const Tokens& tokens, const int32_t* offsets,
                                        const DeltaShape& shape, const float* before, float* kept, Number* output,
                                        float* errors, float* last) {
  SHARED(SweepMemory<D>, memory);
  const Place place = Place::Own();
  const int head = place.head, first_column = place.first_column, own = first_column + place.column;
  Tile tile;
  if constexpr (kResults == kErrors) {
    tile = FindTile(offsets, shape.rows, blockIdx.x);
    if (tile.first >= tile.length) return;
  } else {
    const int first = offsets[blockIdx.x];
    tile = {first, offsets[blockIdx.x + 1] - first, 0};
  }
  const int end = kResults == kErrors ? min(tile.first + kRowTile, tile.length) : tile.length;
  // Of the state after `position` tokens of the row.
  const auto kept_at = [&](int position) {
    const int64_t state = tile.start / kRowTile + position / kRowTile - 1;
    return ((state * shape.value_heads + head) * D) * D + own;
  };
  const int64_t values = 2 * shape.key_heads * shape.key_size + head * shape.value_size + first_column;
  const int columns = min(kDeltaColumns, shape.value_size - first_column);
  const auto value_of = [&](int64_t token, int column) {
    return column < columns ? ToFloat(qkv[token * shape.width + values + column]) : 0.0f;
  };

  ColumnState<D> state;
  state.Clear();
  // Of the states before and after the row.
  const int64_t whole =
      ((blockIdx.x * shape.value_heads + head) * static_cast<int64_t>(shape.key_size)) * shape.value_size + own;
  if (kResults == kErrors) {
    if (tile.first > 0) state.Load(kept + kept_at(tile.first), D, place.lane, D);
  } else if (before != nullptr && place.column < columns) {
    state.Load(before + whole, shape.value_size, place.lane, shape.key_size);
  }

  Fetch<D> fetch;
  const auto start = [&](int position, int buffer) {
    fetch.Start(tokens, shape, head, tile.start + position, min(kTokens, end - position), kResults == kOutputs, memory,
                buffer, value_of);
  };
  int buffer = 0;
  if (tile.first < end) {
    start(tile.first, 0);
    fetch.Finish(memory, 0);
  }
  EndCopyGroup();
#pragma unroll 1
  for (int position = tile.first; position < end; position += kTokens, buffer ^= 1) {
    const bool has_next = position + kTokens < end;
    if (has_next) start(position + kTokens, buffer ^ 1);
    EndCopyGroup();
    WaitForCopies<1>();
    __syncthreads();  // the tile is there
    if (kResults == kOutputs && kept != nullptr && position > 0 && position % kRowTile == 0)
      state.Save(kept + kept_at(position), D, place.lane, D);
    const int count = min(kTokens, end - position);
#pragma unroll 1
    for (int t = 0; t < count; t++) {
      const float* key = memory.keys[buffer][t];
      const float decay = memory.decays[buffer][t];
      const float error = memory.columns[buffer][t][place.column] - decay * state.Dot(key, place.lane);
      state.Step(decay, memory.betas[buffer][t] * error, key, place.lane);
      float result = error;
      if constexpr (kResults == kOutputs) result = state.Dot(memory.queries[buffer][t], place.lane);
      if (place.lane == 0) memory.results[t][place.column] = result;
    }
    __syncthreads();  // the results are there, and nobody reads the other buffer
    if (has_next) fetch.Finish(memory, buffer ^ 1);
    for (int i = threadIdx.x; i < count * kDeltaColumns; i += kDeltaSweepThreads) {
      const int64_t token = tile.start + position + i / kDeltaColumns;
      const int column = i % kDeltaColumns;
      const float result = memory.results[i / kDeltaColumns][column];
      if constexpr (kResults == kErrors) {
        errors[(head * shape.tokens + token) * D + first_column + column] = result;
      } else if (column < columns) {
        Store(result, output + (token * shape.value_heads + head) * shape.value_size + first_column + column);
      }
    }
  }
  if (last != nullptr && place.column < columns) state.Save(last + whole, shape.value_size, place.lane, shape.key_size);
}

// A whole row from its end, with the gradient G by the state: G ← G + q ∂oᵀ; ∂δ = Gᵀk; r = ∂v = β ∂δ; G ← e^g (G - k
// rᵀ). → by_delta [value_heads, tokens, D], ends: G where `kept` has a state, and the values of by_qkv
template <int D, typename Number>
__device__ __forceinline__ void Backward(const Tokens& tokens, const float* by_output, const int32_t* offsets,
                                         const DeltaShape& shape, float* by_delta, float* ends, Number* by_qkv) {
  SHARED(SweepMemory<D>, memory);
  const Place place = Place::Own();
  const int head = place.head, first_column = place.first_column;
  const int64_t row = offsets[blockIdx.x];
  const int length = offsets[blockIdx.x + 1] - static_cast<int>(row);
  if (length == 0) return;
  const int64_t values = 2 * shape.key_heads * shape.key_size + head * shape.value_size + first_column;
  const int columns = min(kDeltaColumns, shape.value_size - first_column);
  const auto gradient_of = [&](int64_t token, int column) {
    return by_output[(head * shape.tokens + token) * D + first_column + column];
  };

  ColumnState<D> state;
  state.Clear();
  Fetch<D> fetch;
  const auto start = [&](int position, int buffer) {
    fetch.Start(tokens, shape, head, row + position, min(kTokens, length - position), true, memory, buffer,
                gradient_of);
  };
  int buffer = 0;
  const int last = (length - 1) / kTokens * kTokens;
  start(last, 0);
  fetch.Finish(memory, 0);
  EndCopyGroup();
#pragma unroll 1
  for (int position = last; position >= 0; position -= kTokens, buffer ^= 1) {
    if (position > 0) start(position - kTokens, buffer ^ 1);
    EndCopyGroup();
    WaitForCopies<1>();
    __syncthreads();  // the tile is there
    const int count = min(kTokens, length - position);
#pragma unroll 1
    for (int t = count - 1; t >= 0; t--) {
      const float* key = memory.keys[buffer][t];
      const float decay = memory.decays[buffer][t];
      state.Step(1.0f, memory.columns[buffer][t][place.column], memory.queries[buffer][t], place.lane);
      const float by_own = state.Dot(key, place.lane);
      state.Step(decay, -decay * (memory.betas[buffer][t] * by_own), key, place.lane);
      if (place.lane == 0) memory.results[t][place.column] = by_own;
    }
    if (position > 0 && position % kRowTile == 0) {
      const int64_t at = row / kRowTile + position / kRowTile - 1;
      state.Save(ends + ((at * shape.value_heads + head) * D) * D + first_column + place.column, D, place.lane, D);
    }
    __syncthreads();  // the results are there, and nobody reads the other buffer
    for (int i = threadIdx.x; i < count * kDeltaColumns; i += kDeltaSweepThreads) {
      const int64_t token = row + position + i / kDeltaColumns;
      const int column = i % kDeltaColumns;
      const float by_own = memory.results[i / kDeltaColumns][column];
      by_delta[(head * shape.tokens + token) * D + first_column + column] = by_own;
      if (column < columns)
        Store(memory.betas[buffer][i / kDeltaColumns] * by_own, by_qkv + token * shape.width + values + column);
    }
    if (position > 0) fetch.Finish(memory, buffer ^ 1);
  }
}

}  // namespace gated_delta
