// Attention in bfloat16 on tensor cores. Each warp of a block has 16 or 32 of its queries (or keys), and of a large
// head a part of the columns; tiles of the others pass through shared memory. Sums and softmax are in float32.
#pragma once

#include "ops/attention/attention_tile.cuh"

namespace attention {

// How rows of a head of size D lie in shared memory.
template <int D, RowPlace kPlace>
struct RowLayout {
  static constexpr int kPitch = kPlace == RowPlace::kPadded ? AttentionPitch(D) : D;
  static_assert(kPlace == RowPlace::kPadded || D % 64 == 0, "8 times 16 bytes are exchanged");

  // Where in its row column `column` begins, which is a multiple of 8.
  __device__ __forceinline__ static int At(int row, int column) {
    return kPlace == RowPlace::kPadded ? column : column ^ row % 8 * 8;
  }
};

// Starts to copy rows first … first + kRows - 1 of a head, zeros from `length` on. A thread keeps its column.
template <int D, int kRows, int kThreads, RowPlace kPlace = RowPlace::kPadded>
__device__ __forceinline__ void LoadTile(const bf16* head, int64_t stride, int first, int length, bf16* tile) {
  using Layout = RowLayout<D, kPlace>;
  constexpr int kVectors = D / 8, kAtOnce = kThreads / kVectors;
  static_assert(kPlace == RowPlace::kPadded || kAtOnce % 8 == 0, "a thread keeps its place in a row");
  const int column = threadIdx.x % kVectors * 8;
  int row = threadIdx.x / kVectors;
  if (kThreads % kVectors != 0 && row >= kAtOnce) return;
  const bf16* from = head + (first + row) * stride + column;
  bf16* to = tile + row * Layout::kPitch + Layout::At(row, column);
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
    to += kAtOnce * Layout::kPitch;
  }
}

template <int D, int kRows, int kThreads, RowPlace kPlace = RowPlace::kPadded>
__device__ __forceinline__ void LoadTile(const StreamHead<bf16>& rows, int first, int length, bf16* tile) {
  LoadTile<D, kRows, kThreads, kPlace>(rows.head, rows.stride, first, length, tile);
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

// The first of a warp's rows.
template <int kGroups, int kTiles>
__device__ __forceinline__ int OwnRow() {
  return threadIdx.x / 32 / kGroups * 16 * kTiles;
}

// 16 rows of a tile, from a warp's first column on, as the left operand of one mma: its columns part * 16 … + 15. Their
// first row is a multiple of 16.
template <int D, int kGroups, RowPlace kPlace>
__device__ __forceinline__ void LeftFragment(const bf16* rows, int part, uint32_t* a) {
  using Layout = RowLayout<D, kPlace>;
  static_assert(kPlace == RowPlace::kPadded || kGroups == 1, "columns are counted from the row's first one");
  const int row = threadIdx.x % 16, half = threadIdx.x % 32 / 16;
  LoadMatrixX4(a, rows + row * Layout::kPitch + Layout::At(row, Columns<D, kGroups>::At(part * 16) + half * 8));
}

// The left operands of a warp: its columns of kTiles times 16 rows, in registers or in shared memory.
template <int D, int kGroups, int kTiles, RowPlace kPlace>
struct LeftRows {
  const bf16* rows;

  __device__ __forceinline__ void Set(const bf16* from) { rows = from; }
  __device__ __forceinline__ void Get(int tile, int part, uint32_t* to) const {
    LeftFragment<D, kGroups, kPlace>(rows + tile * 16 * RowLayout<D, kPlace>::kPitch, part, to);
  }
};

template <int D, int kGroups, int kTiles>
struct LeftRows<D, kGroups, kTiles, RowPlace::kRegisters> {
  static constexpr int kParts = Columns<D, kGroups>::kCount / 16;
  uint32_t a[kTiles][kParts][4];

  __device__ __forceinline__ void Set(const bf16* rows) {
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
      for (int part = 0; part < kParts; part++)
        LeftFragment<D, kGroups, RowPlace::kPadded>(rows + tile * 16 * AttentionPitch(D), part, a[tile][part]);
  }
  __device__ __forceinline__ void Get(int tile, int part, uint32_t* to) const {
#pragma unroll
    for (int i = 0; i < 4; i++) to[i] = a[tile][part][i];
  }
};

// Sums [16 kTiles, 8 kCount] of a warp: [n][i] is row lane / 4 + 8 (i / 2), column 8 n + lane % 4 * 2 + i % 2.
template <int kCount, int kTiles = 1>
struct Sums {
  static constexpr int kHalves = 2 * kTiles;  // 8 rows each
  static constexpr int kOfColumn = 4 * kTiles;
  float at[kCount][kOfColumn];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int n = 0; n < kCount; n++)
#pragma unroll
      for (int i = 0; i < kOfColumn; i++) at[n][i] = 0;
  }
};

