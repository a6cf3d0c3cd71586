// The gradients by queries, keys and gates of one chunk of 64 tokens of a head, as products of small matrices. What
// they need comes from the sweeps of gated_delta_sweep.cuh; chunks and heads do not depend on each other. The formulas,
// and the names in them, are those of gated_delta_gradient.cc.
#pragma once

#include "cuda/kernels/float_product.cuh"
#include "ops/activation/activation.cuh"
#include "ops/gated_delta/gated_delta_sweep.cuh"

namespace gated_delta {

using namespace float_product;
static_assert(kDeltaChunkThreads == kFloatThreads, "a block multiplies in float32");

template <int D>
struct ChunkMemory {
  FloatMemory<D> product;
  // Sums of g up to each token, in double precision: their differences are of a few tokens, the sums of many. At the
  // end, what passes each token.
  double sums[kRowTile];
  float gates[kRowTile], betas[kRowTile];
  // Decays γ from the first state to each token; the same times -β; from each token to the last state times β.
  float from_start[kRowTile], by_recall[kRowTile], to_end[kRowTile];
  // Parts of ∂g: of the first state at each token, of each token at the last state. ∂β.
  float of_start[kRowTile], of_end[kRowTile], by_beta[kRowTile];
};

// A thread's numbers of a matrix [64, 64] and of one [64, D].
using Square = float[kOwn][kOwn];
template <int D>
using Wide = float[kOwn][D / kSide];

// Calls use(i, j, t, s) for each of a thread's numbers [t, s] of a matrix [64, 64].
template <typename Use>
__device__ __forceinline__ void ForEachOwn(const Use& use) {
#pragma unroll
  for (int i = 0; i < kOwn; i++)
#pragma unroll
    for (int j = 0; j < kOwn; j++) {
      use(i, j, static_cast<int>(threadIdx.x) / kSide + kSide * i, static_cast<int>(threadIdx.x) % kSide + kSide * j);
    }
}

// The decays of a chunk. `count`: its tokens; those beyond have factors of zero.
template <int D>
__device__ __forceinline__ void LoadGates(const Tokens& tokens, int64_t first, int count, ChunkMemory<D>& memory) {
  const int t = threadIdx.x;
  if (t < kRowTile) {
    memory.gates[t] = t < count ? tokens.gate[first + t] : 0.0f;
    memory.betas[t] = t < count ? tokens.beta[first + t] : 0.0f;
    memory.of_start[t] = memory.of_end[t] = 0;
  }
  __syncthreads();
  if (t == 0) {
    double sum = 0;
    for (int s = 0; s < kRowTile; s++) memory.sums[s] = sum += memory.gates[s];
  }
  __syncthreads();
  if (t < kRowTile) {
    const float from_start = expf(static_cast<float>(memory.sums[t])), beta = memory.betas[t];
    memory.from_start[t] = t < count ? from_start : 0.0f;
    memory.by_recall[t] = -from_start * beta;
    memory.to_end[t] = expf(static_cast<float>(memory.sums[count - 1] - memory.sums[t])) * beta;
  }
}

// result += product, of left [64, D] and stateᵀ [D, D], row t times factors[t]; dots[t] += row t of `rows` · that of
// the product.
template <int D>
__device__ __forceinline__ void AddByState(const FloatRows& left, const float* state, const float* factors,
                                           const FloatRows& rows, FloatMemory<D>& memory, Wide<D>& result,
                                           float* dots) {
  float own_dots[kOwn] = {};
#pragma unroll
  for (int part = 0; part < D / kRowTile; part++) {
    Square product;
    MultiplyTransposedFloat<D>(left, {state, D, part * kRowTile, D}, memory, product);
    ForEachOwn([&](int i, int j, int t, int s) {
      const float number = factors[t] * product[i][j];
      result[i][part * kOwn + j] += number;
      const int at = rows.first + t;
      if (at < rows.length) own_dots[i] += rows.head[at * rows.stride + part * kRowTile + s] * number;
    });
  }
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    const float sum = SideSum(own_dots[i]);
    if (threadIdx.x % kSide == 0) dots[threadIdx.x / kSide + kSide * i] += sum;
  }
}

template <int D>
__device__ __forceinline__ void Clear(Wide<D>& matrix) {
#pragma unroll
  for (int i = 0; i < kOwn; i++)
#pragma unroll
    for (int j = 0; j < D / kSide; j++) matrix[i][j] = 0;
}

template <int D>
__device__ __forceinline__ void StoreRows(const Wide<D>& matrix, int count, float* to) {
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
#pragma unroll
  for (int i = 0; i < kOwn; i++)
#pragma unroll
    for (int j = 0; j < D / kSide; j++) {
      if (y + kSide * i < count) to[(y + kSide * i) * D + x + kSide * j] = matrix[i][j];
    }
}

// The product of all numbers of two states.
template <int D>
__device__ __forceinline__ float StateDot(const float* a, const float* b) {
  float sum = 0;
  for (int i = threadIdx.x * 4; i < D * D; i += kFloatThreads * 4) {
    const Vector<float> of_a = LoadVector(a + i), of_b = LoadVector(b + i);
#pragma unroll
    for (int k = 0; k < 4; k++) sum += of_a.values[k] * of_b.values[k];
  }
  return BlockSum(sum);
}

