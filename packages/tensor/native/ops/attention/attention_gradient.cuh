// The gradients of attention in bfloat16. With P the weights and dO the gradient of the output: dV = Pᵀ dO, dP = dO Vᵀ,
// dS = P (dP - delta), dQ = scale dS K, dK = scale dSᵀ Q. A block's own rows are queries (with dO), or keys (with
// values); the others pass by in steps, two of which are in shared memory: one is computed with while the next one
// arrives.
#pragma once

#include "ops/attention/attention_bfloat16.cuh"

namespace attention {

// Rows of the warp, times scale; if there is a rotary table, turned back by the angles of their positions.
template <int D, int kGroups, int kTiles>
__device__ __forceinline__ void StoreGradient(const Sums<D / kGroups / 8, kTiles>& rows, float scale, int first,
                                              int length, const float* cosine, const float* sine, int head_dim,
                                              int64_t stride, bf16* head) {
  const int own_row = OwnRow<kGroups, kTiles>(), lane_row = threadIdx.x % 32 / 4, lane_column = threadIdx.x % 4 * 2;
  const int half_dim = head_dim / 2;
  constexpr int kPairs = D / kGroups / 16;
#pragma unroll
  for (int half = 0; half < 2 * kTiles; half++) {
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
        a[i] = rows.at[n][2 * half + i] * scale;
        b[i] = rows.at[n + kPairs][2 * half + i] * scale;
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

// The rows that a block has and those that pass by.
template <int D, Gradients kGradients>
struct GradientRows {
  static constexpr bool kOfQueries = kGradients == kQueryGradient;
  static constexpr bool kHasValue = kGradients == kValueGradient || kGradients == kKeyAndValueGradient;
  static constexpr bool kHasScore = kGradients != kValueGradient;  // whether the gradient by the scores is needed
  static constexpr AttentionBlock kBlock = AttentionBackward(D, kOfQueries);
  static constexpr int kRows = kBlock.rows, kStep = kBlock.step, kThreads = kBlock.threads();
  static constexpr int kGroups = kBlock.column_groups(), kTiles = kBlock.tiles_of_warp;
  static constexpr int kStepSize = kStep * AttentionPitch(D);

  const AttentionShape& shape;
  int64_t start;  // of the row in the stream
  int first;      // of the block's rows in it
  int length;
  int queries_per_key, key_head, first_head;
  StreamHead<bf16> queries, gradients, keys, values;
  // [head][token]: log_sum and delta
  const float2* sums;
  // Keys, or queries of each head, from `begin` on.
  int begin, steps_per_head, all_steps;

  __device__ __forceinline__ GradientRows(const bf16* rotated, const bf16* all_values, int64_t value_stride,
                                          const bf16* gradient, const float* all_sums, const int32_t* offsets,
                                          const AttentionShape& of)
      : shape(of) {
    const Tile tile = FindTile<kRows>(offsets, shape.rows, kOfQueries ? gridDim.x - 1 - blockIdx.x : blockIdx.x);
    start = tile.start;
    first = tile.first;
    length = tile.length;
    queries_per_key = shape.heads / shape.key_value_heads;
    key_head = kOfQueries ? blockIdx.y / queries_per_key : blockIdx.y;
    first_head = kOfQueries ? blockIdx.y : key_head * queries_per_key;
    const int64_t stride = static_cast<int64_t>(shape.heads + shape.key_value_heads) * D;
    const int64_t output_stride = static_cast<int64_t>(shape.heads) * D;
    queries = {rotated + start * stride + first_head * D, stride};
    gradients = {gradient + start * output_stride + first_head * D, output_stride};
    keys = {rotated + start * stride + (shape.heads + key_head) * D, stride};
    values = {all_values + start * value_stride + key_head * D, value_stride};
    sums = reinterpret_cast<const float2*>(all_sums) + first_head * shape.tokens + start;
    begin = (kOfQueries ? FirstSeen(first, shape) : first) / kStep * kStep;
    const int last = min(first + kRows, length);
    const int end = kOfQueries ? last : EndOfQueries(last - 1, length, shape);
    steps_per_head = (end - begin + kStep - 1) / kStep;
    all_steps = kOfQueries ? steps_per_head : steps_per_head * queries_per_key;
  }

  // Starts to copy the block's own rows: queries, or keys; and gradients of the output, or values.
  template <RowPlace kPlace>
  __device__ __forceinline__ void LoadOwn(bf16* to_first, bf16* to_second) const {
    LoadTile<D, kRows, kThreads, kPlace>(kOfQueries ? queries : keys, first, length, to_first);
    if (kHasScore) LoadTile<D, kRows, kThreads>(kOfQueries ? gradients : values, first, length, to_second);
  }

  // The first row of a step.
  __device__ __forceinline__ int Other(int step) const {
    return begin + (kOfQueries ? step : step % steps_per_head) * kStep;
  }

  __device__ __forceinline__ void LoadStep(int step, bf16* to) const {
    const int at = Other(step);
    if (kOfQueries) {
      LoadTile<D, kStep, kThreads>(keys, at, length, to);
      LoadTile<D, kStep, kThreads>(values, at, length, to + kStepSize);
      return;
    }
    const int head = step / steps_per_head;
    LoadTile<D, kStep, kThreads>(StreamHead<bf16>{queries.head + head * D, queries.stride}, at, length, to);
    LoadTile<D, kStep, kThreads>(StreamHead<bf16>{gradients.head + head * D, gradients.stride}, at, length,
                                 to + kStepSize);
    // A query's sums lie behind its row, where the pitch leaves 16 bytes.
    if (threadIdx.x < kStep) {
      float2* sums_to = reinterpret_cast<float2*>(to + threadIdx.x * AttentionPitch(D) + D);
      if (at + static_cast<int>(threadIdx.x) < length) {
        CopyAsync8(sums_to, sums + head * shape.tokens + at + threadIdx.x);
      } else {
        *sums_to = {0, 0};
      }
    }
  }

  // The sums of the queries that a lane has rows of.
  __device__ __forceinline__ void GetOwnSums(float2 (&to)[2 * kTiles]) const {
#pragma unroll
    for (int half = 0; half < 2 * kTiles; half++) {
      const int at = first + OwnRow<kGroups, kTiles>() + threadIdx.x % 32 / 4 + 8 * half;
      to[half] = kOfQueries && at < length ? sums[at] : float2{0, 0};
    }
  }

  // Products of own rows and those from `column` of a step on → weights (P) and gradients by scores (dS), given dP.
  // Cap and mask are asked for once, not for each number.
  template <int kCount>
  __device__ __forceinline__ void ComputeWeights(Sums<kCount, kTiles>& weights, Sums<kCount, kTiles>& by_weight,
                                                 const float2 (&own_sums)[2 * kTiles], int step, int column,
                                                 const bf16* step_first) const {
    const int lane_row = threadIdx.x % 32 / 4, lane_column = threadIdx.x % 4 * 2;
    // Of a product, or of a part of the cap.
    const float unit = kLog2E * (shape.softcap != 0 ? shape.softcap : shape.scale);
    const auto of_query = [&](int n, int i) {
      if (kOfQueries) return own_sums[i / 2];
      const int row = column + n * 8 + lane_column + i % 2;
      return *reinterpret_cast<const float2*>(step_first + row * AttentionPitch(D) + D);
    };
    if (kHasScore) {
#pragma unroll
      for (int n = 0; n < kCount; n++)
#pragma unroll
        for (int i = 0; i < 4 * kTiles; i++) by_weight.at[n][i] -= of_query(n, i).y;
    }
    if (shape.softcap != 0) {
#pragma unroll
      for (int n = 0; n < kCount; n++)
#pragma unroll
        for (int i = 0; i < 4 * kTiles; i++) {
          const float part = PartOfCap(weights.at[n][i], shape);
          weights.at[n][i] = part;
          if (kHasScore) by_weight.at[n][i] *= 1.0f - part * part;
        }
    }
#pragma unroll
    for (int n = 0; n < kCount; n++)
#pragma unroll
      for (int i = 0; i < 4 * kTiles; i++) {
        weights.at[n][i] = FastExp2(weights.at[n][i] * unit - of_query(n, i).x * kLog2E);
        if (kHasScore) by_weight.at[n][i] *= weights.at[n][i];
      }
    const int own = first + OwnRow<kGroups, kTiles>(), other = Other(step) + column;
    if (kOfQueries ? AllSee(own, 16 * kTiles, other, 8 * kCount, length, shape)
                   : AllSee(other, 8 * kCount, own, 16 * kTiles, length, shape))
      return;
#pragma unroll
    for (int n = 0; n < kCount; n++)
#pragma unroll
      for (int i = 0; i < 4 * kTiles; i++) {
        const int own_at = own + lane_row + 8 * (i / 2), at = other + n * 8 + lane_column + i % 2;
        if (kOfQueries ? Sees(own_at, at, length, shape) : Sees(at, own_at, length, shape)) continue;
        weights.at[n][i] = 0;
        if (kHasScore) by_weight.at[n][i] = 0;
      }
  }

  __device__ __forceinline__ void Store(const Sums<D / kGroups / 8, kTiles>& by_own,
                                        const Sums<D / kGroups / 8, kTiles>& by_value, const float* cosine,
                                        const float* sine, bf16* result) const {
    const int64_t stride = static_cast<int64_t>(shape.heads + 2 * shape.key_value_heads) * shape.head_dim;
    const int of = kOfQueries ? first_head : shape.heads + key_head;
    bf16* head = result + start * stride + of * shape.head_dim;
    if (kHasScore)
      StoreGradient<D, kGroups>(by_own, shape.scale, first, length, cosine, sine, shape.head_dim, stride, head);
    head += shape.key_value_heads * shape.head_dim;
    if (kHasValue)
      StoreGradient<D, kGroups>(by_value, 1, first, length, nullptr, nullptr, shape.head_dim, stride, head);
  }
};

// Each warp computes the scores of its rows and all columns of a step; of a large head, its part of their sums.
template <int D, Gradients kGradients>
__device__ __forceinline__ void GradientByRows(const GradientRows<D, kGradients>& rows, const float* cosine,
                                               const float* sine, bf16* result) {
  using Rows = GradientRows<D, kGradients>;
  constexpr AttentionBlock kBlock = Rows::kBlock;
  constexpr int kStep = Rows::kStep, kGroups = Rows::kGroups, kStepSize = Rows::kStepSize;
  constexpr int kOwnSize = Rows::kRows * AttentionPitch(D);
  using Own = Columns<D, kGroups>;
  DYNAMIC_SHARED(memory);
  bf16* own_first = reinterpret_cast<bf16*>(memory);
  bf16* own_second = own_first + kOwnSize;
  // Of both kinds, twice. Own rows in registers pass through their memory.
  bf16* steps = kBlock.in_registers() ? own_first : own_second + kOwnSize;
  const Exchange<kGroups, kStep / 8> exchange{reinterpret_cast<float*>(steps + 4 * kStepSize)};
  const Exchange<kGroups, kStep / 8> second_exchange{exchange.memory + AttentionExchangeBytes(kBlock) / 4};
  static_assert(!kBlock.in_registers() || Rows::kRows <= 2 * kStep, "the own rows pass through the steps");

  rows.template LoadOwn<RowPlace::kPadded>(own_first, own_second);
  float2 own_sums[2];
  rows.GetOwnSums(own_sums);
  const int own_row = OwnRow<kGroups, 1>();
  LeftRows<D, kGroups, 1, kBlock.place> left_first, left_second;
  if (kBlock.in_registers()) {
    WaitForAllCopies();
    __syncthreads();  // the own rows are there
  }
  left_first.Set(own_first + own_row * AttentionPitch(D) + Own::First());
  left_second.Set(own_second + own_row * AttentionPitch(D) + Own::First());
  if (kBlock.in_registers()) __syncthreads();  // all warps have theirs
  Sums<Own::kCount / 8> by_own;                // by queries, or keys
  Sums<Own::kCount / 8> by_value;              // not used, and then in no register, unless kHasValue
  by_own.Clear();
  by_value.Clear();
  rows.LoadStep(0, steps);
  for (int step = 0; step < rows.all_steps; step++) {
    WaitForAllCopies();
    __syncthreads();  // this step is there, and all warps are done with the one before
    if (step + 1 < rows.all_steps) rows.LoadStep(step + 1, steps + (step + 1) % 2 * 2 * kStepSize);
    const bf16* step_first = steps + step % 2 * 2 * kStepSize;
    const bf16* step_second = step_first + kStepSize;
    Sums<kStep / 8> weights, by_weight;
    MultiplyTransposed<D, kStep>(left_first, step_first, weights);
    if (Rows::kHasScore) MultiplyTransposed<D, kStep>(left_second, step_second, by_weight);
    if constexpr (kGroups > 1) {
      exchange.Write(weights);
      if (Rows::kHasScore) second_exchange.Write(by_weight);
      __syncthreads();  // all parts are there
      exchange.Add(weights);
      if (Rows::kHasScore) second_exchange.Add(by_weight);
    }
    rows.ComputeWeights(weights, by_weight, own_sums, step, 0, step_first);
    if (Rows::kHasValue) AddProduct<D, kStep, kGroups>(weights, step_second, by_value);
    if (Rows::kHasScore) AddProduct<D, kStep, kGroups>(by_weight, step_first, by_own);
  }
  rows.Store(by_own, by_value, cosine, sine, result);
}

// Numbers in bfloat16 [rows, kColumns], of which each warp writes some columns of its rows and reads all.
template <int kColumns, int kTiles>
struct SharedNumbers {
  static constexpr int kPitch = AttentionPitch(kColumns);
  bf16* memory;  // from the warp's first row on

  // Columns column … column + 8 kCount - 1.
  template <int kCount>
  __device__ __forceinline__ void Write(const Sums<kCount, kTiles>& numbers, int column) const {
    bf16* to = memory + threadIdx.x % 32 / 4 * kPitch + column + threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < kCount; n++)
#pragma unroll
      for (int half = 0; half < 2 * kTiles; half++)
        *reinterpret_cast<uint32_t*>(to + half * 8 * kPitch + n * 8) =
            PackBFloat16(numbers.at[n][2 * half], numbers.at[n][2 * half + 1]);
  }

  // result [16 kTiles, own columns] += these [16 kTiles, kColumns] right, right [kColumns, D] in shared memory.
  template <int D, int kGroups>
  __device__ __forceinline__ void AddProductWith(const bf16* right, Sums<D / kGroups / 8, kTiles>& result) const {
    using Own = Columns<D, kGroups>;
    const int lane = threadIdx.x % 32;
    const bf16* left = memory + lane % 16 * kPitch + lane / 16 * 8;
    const bf16* own = right + lane % 16 * AttentionPitch(D) + Own::First() + lane / 16 * 8;
#pragma unroll
    for (int part = 0; part < kColumns / 16; part++) {
      uint32_t a[kTiles][4];
#pragma unroll
      for (int tile = 0; tile < kTiles; tile++) LoadMatrixX4(a[tile], left + tile * 16 * kPitch + part * 16);
      AddPart<D, kGroups, kTiles>(a, own + part * 16 * AttentionPitch(D), result);
    }
  }
};

// The warps that share rows each compute the scores of a part of a step's columns, exchange them, and each have sums of
// a part of the head's columns.
template <int D, Gradients kGradients>
__device__ __forceinline__ void GradientByTiles(const GradientRows<D, kGradients>& rows, const float* cosine,
                                                const float* sine, bf16* result) {
  using Rows = GradientRows<D, kGradients>;
  constexpr AttentionBlock kBlock = Rows::kBlock;
  constexpr int kStep = Rows::kStep, kGroups = Rows::kGroups, kTiles = Rows::kTiles, kStepSize = Rows::kStepSize;
  constexpr int kPart = kStep / kGroups;  // columns of a step that a warp has the scores of
  using Numbers = SharedNumbers<kStep, kTiles>;
  static_assert(Rows::kHasScore && Columns<D, kGroups>::kCount % 32 == 0, "a fragment has columns of one half");
  DYNAMIC_SHARED(memory);
  bf16* steps = reinterpret_cast<bf16*>(memory);
  bf16* shared = steps + 4 * kStepSize;
  const int own_row = OwnRow<kGroups, kTiles>();
  const Numbers scores{shared + own_row * Numbers::kPitch};
  const Numbers values{scores.memory + Rows::kRows * Numbers::kPitch};
  // What is kept in registers passes through the memory of the steps.
  constexpr RowPlace kFirstPlace = kBlock.in_registers() ? RowPlace::kPadded : kBlock.place;
  bf16* own_second = steps + (kBlock.in_registers() ? 2 * kStepSize : 0);
  bf16* own_first = kBlock.in_registers() ? steps : shared + 2 * Rows::kRows * Numbers::kPitch;
  static_assert(Rows::kRows <= (kBlock.in_registers() ? 2 : 4) * kStep, "the own rows pass through the steps");

  rows.template LoadOwn<kFirstPlace>(own_first, own_second);
  float2 own_sums[2 * kTiles];
  rows.GetOwnSums(own_sums);
  WaitForAllCopies();
  __syncthreads();  // the own rows are there
  LeftRows<D, 1, kTiles, kBlock.place> left_first;
  LeftRows<D, 1, kTiles, RowPlace::kRegisters> left_second;
  left_first.Set(own_first + own_row * RowLayout<D, kFirstPlace>::kPitch);
  left_second.Set(own_second + own_row * AttentionPitch(D));
  __syncthreads();  // all warps have theirs
  Sums<D / kGroups / 8, kTiles> by_own;
  Sums<D / kGroups / 8, kTiles> by_value;  // not used, and then in no register, unless kHasValue
  by_own.Clear();
  by_value.Clear();
  const int column = threadIdx.x / 32 % kGroups * kPart;
  rows.LoadStep(0, steps);
  for (int step = 0; step < rows.all_steps; step++) {
    WaitForAllCopies();
    __syncthreads();  // this step is there, and all warps are done with the one before
    if (step + 1 < rows.all_steps) rows.LoadStep(step + 1, steps + (step + 1) % 2 * 2 * kStepSize);
    const bf16* step_first = steps + step % 2 * 2 * kStepSize;
    const bf16* step_second = step_first + kStepSize;
    Sums<kPart / 8, kTiles> weights, by_weight;
    MultiplyTransposed<D, kPart>(left_first, step_first + column * AttentionPitch(D), weights);
    MultiplyTransposed<D, kPart>(left_second, step_second + column * AttentionPitch(D), by_weight);
    rows.ComputeWeights(weights, by_weight, own_sums, step, column, step_first);
    scores.Write(by_weight, column);
    if (Rows::kHasValue) values.Write(weights, column);
    __syncthreads();  // the parts of all warps are there
    if (Rows::kHasValue) values.template AddProductWith<D, kGroups>(step_second, by_value);
    scores.template AddProductWith<D, kGroups>(step_first, by_own);
  }
  rows.Store(by_own, by_value, cosine, sine, result);
}

template <int D, Gradients kGradients>
__device__ __forceinline__ void GradientBFloat16(const bf16* rotated, const bf16* values, int64_t value_stride,
                                                 const bf16* gradient, const float* sums, const int32_t* offsets,
                                                 const float* cosine, const float* sine, const AttentionShape& shape,
                                                 bf16* result) {
  const GradientRows<D, kGradients> rows(rotated, values, value_stride, gradient, sums, offsets, shape);
  if (rows.first >= rows.length) return;
  if constexpr (decltype(rows)::kBlock.splits_steps) {
    GradientByTiles(rows, cosine, sine, result);
  } else {
    GradientByRows(rows, cosine, sine, result);
  }
}

}  // namespace attention
