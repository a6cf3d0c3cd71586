// Attention in bfloat16 on tensor cores. Each warp of a block has 16 of its queries (or keys), and of a large head a
// part of the columns; tiles of the others pass through shared memory. Sums and softmax are in float32.
#pragma once

#include "attention_tile.cuh"

namespace attention {

// Starts to copy rows first … first + kRows - 1 of a head, zeros from `length` on. A thread keeps its column.
template <int D, int kRows, int kThreads>
__device__ __forceinline__ void LoadTile(const bf16* head, int64_t stride, int first, int length, bf16* tile) {
  constexpr int kVectors = D / 8, kAtOnce = kThreads / kVectors;
  const int column = threadIdx.x % kVectors * 8;
  int row = threadIdx.x / kVectors;
  if (kThreads % kVectors != 0 && row >= kAtOnce) return;
  const bf16* from = head + (first + row) * stride + column;
  bf16* to = tile + row * AttentionPitch(D) + column;
#pragma unroll
  for (int i = 0; i < kRows; i += kAtOnce) {
    if (kRows % kAtOnce != 0 && row >= kRows) break;
    if (first + row < length) {
      CopyAsync16(to, from);
    } else {
      StoreVector<bf16>({}, to);
    }
    row += kAtOnce;
    from += kAtOnce * stride;
    to += kAtOnce * AttentionPitch(D);
  }
}

template <int D, int kRows, int kThreads>
__device__ __forceinline__ void LoadTile(const StreamHead<bf16>& rows, int first, int length, bf16* tile) {
  LoadTile<D, kRows, kThreads>(rows.head, rows.stride, first, length, tile);
}

// The part of a head that a warp of kGroups has: as many columns of the head's first half as of its second, so that
// both numbers of a rotated pair are in one lane.
template <int D, int kGroups>
struct Columns {
  static constexpr int kCount = D / kGroups;

  __device__ __forceinline__ static int First() { return threadIdx.x / 32 % kGroups * (kCount / 2); }
  // Where the i-th one lies from the first.
  __device__ __forceinline__ static constexpr int At(int i) { return i < kCount / 2 ? i : D / 2 + i - kCount / 2; }
};

// The first of a warp's 16 rows.
template <int kGroups>
__device__ __forceinline__ int OwnRow() {
  return threadIdx.x / 32 / kGroups * 16;
}

// 16 rows of a tile, from a warp's first column on, as the left operand of one mma: its columns part * 16 … + 15.
template <int D, int kGroups>
__device__ __forceinline__ void LeftFragment(const bf16* rows, int part, uint32_t* a) {
  const int lane = threadIdx.x % 32;
  LoadMatrixX4(a, rows + lane % 16 * AttentionPitch(D) + Columns<D, kGroups>::At(part * 16) + lane / 16 * 8);
}

// The left operands of a warp: its columns of 16 rows, in registers or in shared memory.
template <int D, int kGroups, bool kInRegisters>
struct LeftRows;

template <int D, int kGroups>
struct LeftRows<D, kGroups, true> {
  static constexpr int kParts = Columns<D, kGroups>::kCount / 16;
  uint32_t a[kParts][4];

  __device__ __forceinline__ void Set(const bf16* rows) {
#pragma unroll
    for (int part = 0; part < kParts; part++) LeftFragment<D, kGroups>(rows, part, a[part]);
  }
  __device__ __forceinline__ void Get(int part, uint32_t* to) const {
#pragma unroll
    for (int i = 0; i < 4; i++) to[i] = a[part][i];
  }
};

template <int D, int kGroups>
struct LeftRows<D, kGroups, false> {
  const bf16* rows;

  __device__ __forceinline__ void Set(const bf16* from) { rows = from; }
  __device__ __forceinline__ void Get(int part, uint32_t* to) const { LeftFragment<D, kGroups>(rows, part, to); }
};

// Sums [16, 8 kCount] of a warp: [n][i] is row lane / 4 + 8 (i / 2), column 8 n + lane % 4 * 2 + i % 2.
template <int kCount>
struct Sums {
  float at[kCount][4];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int n = 0; n < kCount; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) at[n][i] = 0;
  }
};

