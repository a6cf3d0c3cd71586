// What attention computes before its tiles (and in float32 after them): operands as its kernels read them, and the sums
// of each query.
#include "cuda/kernels/number.cuh"
#include "cuda/kernels/row_tile.cuh"
#include "ops/attention/attention_shape.h"

namespace {

// Numbers that one load or store has at most.
template <typename Number>
constexpr int kVectorSize = Vector<Number>::kSize;

// Rotate by kAtOnce numbers of each half, whose sizes are multiples of that.
template <int kAtOnce, typename Number>
__device__ __forceinline__ void RotateParts(const Number* from, int64_t from_stride, int heads, int head_dim,
                                            int padded_dim, const int32_t* offsets, int rows, const float* cosine,
                                            const float* sine, float direction, Number* to, int64_t to_stride) {
  constexpr int kAngles = kAtOnce < 4 ? kAtOnce : 4;
  const int64_t token = blockIdx.x;
  const int half = head_dim / 2, padded_half = padded_dim / 2, parts = padded_half / kAtOnce;
  const int64_t angles = cosine == nullptr ? 0 : (token - offsets[FindRow(offsets, rows, token)]) * half;
  for (int i = threadIdx.x; i < heads * parts; i += blockDim.x) {
    const int head = i / parts, c = i % parts * kAtOnce;
    Pack<Number, kAtOnce> low{}, high{};
    if (c < half) {
      const Number* at = from + token * from_stride + head * head_dim + c;
      low = LoadPack<kAtOnce>(at);
      high = LoadPack<kAtOnce>(at + half);
      if (cosine != nullptr) {
#pragma unroll
        for (int j = 0; j < kAtOnce; j += kAngles) {
          const Pack<float, kAngles> cosines = LoadPack<kAngles>(cosine + angles + c + j);
          const Pack<float, kAngles> sines = LoadPack<kAngles>(sine + angles + c + j);
#pragma unroll
          for (int k = 0; k < kAngles; k++) {
            const float a = ToFloat(low.at[j + k]), b = ToFloat(high.at[j + k]), sine_of = direction * sines.at[k];
            Store(a * cosines.at[k] - b * sine_of, &low.at[j + k]);
            Store(b * cosines.at[k] + a * sine_of, &high.at[j + k]);
          }
        }
      }
    }
    Number* at = to + token * to_stride + head * padded_dim + c;
    StorePack(low, at);
    StorePack(high, at + padded_half);
  }
}

// from: the first token's first head; tokens are from_stride numbers apart, heads head_dim → to: likewise, in heads of
// padded_dim, each half followed by zeros. Rotated by the angles of its position where there is a table; direction -1
// turns back. The halves of head_dim are even, those of padded_dim multiples of 16 bytes unless they are the same. One
// block a token. `to` may be `from` if nothing moves.
template <typename Number>
__device__ __forceinline__ void Rotate(const Number* from, int64_t from_stride, int heads, int head_dim, int padded_dim,
                                       const int32_t* offsets, int rows, const float* cosine, const float* sine,
                                       float direction, Number* to, int64_t to_stride) {
  if (head_dim / 2 % kVectorSize<Number> == 0) {
    RotateParts<kVectorSize<Number>>(from, from_stride, heads, head_dim, padded_dim, offsets, rows, cosine, sine,
                                     direction, to, to_stride);
  } else {
    RotateParts<2>(from, from_stride, heads, head_dim, padded_dim, offsets, rows, cosine, sine, direction, to,
                   to_stride);
  }
}

// A lane's part of gradient · output of one query.
template <int kAtOnce, typename Number>
__device__ __forceinline__ float PartOfSum(const Number* gradient, const Number* output, int head_dim) {
  float sum = 0;
  for (int c = threadIdx.x % kSumLanes * kAtOnce; c < head_dim; c += kSumLanes * kAtOnce) {
    const auto a = LoadPack<kAtOnce>(gradient + c), b = LoadPack<kAtOnce>(output + c);
#pragma unroll
    for (int i = 0; i < kAtOnce; i++) sum += ToFloat(a.at[i]) * ToFloat(b.at[i]);
  }
  return sum;
}

// gradient and output [tokens, heads, head_dim], log_sums [tokens, heads] → sums [heads, tokens, 2]: log_sum and
// gradient · output. A block has a head of kSumTokens tokens, so that it stores what lies together.
template <typename Number>
__device__ __forceinline__ void SumQueries(const Number* gradient, const Number* output, const float* log_sums,
                                           int64_t tokens, int heads, int head_dim, float* sums) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kSumTokens + threadIdx.x / kSumLanes;
  const int64_t at = token * heads + blockIdx.y;
  float sum = 0;
  if (token < tokens) {
    const Number *by = gradient + at * head_dim, *of = output + at * head_dim;
    // Heads that are not a multiple of 16 bytes are one of 4 numbers.
    sum = head_dim % kVectorSize<Number> == 0 ? PartOfSum<kVectorSize<Number>>(by, of, head_dim)
                                              : PartOfSum<4>(by, of, head_dim);
  }
#pragma unroll
  for (int by = kSumLanes / 2; by > 0; by >>= 1) sum += __shfl_xor_sync(kAllLanes, sum, by);
  if (token < tokens && threadIdx.x % kSumLanes == 0)
    reinterpret_cast<float2*>(sums)[blockIdx.y * tokens + token] = {log_sums[at], sum};
}

}  // namespace

#define ATTENTION_PREPARE(Type, Number)                                                                            \
  extern "C" __global__ void __launch_bounds__(128) AttentionRotate##Type(                                         \
      const Number* from, int64_t from_stride, int heads, int head_dim, int padded_dim, const int32_t* offsets,    \
      int rows, const float* cosine, const float* sine, float direction, Number* to, int64_t to_stride) {          \
    Rotate(from, from_stride, heads, head_dim, padded_dim, offsets, rows, cosine, sine, direction, to, to_stride); \
  }                                                                                                                \
  EXPORT_KERNEL(AttentionRotate##Type)                                                                             \
  extern "C" __global__ void __launch_bounds__(kSumThreads)                                                        \
      AttentionSums##Type(const Number* gradient, const Number* output, const float* log_sums, int64_t tokens,     \
                          int heads, int head_dim, float* sums) {                                                  \
    SumQueries(gradient, output, log_sums, tokens, heads, head_dim, sums);                                         \
  }                                                                                                                \
  EXPORT_KERNEL(AttentionSums##Type)

ATTENTION_PREPARE(Float32, float)
ATTENTION_PREPARE(BFloat16, bf16)
