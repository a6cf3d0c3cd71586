// Many products in one launch: those of experts with their rows, and of adapters with theirs. Each number of a result
// is summed in an order that follows from the sizes of its own product, so that neither its bits nor its NaN depend on
// the other products of the launch, or on the other rows of its own.
#include "cuda/kernels/float_product.cuh"
#include "ops/grouped_product/grouped_product_shape.h"

namespace {

// One of a group's two matrices. Row-major along the depth, [outer, depth], or depth-major, [depth, outer].
template <typename Number>
struct Operand {
  const Number* at;
  int64_t stride;
  int outer;
  int depth;
  // Whether its vectors are aligned and whole.
  bool has_vectors;
};

template <bool kDepthMajor, typename Number>
__device__ __forceinline__ Operand<Number> OperandOf(const void* at, int stride, int outer, int depth, int end) {
  constexpr int kSize = Vector<Number>::kSize;
  const bool has_vectors = IsVectorAligned(at) && stride % kSize == 0 && (kDepthMajor ? outer : depth) % kSize == 0;
  return {static_cast<const Number*>(at), stride, outer, end, has_vectors};
}

// A block's part of a group.
template <typename Number>
struct Part {
  Operand<Number> left;
  Operand<Number> right;
  int row;
  int column;
  // Of the depth.
  int begin;
  int end;
};

template <typename Number, bool kLeftDepthMajor, bool kRightDepthMajor>
__device__ __forceinline__ Part<Number> PartOf(const ProductGroup& group, const ProductTile& tile) {
  const int index = blockIdx.x - group.first_block, row_tiles = (group.rows + tile.rows - 1) / tile.rows;
  const int begin = min(static_cast<int>(blockIdx.y) * group.piece_depth, group.depth);
  const int end = min(begin + group.piece_depth, group.depth);
  return {OperandOf<kLeftDepthMajor, Number>(group.left, group.left_stride, group.rows, group.depth, end),
          OperandOf<kRightDepthMajor, Number>(group.right, group.right_stride, group.columns, group.depth, end),
          index % row_tiles * tile.rows,
          index / row_tiles * tile.columns,
          begin,
          end};
}

template <typename Result>
__device__ __forceinline__ Result* ResultOf(const ProductGroup& group) {
  return static_cast<Result*>(group.result) + blockIdx.y * group.piece_stride;
}

// A slice of an operand in shared memory.
template <int kOuter, bool kDepthMajor>
struct SharedTile {
  static constexpr int kRows = kDepthMajor ? kProductSlice : kOuter;  // of memory
  static constexpr int kColumns = kDepthMajor ? kOuter : kProductSlice;
  static constexpr int kPitch = kColumns + 8;
  static constexpr int kSize = kRows * kPitch;

  // Starts to copy the slice that begins at `outer` and `depth`; zeros beyond the operand.
  template <int kThreads>
  __device__ __forceinline__ static void Load(const Operand<bf16>& from, int outer, int depth, bf16* tile) {
    const int first_row = kDepthMajor ? depth : outer, first_column = kDepthMajor ? outer : depth;
    const int rows = (kDepthMajor ? from.depth : from.outer) - first_row;
    const int columns = (kDepthMajor ? from.outer : from.depth) - first_column;
    const bf16* own = from.at + first_row * from.stride + first_column;
    constexpr int kVectors = kColumns / 8;
#pragma unroll
    for (int i = threadIdx.x; i < kRows * kVectors; i += kThreads) {
      const int row = i / kVectors, column = i % kVectors * 8;
      const bf16* at = own + row * from.stride + column;
      bf16* to = tile + row * kPitch + column;
      if (row < rows && column < columns && from.has_vectors) {
        CopyAsync16(to, at);
        continue;
      }
#pragma unroll 1
      for (int k = 0; k < 8; k++) to[k] = row < rows && column + k < columns ? at[k] : bf16{};
    }
  }

