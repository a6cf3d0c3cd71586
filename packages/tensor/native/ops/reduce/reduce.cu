// Sums and maxima over one axis of [outer, reduced, inner], in float32. A long axis is reduced in pieces of a size that
// the host chooses, and their results again; the order never depends on the card.
#include "cuda/kernels/number.cuh"

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

struct SumOf {
  __device__ __forceinline__ static float Start() { return 0.0f; }
  __device__ __forceinline__ static float Of(float a, float b) { return a + b; }
};

// NaN if one of them is.
struct MaximumOf {
  __device__ __forceinline__ static float Start() { return -INFINITY; }
  __device__ __forceinline__ static float Of(float a, float b) { return a > b || a != a ? a : b; }
};

template <typename Operation>
__device__ __forceinline__ float WarpReduce(float value) {
#pragma unroll
  for (int by = 16; by > 0; by >>= 1) value = Operation::Of(value, __shfl_xor_sync(kAllLanes, value, by));
  return value;
}

// The last axis: x [rows, width] → result [rows, pieces] · scale, a piece being `piece` elements; one warp for each.
template <typename Operation, typename T, typename R, int N>
__device__ __forceinline__ void Rows(const T* __restrict__ x, int64_t rows, int64_t width, int64_t piece, float scale,
                                     R* __restrict__ result) {
  const int64_t pieces = width <= piece ? 1 : (width + piece - 1) / piece;
  const int64_t results = rows * pieces;
  const int lane = threadIdx.x % 32;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; i < results; i += step) {
    const int64_t row = i / pieces;
    const int64_t begin = (i - row * pieces) * piece;
    const int64_t end = begin + piece < width ? begin + piece : width;
    const T* from = x + row * width;
    float total[N];
#pragma unroll
    for (int k = 0; k < N; k++) total[k] = Operation::Start();
    for (int64_t at = begin + lane * N; at < end; at += 32 * N) {
      const Pack<T, N> value = LoadPack<N>(from + at);
#pragma unroll
      for (int k = 0; k < N; k++) total[k] = Operation::Of(total[k], ToFloat(value.at[k]));
    }
#pragma unroll
    for (int half = N / 2; half > 0; half /= 2) {
#pragma unroll
      for (int k = 0; k < half; k++) total[k] = Operation::Of(total[k], total[k + half]);
    }
    const float whole = WarpReduce<Operation>(total[0]);
    if (lane == 0) result[i] = Round<R>(whole * scale);
  }
}

// An axis in the middle: x [outer, reduced, inner] → result [outer, pieces, inner] · scale; one thread for each result.
template <typename Operation, typename T, typename R>
__device__ __forceinline__ void Columns(const T* __restrict__ x, int64_t outer, int64_t reduced, int64_t inner,
                                        int64_t piece, float scale, R* __restrict__ result) {
  const int64_t pieces = reduced <= piece ? 1 : (reduced + piece - 1) / piece;
  const int64_t results = outer * pieces * inner;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < results; i += step) {
    const int64_t line = i / inner;
    const int64_t column = i - line * inner;
    const int64_t group = line / pieces;
    const int64_t begin = (line - group * pieces) * piece;
    const int64_t end = begin + piece < reduced ? begin + piece : reduced;
    const T* from = x + (group * reduced + begin) * inner + column;
    float total = Operation::Start();
#pragma unroll 8
    for (int64_t at = begin; at < end; at++, from += inner) total = Operation::Of(total, ToFloat(*from));
    result[i] = Round<R>(total * scale);
  }
}

// The first of the largest elements of each row; one block for each row. A NaN is never the largest.
template <typename T>
__device__ __forceinline__ void Largest(const T* __restrict__ x, int64_t width, int32_t* __restrict__ result) {
  SHARED(float, values, [kThreads]);
  SHARED(int64_t, places, [kThreads]);
  const T* from = x + blockIdx.x * width;
  float best = -INFINITY;
  int64_t place = 0;
  bool any = false;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const float value = ToFloat(from[i]);
    if (any ? value > best : value == value) {
      best = value;
      place = i;
      any = true;
    }
  }
  values[threadIdx.x] = best;
  places[threadIdx.x] = any ? place : width;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.x) < half) {
      const float other = values[threadIdx.x + half];
      const int64_t other_place = places[threadIdx.x + half];
      const bool larger = other > values[threadIdx.x];
      if (larger || (other == values[threadIdx.x] && other_place < places[threadIdx.x])) {
        values[threadIdx.x] = other;
        places[threadIdx.x] = other_place;
      }
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) result[blockIdx.x] = places[0] < width ? static_cast<int32_t>(places[0]) : 0;
}

}  // namespace

#define REDUCTION(NAME, OPERATION, T, R)                                                                       \
  extern "C" __global__ void __launch_bounds__(kThreads)                                                       \
      NAME##Rows(const T* x, int64_t rows, int64_t width, int64_t piece, float scale, int packed, R* result) { \
    if (packed) {                                                                                              \
      Rows<OPERATION, T, R, 16 / sizeof(T)>(x, rows, width, piece, scale, result);                             \
    } else {                                                                                                   \
      Rows<OPERATION, T, R, 1>(x, rows, width, piece, scale, result);                                          \
    }                                                                                                          \
  }                                                                                                            \
  EXPORT_KERNEL(NAME##Rows)                                                                                    \
  extern "C" __global__ void __launch_bounds__(kThreads) NAME##Columns(                                        \
      const T* x, int64_t outer, int64_t reduced, int64_t inner, int64_t piece, float scale, R* result) {      \
    Columns<OPERATION, T, R>(x, outer, reduced, inner, piece, scale, result);                                  \
  }                                                                                                            \
  EXPORT_KERNEL(NAME##Columns)
#define ARG_MAX(NAME, T)                                                                                    \
  extern "C" __global__ void __launch_bounds__(kThreads) NAME(const T* x, int64_t width, int32_t* result) { \
    Largest<T>(x, width, result);                                                                           \
  }                                                                                                         \
  EXPORT_KERNEL(NAME)

REDUCTION(SumFloat32, SumOf, float, float)
REDUCTION(SumBFloat16, SumOf, bf16, bf16)
REDUCTION(SumBFloat16ToFloat32, SumOf, bf16, float)
REDUCTION(SumFloat32ToBFloat16, SumOf, float, bf16)
REDUCTION(MaxFloat32, MaximumOf, float, float)
REDUCTION(MaxBFloat16, MaximumOf, bf16, bf16)
REDUCTION(MaxBFloat16ToFloat32, MaximumOf, bf16, float)
REDUCTION(MaxFloat32ToBFloat16, MaximumOf, float, bf16)
ARG_MAX(ArgMaxFloat32, float)
ARG_MAX(ArgMaxBFloat16, bf16)