// result [16 kTiles, kRows] = left [16 kTiles, D] rightᵀ, right [kRows, D] in shared memory: the warp's part of the sum
// over D.
template <int D, int kRows, int kGroups, int kTiles, RowPlace kPlace>
__device__ __forceinline__ void MultiplyTransposed(const LeftRows<D, kGroups, kTiles, kPlace>& left, const bf16* right,
                                                   Sums<kRows / 8, kTiles>& result) {
  using Own = Columns<D, kGroups>;
  const int lane = threadIdx.x % 32;
  const bf16* own = right + (lane / 16 * 8 + lane % 8) * AttentionPitch(D) + Own::First() + lane / 8 % 2 * 8;
  result.Clear();
#pragma unroll
  for (int part = 0; part < Own::kCount / 16; part++) {
    uint32_t a[kTiles][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++) left.Get(tile, part, a[tile]);
#pragma unroll
    for (int n = 0; n < kRows / 8; n += 2) {
      uint32_t b[4];
      LoadMatrixX4(b, own + n * 8 * AttentionPitch(D) + Own::At(part * 16));
#pragma unroll
      for (int tile = 0; tile < kTiles; tile++) {
        Mma(result.at[n] + 4 * tile, a[tile], b);
        Mma(result.at[n + 1] + 4 * tile, a[tile], b + 2);
      }
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

// result [16 kTiles, own columns] += a [16 kTiles, 16] right: 16 rows in shared memory, from the lane's own on.
template <int D, int kGroups, int kTiles>
__device__ __forceinline__ void AddPart(const uint32_t (&a)[kTiles][4], const bf16* right,
                                        Sums<D / kGroups / 8, kTiles>& result) {
  using Own = Columns<D, kGroups>;
#pragma unroll
  for (int n = 0; n < Own::kCount / 8; n += 2) {
    uint32_t b[4];
    LoadMatrixX4Transposed(b, right + Own::At(n * 8));
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++) {
      Mma(result.at[n] + 4 * tile, a[tile], b);
      Mma(result.at[n + 1] + 4 * tile, a[tile], b + 2);
    }
  }
}

// result [16 kTiles, own columns] += left [16 kTiles, kRows] right, right [kRows, D] in shared memory. The left one is
// rounded to bfloat16.
template <int D, int kRows, int kGroups, int kTiles>
__device__ __forceinline__ void AddProduct(const Sums<kRows / 8, kTiles>& left, const bf16* right,
                                           Sums<D / kGroups / 8, kTiles>& result) {
  const int lane = threadIdx.x % 32;
  const bf16* own = right + lane % 16 * AttentionPitch(D) + Columns<D, kGroups>::First() + lane / 16 * 8;
#pragma unroll
  for (int part = 0; part < kRows / 16; part++) {
    uint32_t a[kTiles][4];
#pragma unroll
    for (int i = 0; i < 4 * kTiles; i++) {
      const float* pair = left.at[2 * part + i % 4 / 2] + i / 4 * 4 + i % 2 * 2;
      a[i / 4][i % 4] = PackBFloat16(pair[0], pair[1]);
    }
    AddPart<D, kGroups, kTiles>(a, own + part * 16 * AttentionPitch(D), result);
  }
}

// Products → scores as softmax takes them, in units of log2. Whether there is a cap is asked once, not for each number.
template <int kCount, int kTiles>
__device__ __forceinline__ void ScaleScores(Sums<kCount, kTiles>& scores, const AttentionShape& shape) {
  if (shape.softcap != 0) {
#pragma unroll
    for (int n = 0; n < kCount; n++)
#pragma unroll
      for (int i = 0; i < 4 * kTiles; i++) scores.at[n][i] = PartOfCap(scores.at[n][i], shape);
  }
  const float unit = kLog2E * (shape.softcap != 0 ? shape.softcap : shape.scale);
#pragma unroll
  for (int n = 0; n < kCount; n++)
#pragma unroll
    for (int i = 0; i < 4 * kTiles; i++) scores.at[n][i] *= unit;
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
  constexpr int kGroups = kBlock.column_groups(), kTiles = kBlock.tiles_of_warp, kHalves = 2 * kTiles;
  constexpr int kTileSize = kKeys * AttentionPitch(D);
  constexpr RowPlace kLoadedTo = kBlock.place == RowPlace::kExchanged ? kBlock.place : RowPlace::kPadded;
  using Own = Columns<D, kGroups>;
  DYNAMIC_SHARED(memory);
  bf16* key_tile = reinterpret_cast<bf16*>(memory);
  bf16* value_tile = key_tile + kTileSize;
  // Queries in registers pass through the memory of the first keys and values.
  bf16* query_tile = kBlock.in_registers() ? key_tile : value_tile + kTileSize;
  const Exchange<kGroups, kKeys / 8> exchange{reinterpret_cast<float*>(value_tile + kTileSize)};
  static_assert(kGroups == 1 || kBlock.in_registers(), "the exchange lies where the queries would");
  static_assert(kGroups == 1 || kTiles == 1, "parts of 16 rows are exchanged");
  static_assert(!kBlock.in_registers() || kQueries <= 2 * kKeys, "the queries pass through the tiles");

  // The last tiles of a row take longest, so they come first.
  const auto tile = rows.template FindTile<kQueries>(gridDim.x - 1 - blockIdx.x, shape);
  const int64_t start = tile.start;
  const int first = tile.first, length = tile.length;
  if (first >= length) return;
  const int head = blockIdx.y, key_head = head / (shape.heads / shape.key_value_heads);
  const auto queries = rows.Queries(tile, head, shape);
  const auto keys = rows.Keys(tile, key_head, shape), row_values = rows.Values(tile, key_head, shape);
  const int own_row = OwnRow<kGroups, kTiles>(), lane_row = threadIdx.x % 32 / 4, lane_column = threadIdx.x % 4 * 2;

  LoadTile<D, kQueries, kThreads, kLoadedTo>(queries, first, length, query_tile);
  WaitForAllCopies();
  __syncthreads();
  LeftRows<D, kGroups, kTiles, kBlock.place> query;
  query.Set(query_tile + own_row * RowLayout<D, kLoadedTo>::kPitch + Own::First());
  if (kBlock.in_registers()) __syncthreads();

  Sums<Own::kCount / 8, kTiles> result;
  result.Clear();
  const float sink = SinkOf(sinks, head);
  // One of the lanes that have a row.
  const float of_sink = sink > -INFINITY && lane_column == 0 ? 1 : 0;
  float greatest[kHalves], sum[kHalves];
#pragma unroll
  for (int half = 0; half < kHalves; half++) {
    greatest[half] = sink;
    sum[half] = of_sink;
  }
  const int end = min(first + kQueries, length);
  int key = FirstSeen(first, shape) / kKeys * kKeys;
  LoadTile<D, kKeys, kThreads>(keys, key, length, key_tile);
  for (; key < end; key += kKeys) {
    WaitForAllCopies();
    __syncthreads();  // the keys are there, and all warps are done with the values
    LoadTile<D, kKeys, kThreads>(row_values, key, length, value_tile);
    Sums<kKeys / 8, kTiles> scores;
    MultiplyTransposed<D, kKeys>(query, key_tile, scores);
    if constexpr (kGroups > 1) exchange.Write(scores);
    WaitForAllCopies();
    __syncthreads();  // the values are there, and all warps are done with the keys
    if (key + kKeys < end) LoadTile<D, kKeys, kThreads>(keys, key + kKeys, length, key_tile);
    if constexpr (kGroups > 1) exchange.Add(scores);

    ScaleScores(scores, shape);
    if (!AllSee(first, kQueries, key, kKeys, length, shape)) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
        for (int i = 0; i < 4 * kTiles; i++) {
          const int at = first + own_row + lane_row + 8 * (i / 2);
          if (!Sees(at, key + n * 8 + lane_column + i % 2, length, shape)) scores.at[n][i] = -INFINITY;
        }
    }
#pragma unroll
    for (int half = 0; half < kHalves; half++) {
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
  for (int half = 0; half < kHalves; half++) {
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

}  // namespace attention