// result [16, kRows] = left [16, D] rightᵀ, right [kRows, D] in shared memory: the warp's part of the sum over D.
template <int D, int kRows, int kGroups, bool kInRegisters>
__device__ __forceinline__ void MultiplyTransposed(const LeftRows<D, kGroups, kInRegisters>& left, const bf16* right,
                                                   Sums<kRows / 8>& result) {
  using Own = Columns<D, kGroups>;
  const int lane = threadIdx.x % 32;
  const bf16* own = right + (lane / 16 * 8 + lane % 8) * AttentionPitch(D) + Own::First() + lane / 8 % 2 * 8;
  result.Clear();
#pragma unroll
  for (int part = 0; part < Own::kCount / 16; part++) {
    uint32_t a[4];
    left.Get(part, a);
#pragma unroll
    for (int n = 0; n < kRows / 8; n += 2) {
      uint32_t b[4];
      LoadMatrixX4(b, own + n * 8 * AttentionPitch(D) + Own::At(part * 16));
      Mma(result.at[n], a, b);
      Mma(result.at[n + 1], a, b + 2);
    }
  }
}

// Exchanges the parts of a product's sums among the kGroups warps that have its rows: each writes its own, and after a
// barrier adds all of them, in the same order.
template <int kGroups, int kCount>
struct Exchange {
  float* memory;  // [warps, kCount, 32, 4]

  __device__ __forceinline__ float* At(int warp, int n) const {
    return memory + ((warp * kCount + n) * 32 + threadIdx.x % 32) * 4;
  }
  __device__ __forceinline__ void Write(const Sums<kCount>& part) const {
#pragma unroll
    for (int n = 0; n < kCount; n++)
      StoreVector<float>({part.at[n][0], part.at[n][1], part.at[n][2], part.at[n][3]}, At(threadIdx.x / 32, n));
  }
  __device__ __forceinline__ void Add(Sums<kCount>& sums) const {
    const int first = threadIdx.x / 32 / kGroups * kGroups;
    sums.Clear();
#pragma unroll
    for (int group = 0; group < kGroups; group++)
#pragma unroll
      for (int n = 0; n < kCount; n++) {
        const Vector<float> part = LoadVector(At(first + group, n));
#pragma unroll
        for (int i = 0; i < 4; i++) sums.at[n][i] += part.values[i];
      }
  }
};

// result [16, own columns] += left [16, kRows] right, right [kRows, D] in shared memory. The left one is rounded to
// bfloat16.
template <int D, int kRows, int kGroups>
__device__ __forceinline__ void AddProduct(const Sums<kRows / 8>& left, const bf16* right,
                                           Sums<D / kGroups / 8>& result) {
  using Own = Columns<D, kGroups>;
  const int lane = threadIdx.x % 32;
  const bf16* own = right + lane % 16 * AttentionPitch(D) + Own::First() + lane / 16 * 8;
#pragma unroll
  for (int part = 0; part < kRows / 16; part++) {
    const float (*sums)[4] = left.at + 2 * part;
    const uint32_t a[4] = {PackBFloat16(sums[0][0], sums[0][1]), PackBFloat16(sums[0][2], sums[0][3]),
                           PackBFloat16(sums[1][0], sums[1][1]), PackBFloat16(sums[1][2], sums[1][3])};
#pragma unroll
    for (int n = 0; n < Own::kCount / 8; n += 2) {
      uint32_t b[4];
      LoadMatrixX4Transposed(b, own + part * 16 * AttentionPitch(D) + Own::At(n * 8));
      Mma(result.at[n], a, b);
      Mma(result.at[n + 1], a, b + 2);
    }
  }
}

// Over the four lanes that have a row.
__device__ __forceinline__ float RowMax(float value) {
  value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, 1));
  return fmaxf(value, __shfl_xor_sync(kAllLanes, value, 2));
}
__device__ __forceinline__ float RowSum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}

// Columns `column`, which is even, and the next of a head; nothing where it is negative.
__device__ __forceinline__ void StorePair(float first, float second, int column, bf16* head) {
  if (column >= 0) *reinterpret_cast<uint32_t*>(head + column) = PackBFloat16(first, second);
}