  // 16 of the outer and 16 of the depth: registers 0 and 2 are of the first eight outer ones, 1 and 3 of the others; 2
  // and 3 of the second half of the depth.
  __device__ __forceinline__ static void Fragment(const bf16* tile, int outer, int depth, uint32_t* registers) {
    const int lane = threadIdx.x % 32;
    if (kDepthMajor) {
      LoadMatrixX4Transposed(registers, tile + (depth + lane / 16 * 8 + lane % 8) * kPitch + outer + lane / 8 % 2 * 8);
    } else {
      LoadMatrixX4(registers, tile + (outer + lane % 16) * kPitch + depth + lane / 16 * 8);
    }
  }
};

// Copies rows of a slice of the left operand that is in shared memory.
template <typename Tile, int kThreads>
__device__ __forceinline__ void CopySlice(const ProductGroup& group, const Operand<bf16>& left, int first_row,
                                          int depth, const bf16* tile) {
  bf16* copy = static_cast<bf16*>(group.copy);
  const bool has_vectors = IsVectorAligned(copy) && group.copy_stride % 8 == 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < Tile::kRows * (kProductSlice / 8); i += kThreads) {
    const int row = i / (kProductSlice / 8), column = i % (kProductSlice / 8) * 8;
    const int count = left.depth - depth - column;
    if (first_row + row >= left.outer || count <= 0) continue;
    const bf16* from = tile + row * Tile::kPitch + column;
    bf16* to = copy + static_cast<int64_t>(first_row + row) * group.copy_stride + depth + column;
    if (has_vectors && count >= 8) {
      StoreVector(LoadVector(from), to);
      continue;
    }
#pragma unroll 1
    for (int k = 0; k < 8 && k < count; k++) to[k] = from[k];
  }
}

// A warp's numbers of a result.
constexpr int kWarpRows = 32, kWarpColumns = 64;

// What is added to a result, null where nothing is.
template <typename Result>
__device__ __forceinline__ const Result* AddendOf(const ProductGroup& group, int64_t row, int column) {
  const Result* addend = static_cast<const Result*>(group.addend);
  return addend == nullptr ? nullptr : addend + row * group.addend_stride + column;
}

// Eight numbers of a row, of which the first `count` are of the result, and what is added to them.
template <typename Result>
__device__ __forceinline__ void StoreNumbers(const float* numbers, int count, const Result* addend, bool whole,
                                             Result* to) {
  if (whole) {
    constexpr int kSize = Vector<Result>::kSize;
#pragma unroll
    for (int first = 0; first < 8; first += kSize) {
      Vector<Result> vector{};
      if (addend != nullptr) vector = LoadVector(addend + first);
#pragma unroll
      for (int i = 0; i < kSize; i++)
        Store(addend != nullptr ? ToFloat(vector.values[i]) + numbers[first + i] : numbers[first + i],
              &vector.values[i]);
      StoreVector(vector, to + first);
    }
    return;
  }
#pragma unroll 1
  for (int i = 0; i < 8 && i < count; i++)
    Store(addend != nullptr ? ToFloat(addend[i]) + numbers[i] : numbers[i], to + i);
}