// kept and ends [states, value_heads, D, D]: the first and the last state of the chunk, and the gradient by it, where
// it is not that of the row. by_output, errors (v - e^g Sᵀk) and by_delta [value_heads, tokens, D] → by_query in the
// place of by_output, by_key in that of errors, and by_ba.
template <int D, typename Number>
__device__ __forceinline__ void ChunkGradient(const Tokens& tokens, const Number* ba, const float* a_log,
                                              const float* dt_bias, const int32_t* offsets, const DeltaShape& shape,
                                              const float* kept, const float* ends, const float* by_delta,
                                              float* by_output, float* errors, Number* by_ba) {
  SHARED(ChunkMemory<D>, memory);
  const Tile tile = FindTile(offsets, shape.rows, blockIdx.x);
  if (tile.first >= tile.length) return;
  const int head = blockIdx.y, key_head = head / (shape.value_heads / shape.key_heads);
  const int count = min(kRowTile, tile.length - tile.first);
  const int64_t first = tile.start + tile.first;
  const int64_t of_head = (head * shape.tokens + tile.start) * D, of_keys = (key_head * shape.tokens + tile.start) * D;
  const auto rows = [&](const float* at) { return FloatRows{at, D, tile.first, tile.length}; };
  const FloatRows keys = rows(tokens.key + of_keys), queries = rows(tokens.query + of_keys);
  const FloatRows gradients = rows(by_output + of_head), own_errors = rows(errors + of_head);
  const FloatRows by_deltas = rows(by_delta + of_head);
  // The states after as many tokens of the row.
  const auto state_at = [&](int position) {
    return ((tile.start / kRowTile + position / kRowTile - 1) * shape.value_heads + head) * D * D;
  };
  const float* start = tile.first > 0 ? kept + state_at(tile.first) : nullptr;
  const float* end = tile.first + kRowTile < tile.length ? ends + state_at(tile.first + kRowTile) : nullptr;

  LoadGates(tokens, head * shape.tokens + first, count, memory);
  __syncthreads();
  Square decay;  // Γ between two tokens
  ForEachOwn([&](int i, int j, int t, int s) {
    const double between = memory.sums[t] - memory.sums[s];
    decay[i][j] = expf(static_cast<float>(t >= s ? between : -between));
  });

  Wide<D> result;
  Square weights, product, parts;
  Clear<D>(result);
  if (start != nullptr)
    AddByState<D>(gradients, start, memory.from_start, queries, memory.product, result, memory.of_start);
  MultiplyTransposedFloat<D>(gradients, own_errors, memory.product, weights);
  ForEachOwn([&](int i, int j, int t, int s) { weights[i][j] *= s <= t ? decay[i][j] * memory.betas[s] : 0.0f; });
  AddProductFloat<D>(weights, keys, memory.product, result);
  MultiplyTransposedFloat<D>(own_errors, gradients, memory.product, weights);
  StoreRows<D>(result, count, by_output + of_head + tile.first * D);
  ForEachOwn([&](int i, int j, int t, int s) { weights[i][j] *= s >= t ? decay[i][j] * memory.betas[t] : 0.0f; });

  Clear<D>(result);
  if (start != nullptr)
    AddByState<D>(by_deltas, start, memory.by_recall, keys, memory.product, result, memory.of_start);
  if (end != nullptr) AddByState<D>(own_errors, end, memory.to_end, keys, memory.product, result, memory.of_end);
  MultiplyTransposedFloat<D>(keys, queries, memory.product, product);
  ForEachOwn([&](int i, int j, int t, int s) { parts[i][j] = product[i][j] * weights[i][j]; });
  AddProductFloat<D>(weights, queries, memory.product, result);
  MultiplyTransposedFloat<D>(own_errors, by_deltas, memory.product, weights);
  MultiplyTransposedFloat<D>(by_deltas, own_errors, memory.product, product);
  ForEachOwn([&](int i, int j, int t, int s) {
    if (t == s) memory.by_beta[t] = product[i][j];
    const float both = -decay[i][j] * (memory.betas[t] * memory.betas[s]);
    weights[i][j] = t == s ? 0.0f : both * (s > t ? weights[i][j] : product[i][j]);
  });
  MultiplyTransposedFloat<D>(keys, keys, memory.product, product);
  ForEachOwn([&](int i, int j, int t, int s) { parts[i][j] += product[i][j] * weights[i][j]; });
  AddProductFloat<D>(weights, keys, memory.product, result);
  StoreRows<D>(result, count, errors + of_head + tile.first * D);

  // What passes t, from tokens before it to t and later ones.
  float passing = 0;
  if (start != nullptr && end != nullptr) passing = memory.from_start[count - 1] * StateDot<D>(start, end);
  __syncthreads();  // the weights may be in use
  ForEachOwn([&](int i, int j, int t, int s) { memory.product.weights[t * kWeightPitch + s] = parts[i][j]; });
  __syncthreads();
  const int t = threadIdx.x;
  if (t < kRowTile) {
    // From t on, what comes from it passes, and what goes to it does not.
    double change = static_cast<double>(memory.of_end[t]) - memory.of_start[t];
    for (int s = t + 1; s < kRowTile; s++) change += memory.product.weights[t * kWeightPitch + s];
    for (int s = 0; s < t; s++) change -= memory.product.weights[s * kWeightPitch + t];
    memory.sums[t] = change;
  }
  __syncthreads();
  if (t == 0) {
    double sum = passing;
    for (int s = 0; s < kRowTile; s++) sum += memory.of_start[s];
    for (int s = 0; s < kRowTile; s++) {
      const double change = memory.sums[s];
      memory.sums[s] = sum;
      sum += change;
    }
  }
  __syncthreads();
  if (t < count) {
    const int64_t at = (first + t) * 2 * shape.value_heads + head;
    const float beta = memory.betas[t];
    const float slope = Sigmoid(ToFloat(ba[at + shape.value_heads]) + dt_bias[head]);
    Store(memory.by_beta[t] * beta * (1.0f - beta), by_ba + at);
    Store(static_cast<float>(-memory.sums[t]) * expf(a_log[head]) * slope, by_ba + at + shape.value_heads);
  }
}

}  // namespace gated_delta
