// Products of a few rows with weights in 4 and 8 bits, on tensor cores: result [rows, weights' rows] = a weightsᵀ. Each
// code is read once and decoded in a register, where decoding to memory would write and read it again as bfloat16. The
// order of a sum depends on the depth alone, so a row's result does not depend on the other rows.
//
// A block has 16 rows of the weights as the left operands of its products, and as right ones 8 rows of `a` for each
// tile. Its warps have every eighth part of 64 numbers of the depth, and their sums are added at the end. A lane has 16
// numbers of a part that lie one behind the other, 4 of each product: the sum over them does not depend on which
// numbers are called first, as long as both operands have the same.
#include "ops/quantized/packed_weights.cuh"

namespace {

constexpr int kWarps = kFewRowsThreads / 32;
constexpr int kPart = kFewRowsDepth;
// Numbers of a part that a lane has, and the products that they are for.
constexpr int kOwn = 16;
constexpr int kProducts = kOwn / 4;
constexpr int kCodes = 16;
// Rows of `a` that a product has.
constexpr int kTile = 8;

// A lane's two rows of weights are this far apart.
constexpr int kHalf = 8;

__device__ __forceinline__ int Lane() { return threadIdx.x % 32; }

// Where a lane's numbers of a part begin.
__device__ __forceinline__ int OwnColumn() { return Lane() % 4 * kOwn; }

// A row of weights in 4 bits. Codes are looked up in shared memory, where each lane has a bank of its own.
struct QuantizedRow {
  using Codes = Pack<uint8_t, kOwn / 2>;

  __device__ __forceinline__ Codes Load(int64_t column) const {
    return LoadPack<kOwn / 2>(weights.codes + (first + column) / 2);
  }

  // Pairs of numbers as bfloat16.
  __device__ __forceinline__ void Decode(const Codes& codes, int64_t column, uint32_t* pairs) const {
    const float scale = ScaleOf(weights, box, module, (first + column) / kQuantizedNumbers);
#pragma unroll
    for (int i = 0; i < kOwn / 2; i++) {
      const int byte = codes.at[i];
      pairs[i] = PackBFloat16(values[(byte >> 4) * 32] * scale, values[(byte & 15) * 32] * scale);
    }
  }

  const Quantized& weights;
  const QuantizedBox& box;
  const float* module;
  int64_t first;  // number of the matrix
  const float* values;
};

// A row of weights in 8 bits.
struct ScaledRow {
  using Codes = Pack<uint8_t, kOwn>;

  __device__ __forceinline__ Codes Load(int64_t column) const {
    return LoadPack<kOwn>(weights.codes + row * box.columns + column);
  }

  __device__ __forceinline__ void Decode(const Codes& codes, int64_t column, uint32_t* pairs) const {
    const float scale = weights.Scale(box, row, column);
#pragma unroll
    for (int i = 0; i < kOwn / 2; i++)
      pairs[i] = PackBFloat16(E4M3ToFloat(codes.at[2 * i]) * scale, E4M3ToFloat(codes.at[2 * i + 1]) * scale);
  }

  const Scaled& weights;
  const ScaledBox& box;
  int64_t row;
};

// The left matrix [rows, depth].
struct FewRows {
  // A lane's own numbers of its row of a tile, as pairs; zeros beyond the rows.
  __device__ __forceinline__ void Load(int tile, int64_t column, uint32_t* pairs) const {
    const int row = tile * kTile + Lane() / 4;
#pragma unroll
    for (int i = 0; i < kOwn / 8; i++) {
      Vector<uint32_t> four{};
      if (row < rows) four = LoadVector(reinterpret_cast<const uint32_t*>(a + row * depth + column + 8 * i));
#pragma unroll
      for (int k = 0; k < 4; k++) pairs[4 * i + k] = four.values[k];
    }
  }