// On tensor cores.
template <bool kLeftDepthMajor, bool kRightDepthMajor, typename Result>
__device__ __forceinline__ void MultiplyBFloat16(const ProductGroups& groups) {
  constexpr ProductTile kTile = BFloat16ProductTile(sizeof(Result) == 4);
  constexpr int kThreads = kTile.threads, kStages = kProductStages;
  using LeftTile = SharedTile<kTile.rows, kLeftDepthMajor>;
  using RightTile = SharedTile<kTile.columns, kRightDepthMajor>;
  constexpr int kStage = LeftTile::kSize + RightTile::kSize;
  static_assert(kStages * kStage * 2 <= kTile.shared_bytes, "the slices are in shared memory");
  DYNAMIC_SHARED(memory);
  bf16* stages = reinterpret_cast<bf16*>(memory);

  const ProductGroup& group = EntryOf(groups, blockIdx.x);
  if (blockIdx.y >= group.pieces) return;
  const auto part = PartOf<bf16, kLeftDepthMajor, kRightDepthMajor>(group, kTile);
  const int slices = (part.end - part.begin + kProductSlice - 1) / kProductSlice;
  const auto load = [&](int slice) {
    if (slice < slices) {
      bf16* stage = stages + slice % kStages * kStage;
      const int depth = part.begin + slice * kProductSlice;
      LeftTile::template Load<kThreads>(part.left, part.row, depth, stage);
      RightTile::template Load<kThreads>(part.right, part.column, depth, stage + LeftTile::kSize);
    }
    EndCopyGroup();
  };

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp % (kTile.rows / kWarpRows) * kWarpRows;
  const int warp_column = warp / (kTile.rows / kWarpRows) * kWarpColumns;
  // Beyond them there are only zeros.
  const int columns = group.columns - part.column - warp_column;
  float sums[kWarpRows / 16][kWarpColumns / 8][4];
#pragma unroll
  for (int m = 0; m < kWarpRows / 16; m++)
#pragma unroll
    for (int n = 0; n < kWarpColumns / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) sums[m][n][i] = 0;

#pragma unroll 1
  for (int slice = 0; slice < kStages - 1; slice++) load(slice);
#pragma unroll 1
  for (int slice = 0; slice < slices; slice++) {
    WaitForCopies<kStages - 2>();
    __syncthreads();  // this slice is there, and all warps are done with the one before
    load(slice + kStages - 1);
    const bf16* left = stages + slice % kStages * kStage;
    const bf16* right = left + LeftTile::kSize;
    if (!kLeftDepthMajor && sizeof(Result) == 4 && group.copy != nullptr && part.column == 0)
      CopySlice<LeftTile, kThreads>(group, part.left, part.row, part.begin + slice * kProductSlice, left);
#pragma unroll
    for (int depth = 0; depth < kProductSlice; depth += 16) {
      uint32_t a[kWarpRows / 16][4];
#pragma unroll
      for (int m = 0; m < kWarpRows / 16; m++) LeftTile::Fragment(left, warp_row + m * 16, depth, a[m]);
#pragma unroll
      for (int n = 0; n < kWarpColumns / 8; n += 2) {
        if (n * 8 >= columns) break;
        uint32_t both[4];
        RightTile::Fragment(right, warp_column + n * 8, depth, both);
        const uint32_t b[2][2] = {{both[0], both[2]}, {both[1], both[3]}};
#pragma unroll
        for (int m = 0; m < kWarpRows / 16; m++) {
          Mma(sums[m][n], a[m], b[0]);
          Mma(sums[m][n + 1], a[m], b[1]);
        }
      }
    }
  }

  // Through memory of the warp's own, so that rows are written as vectors.
  constexpr int kPitch = kWarpColumns + 8;
  static_assert(kThreads / 32 * 16 * kPitch * 4 <= kTile.shared_bytes, "the sums are in shared memory");
  float* own = reinterpret_cast<float*>(memory) + warp * 16 * kPitch;
  WaitForAllCopies();
  __syncthreads();  // all warps are done with the slices
  Result* result = ResultOf<Result>(group) + part.column + warp_column;
  constexpr int kSize = Vector<Result>::kSize;
  const bool has_vectors = IsVectorAligned(result) && group.result_stride % kSize == 0 &&
                           IsVectorAligned(AddendOf<Result>(group, 0, 0)) && group.addend_stride % kSize == 0;
#pragma unroll
  for (int m = 0; m < kWarpRows / 16; m++) {
#pragma unroll
    for (int n = 0; n < kWarpColumns / 8; n++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<float2*>(own + (lane / 4 + half * 8) * kPitch + n * 8 + lane % 4 * 2) = {
            sums[m][n][2 * half], sums[m][n][2 * half + 1]};
    __syncwarp();
    for (int i = lane; i < 16 * kWarpColumns / 8; i += 32) {
      const int row = i / (kWarpColumns / 8), column = i % (kWarpColumns / 8) * 8;
      const int64_t at = part.row + warp_row + m * 16 + row;
      if (at >= group.rows || column >= columns) continue;
      StoreNumbers(own + row * kPitch + column, columns - column,
                   AddendOf<Result>(group, at, part.column + warp_column + column),
                   has_vectors && column + 8 <= columns, result + at * group.result_stride + column);
    }
    __syncwarp();
  }
}

// Rows of an operand for products in float32, zeros beyond it.
template <bool kDepthMajor>
struct FloatRowsOf {
  __device__ __forceinline__ Vector<float> Load(int row, int column) const {
    Vector<float> numbers{};
    const int outer = first + row, depth = begin + column;
    if (outer >= operand.outer) return numbers;
    if (!kDepthMajor && operand.has_vectors) {
      if (depth < operand.depth) numbers = LoadVector(operand.at + outer * operand.stride + depth);
      return numbers;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (depth + i < operand.depth)
        numbers.values[i] = kDepthMajor ? operand.at[(depth + i) * operand.stride + outer]
                                        : operand.at[outer * operand.stride + depth + i];
    return numbers;
  }

  const Operand<float>& operand;
  int first;
  int begin;
};

template <bool kLeftDepthMajor, bool kRightDepthMajor>
__device__ __forceinline__ void MultiplyFloat32(const ProductGroups& groups) {
  using namespace float_product;
  SHARED(FloatSlices, slices);
  const ProductGroup& group = EntryOf(groups, blockIdx.x);
  if (blockIdx.y >= group.pieces) return;
  const auto part = PartOf<float, kLeftDepthMajor, kRightDepthMajor>(group, kFloatProductTile);
  const FloatRowsOf<kLeftDepthMajor> left{part.left, part.row, part.begin};
  const FloatRowsOf<kRightDepthMajor> right{part.right, part.column, part.begin};
  float sums[kOwn][kOwn];
  MultiplyRows(left, right, part.end - part.begin, slices.at, sums);
  float* result = ResultOf<float>(group);
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    const int64_t row = part.row + threadIdx.x / kSide + kSide * i;
    if (row >= group.rows) continue;
#pragma unroll
    for (int j = 0; j < kOwn; j++) {
      const int column = part.column + threadIdx.x % kSide + kSide * j;
      if (column >= group.columns) continue;
      const float* addend = AddendOf<float>(group, row, column);
      result[row * group.result_stride + column] = addend != nullptr ? *addend + sums[i][j] : sums[i][j];
    }
  }
}

// The sum of the pieces of each number, in their order, rounded once.
template <typename Number>
__device__ __forceinline__ void Sum(const float* pieces, int count, int64_t size, Number* result) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += step) {
    float sum = pieces[i];
    for (int piece = 1; piece < count; piece++) sum += pieces[piece * size + i];
    Store(sum, result + i);
  }
}

}  // namespace