// Rows: where queries, keys and values are.
template <int D, typename Rows>
__device__ __forceinline__ void ForwardBFloat16(const Rows& rows, const float* sinks, const AttentionShape& shape,
                                                bf16* output, float* log_sums) {
  constexpr AttentionBlock kBlock = AttentionForward(D);
  constexpr int kQueries = kBlock.rows, kKeys = kBlock.step, kThreads = kBlock.threads();
  constexpr int kGroups = kBlock.column_groups();
  constexpr int kTileSize = kKeys * AttentionPitch(D);
  using Own = Columns<D, kGroups>;
  DYNAMIC_SHARED(memory);
  bf16* key_tile = reinterpret_cast<bf16*>(memory);
  bf16* value_tile = key_tile + kTileSize;
  // Queries in registers pass through the memory of the first keys and values.
  bf16* query_tile = kBlock.in_registers ? key_tile : value_tile + kTileSize;
  const Exchange<kGroups, kKeys / 8> exchange{reinterpret_cast<float*>(value_tile + kTileSize)};
  static_assert(kGroups == 1 || kBlock.in_registers, "the exchange lies where the queries would");
  static_assert(!kBlock.in_registers || kQueries <= 2 * kKeys, "the queries pass through the tiles");

  // The last tiles of a row take longest, so they come first.
  const auto tile = rows.template FindTile<kQueries>(gridDim.x - 1 - blockIdx.x, shape);
  const int64_t start = tile.start;
  const int first = tile.first, length = tile.length;
  if (first >= length) return;
  const int head = blockIdx.y, key_head = head / (shape.heads / shape.key_value_heads);
  const auto queries = rows.Queries(tile, head, shape);
  const auto keys = rows.Keys(tile, key_head, shape), row_values = rows.Values(tile, key_head, shape);
  const int own_row = OwnRow<kGroups>(), lane_row = threadIdx.x % 32 / 4, lane_column = threadIdx.x % 4 * 2;

  LoadTile<D, kQueries, kThreads>(queries, first, length, query_tile);
  WaitForAllCopies();
  __syncthreads();
  LeftRows<D, kGroups, kBlock.in_registers> query;
  query.Set(query_tile + own_row * AttentionPitch(D) + Own::First());
  if (kBlock.in_registers) __syncthreads();

  Sums<Own::kCount / 8> result;
  result.Clear();
  const float sink = SinkOf(sinks, head);
  // One of the lanes that have a row.
  const float of_sink = sink > -INFINITY && lane_column == 0 ? 1 : 0;
  float greatest[2] = {sink, sink}, sum[2] = {of_sink, of_sink};
  const int end = min(first + kQueries, length);
  int key = FirstSeen(first, shape) / kKeys * kKeys;
  LoadTile<D, kKeys, kThreads>(keys, key, length, key_tile);
  for (; key < end; key += kKeys) {
    WaitForAllCopies();
    __syncthreads();  // the keys are there, and all warps are done with the values
    LoadTile<D, kKeys, kThreads>(row_values, key, length, value_tile);
    Sums<kKeys / 8> scores;
    MultiplyTransposed<D, kKeys>(query, key_tile, scores);
    if constexpr (kGroups > 1) exchange.Write(scores);
    WaitForAllCopies();
    __syncthreads();  // the values are there, and all warps are done with the keys
    if (key + kKeys < end) LoadTile<D, kKeys, kThreads>(keys, key + kKeys, length, key_tile);
    if constexpr (kGroups > 1) exchange.Add(scores);

#pragma unroll
    for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) scores.at[n][i] = ScaledScore(scores.at[n][i], shape);
    if (!AllSee(first, kQueries, key, kKeys, length, shape)) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int at = first + own_row + lane_row + 8 * (i / 2);
          if (!Sees(at, key + n * 8 + lane_column + i % 2, length, shape)) scores.at[n][i] = -INFINITY;
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float top = greatest[half];
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++) top = fmaxf(top, fmaxf(scores.at[n][2 * half], scores.at[n][2 * half + 1]));
      top = RowMax(top);
      // A row that has not seen a key yet has no greatest score.
      const float base = top == -INFINITY ? 0 : top;
      const float shrink = FastExp2(greatest[half] - base);
      greatest[half] = top;
      float own = 0;
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          scores.at[n][i] = FastExp2(scores.at[n][i] - base);
          own += scores.at[n][i];
        }
      sum[half] = sum[half] * shrink + own;