  const bf16* a;
  int rows;
  int64_t depth;
};

// Adds up a warp's parts of the depth: sums [tile][i] are of the weights' row lane / 4 + 8 (i / 2) and row lane % 4 * 2
// + i % 2 of the tile.
template <int kTiles, typename Row>
__device__ __forceinline__ void MultiplyParts(const FewRows& left, const Row (&rows)[2], float (&sums)[kTiles][4]) {
#pragma unroll
  for (int tile = 0; tile < kTiles; tile++)
#pragma unroll
    for (int i = 0; i < 4; i++) sums[tile][i] = 0;
  int64_t column = threadIdx.x / 32 * kPart + OwnColumn();
  if (column >= left.depth) return;
  typename Row::Codes codes[2] = {rows[0].Load(column), rows[1].Load(column)};
#pragma unroll 1
  for (; column < left.depth; column += kWarps * kPart) {
    const typename Row::Codes own[2] = {codes[0], codes[1]};
    if (column + kWarps * kPart < left.depth) {
      // While these are multiplied, the next ones are on their way.
      codes[0] = rows[0].Load(column + kWarps * kPart);
      codes[1] = rows[1].Load(column + kWarps * kPart);
    }
    uint32_t weights[2][kOwn / 2];
    rows[0].Decode(own[0], column, weights[0]);
    rows[1].Decode(own[1], column, weights[1]);
#pragma unroll
    for (int tile = 0; tile < kTiles; tile++) {
      uint32_t a[kOwn / 2];
      left.Load(tile, column, a);
#pragma unroll
      for (int i = 0; i < kProducts; i++) {
        const uint32_t fragment[4] = {weights[0][2 * i], weights[1][2 * i], weights[0][2 * i + 1],
                                      weights[1][2 * i + 1]};
        Mma(sums[tile], fragment, a + 2 * i);
      }
    }
  }
}

// Adds up what the warps have, always in the same order, and writes it.
template <int kTiles>
__device__ __forceinline__ void AddWarps(const float (&sums)[kTiles][4], int rows, int64_t weight_rows, bf16* result) {
  SHARED(Vector<float>, parts, [kWarps][kTiles][32]);
#pragma unroll
  for (int tile = 0; tile < kTiles; tile++)
    parts[threadIdx.x / 32][tile][Lane()] = {sums[tile][0], sums[tile][1], sums[tile][2], sums[tile][3]};
  __syncthreads();
  const int own = threadIdx.x % kFewRowsTile, row = threadIdx.x / kFewRowsTile;
  const int64_t weight_row = static_cast<int64_t>(blockIdx.x) * kFewRowsTile + own;
  if (row >= rows || weight_row >= weight_rows) return;
  const int lane = own % kHalf * 4 + row % kTile / 2, i = own / kHalf * 2 + row % 2;
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; warp++) sum += parts[warp][row / kTile][lane].values[i];
  Store(sum, result + row * weight_rows + weight_row);
}

// A lane's row of the weights; those beyond the last one are not written.
__device__ __forceinline__ int64_t WeightRow(int half, int64_t weight_rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kFewRowsTile + Lane() / 4 + half * kHalf;
  return min(row, weight_rows - 1);
}

template <int kTiles>
__device__ __forceinline__ void MultiplyQuantized(const Quantized& weights, const QuantizedBox& box,
                                                  const FewRows& left, bf16* result) {
  // What each lane's codes stand for.
  SHARED(float, values, [2][kCodes][32]);
  for (int i = threadIdx.x; i < 2 * kCodes * 32; i += kFewRowsThreads) {
    const int half = i / (kCodes * 32), code = i / 32 % kCodes;
    values[half][code][Lane()] = ModuleOf(weights, box, WeightRow(half, box.rows))[kModuleValues + code];
  }
  __syncthreads();
  const auto row = [&](int half) -> QuantizedRow {
    const int64_t index = WeightRow(half, box.rows);
    return {weights, box, ModuleOf(weights, box, index), index * box.columns, &values[half][0][Lane()]};
  };
  const QuantizedRow rows[2] = {row(0), row(1)};
  float sums[kTiles][4];
  MultiplyParts<kTiles>(left, rows, sums);
  AddWarps<kTiles>(sums, left.rows, box.rows, result);
}

template <int kTiles>
__device__ __forceinline__ void MultiplyScaled(const Scaled& weights, const ScaledBox& box, const FewRows& left,
                                               bf16* result) {
  const ScaledRow rows[2] = {{weights, box, WeightRow(0, box.rows)}, {weights, box, WeightRow(1, box.rows)}};
  float sums[kTiles][4];
  MultiplyParts<kTiles>(left, rows, sums);
  AddWarps<kTiles>(sums, left.rows, box.rows, result);
}

}  // namespace

#define FEW_ROWS_KERNELS(kTiles, Suffix)                                                                            \
  extern "C" __global__ void __launch_bounds__(kFewRowsThreads) QuantizedFewRows##Suffix(                           \
      const bf16* a, const uint8_t* codes, const uint8_t* scales, const float* nested_scales, const float* modules, \
      const __grid_constant__ QuantizedBox box, int rows, bf16* result) {                                           \
    MultiplyQuantized<kTiles>({codes, scales, nested_scales, modules}, box, {a, rows, box.columns}, result);        \
  }                                                                                                                 \
  EXPORT_KERNEL(QuantizedFewRows##Suffix)                                                                           \
  extern "C" __global__ void __launch_bounds__(kFewRowsThreads)                                                     \
      ScaledFewRows##Suffix(const bf16* a, const uint8_t* codes, const float* scales, const int32_t* bands,         \
                            const __grid_constant__ ScaledBox box, int rows, bf16* result) {                        \
    MultiplyScaled<kTiles>({codes, scales, bands}, box, {a, rows, box.columns}, result);                            \
  }                                                                                                                 \
  EXPORT_KERNEL(ScaledFewRows##Suffix)

FEW_ROWS_KERNELS(1, 8)
FEW_ROWS_KERNELS(2, 16)
