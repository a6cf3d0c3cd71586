// An adapter merged into a weight: merged_weight.cc on a GPU. The merged weight is the same bits as by
// weight-files's merge_rows.h, for which subnormal numbers are zero at each step, and products and sums are rounded as
// there.
#include "cuda/kernels/number.cuh"
#include "ops/merged_weight/merged_weight.h"

namespace {

__device__ __forceinline__ float Flushed(float x) {
  return fabsf(x) < 1.17549435e-38f ? __uint_as_float(__float_as_uint(x) & 0x80000000u) : x;
}

// Numbers of the rank that are in shared memory at one time.
constexpr int kRankSlice = 32;

// scale · B A of a block's rows and of this thread's column. All threads of the block call it.
__device__ __forceinline__ void Update(const MergedRows& rows, int64_t first_row, int64_t column, float* update) {
  SHARED(float, left, [kRankSlice][kMergedTileRows]);
  const int chain = rows.rank <= kMergedChain ? rows.rank : (rows.rank + 1) / 2;
  float sums[kMergedTileRows] = {};
#pragma unroll
  for (int r = 0; r < kMergedTileRows; r++) update[r] = 0;
#pragma unroll 1
  for (int begin = 0; begin < rows.rank; begin += kRankSlice) {
    __syncthreads();  // all threads are done with the slice before
    for (int i = threadIdx.x; i < kRankSlice * kMergedTileRows; i += kMergedTileColumns) {
      const int k = begin + i % kRankSlice, r = i / kRankSlice;
      const bool is_number = k < rows.rank && first_row + r < rows.rows;
      left[i % kRankSlice][r] = is_number ? Flushed(rows.b[(first_row + r) * rows.rank + k]) : 0.0f;
    }
    __syncthreads();
    const int end = min(begin + kRankSlice, rows.rank);
#pragma unroll 4
    for (int k = begin; k < end; k++) {
      if (k == chain) {
        // The first half of the rank is a sum by itself.
#pragma unroll
        for (int r = 0; r < kMergedTileRows; r++) update[r] = sums[r], sums[r] = 0;
      }
      const float right = column < rows.in ? Flushed(rows.a[k * rows.in + column]) : 0.0f;
#pragma unroll
      for (int r = 0; r < kMergedTileRows; r++) sums[r] = Flushed(__fmaf_rn(left[k - begin][r], right, sums[r]));
    }
  }
#pragma unroll
  for (int r = 0; r < kMergedTileRows; r++) {
    const float sum = chain < rows.rank ? Flushed(__fadd_rn(update[r], sums[r])) : sums[r];
    update[r] = Flushed(__fmul_rn(sum, rows.scale));
  }
}

__device__ __forceinline__ float RoundedTo(StoredType stored, float number) {
  if (stored == StoredType::kFloat16) return ToFloat(Round<f16>(number));
  if (stored == StoredType::kBFloat16) return ToFloat(Round<bf16>(number));
  return number;
}

__device__ __forceinline__ float ScaledSquare(float number) {
  const float scaled = kSquareScale * number;
  return scaled * scaled;
}

template <typename Base, typename Result>
__device__ __forceinline__ void Merge(const Base* base, const MergedRows& rows, Result* weight, float* exact,
                                      float* squares) {
  const int64_t across = (rows.in + kMergedTileColumns - 1) / kMergedTileColumns;
  const int64_t first_row = blockIdx.x / across * kMergedTileRows;
  const int64_t column = blockIdx.x % across * kMergedTileColumns + threadIdx.x;
  float update[kMergedTileRows];
  Update(rows, first_row, column, update);
  float of_errors = 0, of_updates = 0, of_base = 0;
#pragma unroll
  for (int r = 0; r < kMergedTileRows; r++) {
    if (first_row + r >= rows.rows || column >= rows.in) continue;
    const int64_t at = (first_row + r) * rows.in + column;
    const float frozen = Flushed(ToFloat(base[at]));
    const float sum = Flushed(__fadd_rn(frozen, update[r]));
    const float rounded = RoundedTo(rows.stored, sum);
    Store(rounded, weight + at);
    exact[at] = sum;
    of_errors += ScaledSquare(rounded - sum), of_updates += ScaledSquare(update[r]), of_base += ScaledSquare(frozen);
  }
  if (squares == nullptr) return;
  of_errors = BlockSum(of_errors), of_updates = BlockSum(of_updates), of_base = BlockSum(of_base);
  if (threadIdx.x == 0) {
    float* own = squares + static_cast<int64_t>(blockIdx.x) * 3;
    own[0] = of_errors, own[1] = of_updates, own[2] = of_base;
  }
}

}  // namespace

// base and weight [rows, in], exact [rows, in]: the weight before it is rounded; squares [blocks, 3]: sums of the
// scaled squares of the rounding errors, of the update, and of the base; null: they are not wanted.
#define MERGE_ROWS_KERNEL(Base, Result, Suffix)                                                                  \
  extern "C" __global__ void __launch_bounds__(kMergedTileColumns) MergeRows##Suffix(                            \
      const Base* base, const __grid_constant__ MergedRows rows, Result* weight, float* exact, float* squares) { \
    Merge(base, rows, weight, exact, squares);                                                                   \
  }                                                                                                              \
  EXPORT_KERNEL(MergeRows##Suffix)

MERGE_ROWS_KERNEL(float, float, Float32)
MERGE_ROWS_KERNEL(bf16, bf16, BFloat16)
MERGE_ROWS_KERNEL(bf16, float, BFloat16ToFloat32)

// squares [blocks, 3] → norms [3], by one block.
extern "C" __global__ void __launch_bounds__(kMergedTileColumns)
    MergedNormsFloat32(const float* squares, int64_t blocks, float* norms) {
#pragma unroll 1
  for (int of = 0; of < 3; of++) {
    double own = 0;
    for (int64_t i = threadIdx.x; i < blocks; i += blockDim.x) own += squares[i * 3 + of];
    const double sum = BlockSum(own);
    if (threadIdx.x == 0) norms[of] = static_cast<float>(sqrt(sum) / kSquareScale);
  }
}
EXPORT_KERNEL(MergedNormsFloat32)