#pragma unroll
      for (int n = 0; n < Own::kCount / 8; n++) {
        result.at[n][2 * half] *= shrink;
        result.at[n][2 * half + 1] *= shrink;
      }
    }
    AddProduct<D, kKeys, kGroups>(scores, value_tile, result);
  }

#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float total = RowSum(sum[half]);
    const int at = first + own_row + lane_row + 8 * half;
    if (at >= length) continue;
    const float inverse = 1.0f / total;
    const int64_t of_head = (start + at) * shape.heads + head;
    bf16* to = output + of_head * shape.head_dim;
#pragma unroll
    for (int n = 0; n < Own::kCount / 8; n++)
      StorePair(result.at[n][2 * half] * inverse, result.at[n][2 * half + 1] * inverse,
                Rows::OutputColumn(Own::First() + Own::At(n * 8) + lane_column, shape.head_dim), to);
    if (Rows::kKeepsSums && Own::First() + lane_column == 0) log_sums[of_head] = (greatest[half] + log2f(total)) * kLn2;
  }
}

// Rows of the warp; if there is a rotary table, turned back by the angles of their positions.
template <int D, int kGroups>
__device__ __forceinline__ void StoreGradient(const Sums<D / kGroups / 8>& rows, int first, int length,
                                              const float* cosine, const float* sine, int head_dim, int64_t stride,
                                              bf16* head) {
  const int own_row = OwnRow<kGroups>(), lane_row = threadIdx.x % 32 / 4, lane_column = threadIdx.x % 4 * 2;
  const int half_dim = head_dim / 2;
  constexpr int kPairs = D / kGroups / 16;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int at = first + own_row + lane_row + 8 * half;
    if (at >= length) continue;
    bf16* to = head + at * stride;
#pragma unroll
    for (int n = 0; n < kPairs; n++) {
      const int c = Columns<D, kGroups>::First() + n * 8 + lane_column;
      if (c >= half_dim) continue;
      // Of one pair the two numbers are in one lane, since a warp has a multiple of 8 columns of each half.
      float a[2], b[2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        a[i] = rows.at[n][2 * half + i];
        b[i] = rows.at[n + kPairs][2 * half + i];
        if (cosine == nullptr) continue;
        const int64_t angle = static_cast<int64_t>(at) * half_dim + c + i;
        const float turned = a[i] * cosine[angle] + b[i] * sine[angle];
        b[i] = b[i] * cosine[angle] - a[i] * sine[angle];
        a[i] = turned;
      }
      *reinterpret_cast<uint32_t*>(to + c) = PackBFloat16(a[0], a[1]);
      *reinterpret_cast<uint32_t*>(to + half_dim + c) = PackBFloat16(b[0], b[1]);
    }
  }
}

