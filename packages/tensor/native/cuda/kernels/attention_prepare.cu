// What attention computes before its tiles (and in float32 after them): operands as its kernels read them, and the sums
// of each query.
#include "row_tile.cuh"

namespace {

// Two neighbours; aligned to both.
template <typename Number>
struct alignas(2 * sizeof(Number)) Pair {
  Number first, second;
};

// from: the first token's first head; tokens are from_stride numbers apart, heads head_dim → to: likewise, in heads of
// padded_dim, each half followed by zeros. Rotated by the angles of its position where there is a table; direction -1
// turns back. The halves of head_dim are even. One block a token. `to` may be `from` if nothing moves.
template <typename Number>
__device__ __forceinline__ void Rotate(const Number* from, int64_t from_stride, int heads, int head_dim, int padded_dim,
                                       const int32_t* offsets, int rows, const float* cosine, const float* sine,
                                       float direction, Number* to, int64_t to_stride) {
  const int64_t token = blockIdx.x;
  const int half = head_dim / 2, padded_half = padded_dim / 2, pairs = padded_half / 2;
  const int64_t angles = cosine == nullptr ? 0 : (token - offsets[FindRow(offsets, rows, token)]) * half;
  for (int i = threadIdx.x; i < heads * pairs; i += blockDim.x) {
    const int head = i / pairs, c = i % pairs * 2;
    Pair<Number> low{}, high{};
    if (c < half) {
      const Number* at = from + token * from_stride + head * head_dim + c;
      low = *reinterpret_cast<const Pair<Number>*>(at);
      high = *reinterpret_cast<const Pair<Number>*>(at + half);
      if (cosine != nullptr) {
        const auto turn = [&](Number& x, Number& y, int64_t angle) {
          const float a = ToFloat(x), b = ToFloat(y), sine_of = direction * sine[angle];
          Store(a * cosine[angle] - b * sine_of, &x);
          Store(b * cosine[angle] + a * sine_of, &y);
        };
        turn(low.first, high.first, angles + c);
        turn(low.second, high.second, angles + c + 1);
      }
    }
    Number* at = to + token * to_stride + head * padded_dim + c;
    *reinterpret_cast<Pair<Number>*>(at) = low;
    *reinterpret_cast<Pair<Number>*>(at + padded_half) = high;
  }
}

// gradient and output [tokens, heads, head_dim], log_sums [tokens, heads] → sums [heads, tokens, 2]: log_sum and
// gradient · output. One warp each.
template <typename Number>
__device__ __forceinline__ void SumQueries(const Number* gradient, const Number* output, const float* log_sums,
                                           int64_t tokens, int heads, int head_dim, float* sums) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  const bool exists = at < tokens * heads;
  float sum = 0;
  for (int c = threadIdx.x % 32; exists && c < head_dim; c += 32)
    sum += ToFloat(gradient[at * head_dim + c]) * ToFloat(output[at * head_dim + c]);
  sum = WarpSum(sum);
  if (exists && threadIdx.x % 32 == 0)
    reinterpret_cast<float2*>(sums)[at % heads * tokens + at / heads] = {log_sums[at], sum};
}

}  // namespace

#define ATTENTION_PREPARE(Type, Number)                                                                            \
  extern "C" __global__ void __launch_bounds__(128) AttentionRotate##Type(                                         \
      const Number* from, int64_t from_stride, int heads, int head_dim, int padded_dim, const int32_t* offsets,    \
      int rows, const float* cosine, const float* sine, float direction, Number* to, int64_t to_stride) {          \
    Rotate(from, from_stride, heads, head_dim, padded_dim, offsets, rows, cosine, sine, direction, to, to_stride); \
  }                                                                                                                \
  EXPORT_KERNEL(AttentionRotate##Type)                                                                             \
  extern "C" __global__ void __launch_bounds__(128)                                                                \
      AttentionSums##Type(const Number* gradient, const Number* output, const float* log_sums, int64_t tokens,     \
                          int heads, int head_dim, float* sums) {                                                  \
    SumQueries(gradient, output, log_sums, tokens, heads, head_dim, sums);                                         \
  }                                                                                                                \
  EXPORT_KERNEL(AttentionSums##Type)

ATTENTION_PREPARE(Float32, float)
ATTENTION_PREPARE(BFloat16, bf16)