// GroupedProduct: left [rows, depth], right [depth, columns]; Transposed: right [columns, depth]; OfRows: left
// [depth, rows]. Those of pieces have a result in float32 for each.
#define GROUPED_PRODUCT(Name, Tile, ...)                                                                          \
  extern "C" __global__ void __launch_bounds__(Tile.threads) Name(const __grid_constant__ ProductGroups groups) { \
    __VA_ARGS__(groups);                                                                                          \
  }                                                                                                               \
  EXPORT_KERNEL(Name)

GROUPED_PRODUCT(GroupedProductFloat32, kFloatProductTile, MultiplyFloat32<false, true>)
GROUPED_PRODUCT(GroupedProductTransposedFloat32, kFloatProductTile, MultiplyFloat32<false, false>)
GROUPED_PRODUCT(GroupedProductOfRowsFloat32, kFloatProductTile, MultiplyFloat32<true, true>)
GROUPED_PRODUCT(GroupedProductBFloat16, BFloat16ProductTile(false), MultiplyBFloat16<false, true, bf16>)
GROUPED_PRODUCT(GroupedProductTransposedBFloat16, BFloat16ProductTile(false), MultiplyBFloat16<false, false, bf16>)
GROUPED_PRODUCT(ProductPiecesBFloat16, BFloat16ProductTile(true), MultiplyBFloat16<false, true, float>)
GROUPED_PRODUCT(ProductPiecesTransposedBFloat16, BFloat16ProductTile(true), MultiplyBFloat16<false, false, float>)
GROUPED_PRODUCT(ProductPiecesOfRowsBFloat16, BFloat16ProductTile(true), MultiplyBFloat16<true, true, float>)

#define SUM_PIECES(Number, Suffix)                                                      \
  extern "C" __global__ void __launch_bounds__(256)                                     \
      SumPieces##Suffix(const float* pieces, int count, int64_t size, Number* result) { \
    Sum(pieces, count, size, result);                                                   \
  }                                                                                     \
  EXPORT_KERNEL(SumPieces##Suffix)

SUM_PIECES(float, Float32)
SUM_PIECES(bf16, BFloat16)