// With P the weights and dO the gradient of the output: dV = Pᵀ dO, dP = dO Vᵀ, dS = scale P (dP - delta), dQ = dS K,
// dK = dSᵀ Q. The block's own rows are queries (with dO), or keys (with values); the others pass by in steps, two of
// which are in shared memory: one is computed with while the next one arrives.
template <int D, Gradients kGradients>
__device__ __forceinline__ void GradientBFloat16(const bf16* rotated, const bf16* values, int64_t value_stride,
                                                 const bf16* gradient, const float* sums, const int32_t* offsets,
                                                 const float* cosine, const float* sine, const AttentionShape& shape,
                                                 bf16* result) {
  constexpr bool kOfQueries = kGradients == kQueryGradient;
  constexpr bool kHasValue = kGradients == kValueGradient || kGradients == kKeyAndValueGradient;
  constexpr bool kHasScore = kGradients != kValueGradient;  // whether the gradient by the scores is needed
  constexpr AttentionBlock kBlock = AttentionBackward(D);
  constexpr int kRows = kBlock.rows, kStep = kBlock.step, kThreads = kBlock.threads();
  constexpr int kGroups = kBlock.column_groups();
  constexpr int kOwnSize = kRows * AttentionPitch(D), kStepSize = kStep * AttentionPitch(D);
  using Own = Columns<D, kGroups>;
  DYNAMIC_SHARED(memory);
  bf16* own_first = reinterpret_cast<bf16*>(memory);  // queries, or keys
  bf16* own_second = own_first + kOwnSize;            // gradients of the output, or values
  // Of both kinds, twice. Own rows in registers pass through their memory.
  bf16* steps = kBlock.in_registers ? own_first : own_second + kOwnSize;
  const Exchange<kGroups, kStep / 8> exchange{reinterpret_cast<float*>(steps + 4 * kStepSize)};
  const Exchange<kGroups, kStep / 8> second_exchange{exchange.memory + AttentionExchangeBytes(kBlock) / 4};
  static_assert(!kBlock.in_registers || kRows <= 2 * kStep, "the own rows pass through the steps");

  const int slot = kOfQueries ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
  const Tile tile = FindTile<kRows>(offsets, shape.rows, slot);
  const int64_t start = tile.start;
  const int first = tile.first, length = tile.length;
  if (first >= length) return;
  const int queries_per_key = shape.heads / shape.key_value_heads;
  const int key_head = kOfQueries ? blockIdx.y / queries_per_key : blockIdx.y;
  const int first_head = kOfQueries ? blockIdx.y : key_head * queries_per_key;
  const int64_t stride = static_cast<int64_t>(shape.heads + shape.key_value_heads) * D;
  const int64_t output_stride = static_cast<int64_t>(shape.heads) * D;
  const bf16* queries = rotated + start * stride + first_head * D;
  const bf16* row_gradient = gradient + start * output_stride + first_head * D;
  const bf16* keys = rotated + start * stride + (shape.heads + key_head) * D;
  const bf16* row_values = values + start * value_stride + key_head * D;
  // [head][token]: log_sum and delta
  const float2* row_sums = reinterpret_cast<const float2*>(sums) + first_head * shape.tokens + start;
  const int own_row = OwnRow<kGroups>(), lane_row = threadIdx.x % 32 / 4, lane_column = threadIdx.x % 4 * 2;

  if (kOfQueries) {
    LoadTile<D, kRows, kThreads>(queries, stride, first, length, own_first);
    LoadTile<D, kRows, kThreads>(row_gradient, output_stride, first, length, own_second);
  } else {
    LoadTile<D, kRows, kThreads>(keys, stride, first, length, own_first);
    if (kHasScore) LoadTile<D, kRows, kThreads>(row_values, value_stride, first, length, own_second);
  }
  // Keys, or queries of each head, begin … end - 1 of the row.
  const int begin = (kOfQueries ? FirstSeen(first, shape) : first) / kStep * kStep;
  const int end = kOfQueries ? min(first + kRows, length) : EndOfQueries(min(first + kRows, length) - 1, length, shape);
  const int steps_per_head = (end - begin + kStep - 1) / kStep;
  const int all_steps = kOfQueries ? steps_per_head : steps_per_head * queries_per_key;

  const auto load = [&](int step) {
    bf16* step_first = steps + step % 2 * 2 * kStepSize;
    if (kOfQueries) {
      LoadTile<D, kStep, kThreads>(keys, stride, begin + step * kStep, length, step_first);
      LoadTile<D, kStep, kThreads>(row_values, value_stride, begin + step * kStep, length, step_first + kStepSize);
      return;
    }
    const int head = step / steps_per_head, at = begin + step % steps_per_head * kStep;
    LoadTile<D, kStep, kThreads>(queries + head * D, stride, at, length, step_first);
    LoadTile<D, kStep, kThreads>(row_gradient + head * D, output_stride, at, length, step_first + kStepSize);
    // A query's sums lie behind its row, where the pitch leaves 16 bytes.
    if (threadIdx.x < kStep) {
      float2* to = reinterpret_cast<float2*>(step_first + threadIdx.x * AttentionPitch(D) + D);
      if (at + static_cast<int>(threadIdx.x) < length) {
        CopyAsync8(to, row_sums + head * shape.tokens + at + threadIdx.x);
      } else {
        *to = {0, 0};
      }
    }
  };

  float2 own_sums[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int at = first + own_row + lane_row + 8 * half;
    own_sums[half] = kOfQueries && at < length ? row_sums[at] : float2{0, 0};
  }
  LeftRows<D, kGroups, kBlock.in_registers> left_first, left_second;
  if (kBlock.in_registers) {
    WaitForAllCopies();
    __syncthreads();  // the own rows are there
  }
  left_first.Set(own_first + own_row * AttentionPitch(D) + Own::First());
  left_second.Set(own_second + own_row * AttentionPitch(D) + Own::First());
  if (kBlock.in_registers) __syncthreads();  // all warps have theirs
  Sums<Own::kCount / 8> by_own;              // by queries, or keys
  Sums<Own::kCount / 8> by_value;            // not used, and then in no register, unless kHasValue
  by_own.Clear();
  by_value.Clear();
  load(0);
  for (int step = 0; step < all_steps; step++) {
    WaitForAllCopies();
    __syncthreads();  // this step is there, and all warps are done with the one before
    if (step + 1 < all_steps) load(step + 1);
    const bf16* step_first = steps + step % 2 * 2 * kStepSize;
    const bf16* step_second = step_first + kStepSize;
    const int other = begin + (kOfQueries ? step : step % steps_per_head) * kStep;
    Sums<kStep / 8> weights, by_weight;
    MultiplyTransposed<D, kStep>(left_first, step_first, weights);
    if (kHasScore) MultiplyTransposed<D, kStep>(left_second, step_second, by_weight);
    if constexpr (kGroups > 1) {
      exchange.Write(weights);
      if (kHasScore) second_exchange.Write(by_weight);
      __syncthreads();  // all parts are there
      exchange.Add(weights);
      if (kHasScore) second_exchange.Add(by_weight);
    }
    const bool all_see = kOfQueries ? AllSee(first, kRows, other, kStep, length, shape)
                                    : AllSee(other, kStep, first, kRows, length, shape);
#pragma unroll
    for (int n = 0; n < kStep / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int own_at = first + own_row + lane_row + 8 * (i / 2), column = n * 8 + lane_column + i % 2;
        const bool seen = all_see || (kOfQueries ? Sees(own_at, other + column, length, shape)
                                                 : Sees(other + column, own_at, length, shape));
        const float2 of_query = kOfQueries
                                    ? own_sums[i / 2]
                                    : *reinterpret_cast<const float2*>(step_first + column * AttentionPitch(D) + D);
        const float scaled = ScaledScore(weights.at[n][i], shape);
        const float weight = seen ? FastExp2(scaled - of_query.x * kLog2E) : 0;
        weights.at[n][i] = weight;
        if (!kHasScore) continue;
        by_weight.at[n][i] = seen ? ScoreGradient(weight, scaled, by_weight.at[n][i], of_query.y, shape) : 0;
      }
    if (kHasValue) AddProduct<D, kStep, kGroups>(weights, step_second, by_value);
    if (kHasScore) AddProduct<D, kStep, kGroups>(by_weight, step_first, by_own);
  }

  const int64_t result_stride = static_cast<int64_t>(shape.heads + 2 * shape.key_value_heads) * shape.head_dim;
  bf16* head = result + start * result_stride + (kOfQueries ? first_head : shape.heads + key_head) * shape.head_dim;
  if (kHasScore) StoreGradient<D, kGroups>(by_own, first, length, cosine, sine, shape.head_dim, result_stride, head);
  head += shape.key_value_heads * shape.head_dim;
  if (kHasValue)
    StoreGradient<D, kGroups>(by_value, first, length, nullptr, nullptr, shape.head_dim, result_stride, head);
}

}  // namespace attention
