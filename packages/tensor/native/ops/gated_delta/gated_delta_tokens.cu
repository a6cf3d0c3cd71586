// What the gated delta rule computes of single tokens: before its sweeps, what every value head needs in float32, and
// after its backward pass the gradients by queries and keys. One block a token.
#include "ops/activation/activation.cuh"
#include "ops/gated_delta/gated_delta_shape.h"

namespace {

constexpr int kWarp = 32;
constexpr int kWarps = kDeltaTokenThreads / kWarp;
// Numbers of a head that a lane has at most.
constexpr int kPerLane = 4;

// 1 / length of a vector, as transformers' l2norm has it. One warp.
template <typename Number>
__device__ __forceinline__ float InverseLength(const Number* x, int size) {
  float sum = 0;
  for (int i = threadIdx.x % kWarp; i < size; i += kWarp) sum += ToFloat(x[i]) * ToFloat(x[i]);
  return 1.0f / sqrtf(WarpSum(sum) + 1e-6f);
}

// As in PyTorch, the identity above 20.
__device__ __forceinline__ float Softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

// → query and key [key_heads, tokens, head_size]: of length 1, queries also divided by √key_size; gate and beta
// [value_heads, tokens]: g and β
template <typename Number>
__device__ __forceinline__ void Prepare(const Number* qkv, const Number* ba, const float* a_log, const float* dt_bias,
                                        const DeltaShape& shape, int head_size, float* query, float* key, float* gate,
                                        float* beta) {
  const int64_t token = blockIdx.x;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  for (int vector = warp; vector < 2 * shape.key_heads; vector += kWarps) {
    const bool is_query = vector < shape.key_heads;
    const Number* from = qkv + token * shape.width + vector * shape.key_size;
    float factor = InverseLength(from, shape.key_size);
    if (is_query) factor *= 1.0f / sqrtf(static_cast<float>(shape.key_size));
    const int64_t head = is_query ? vector : vector - shape.key_heads;
    float* to = (is_query ? query : key) + (head * shape.tokens + token) * head_size;
    for (int i = lane; i < head_size; i += kWarp) to[i] = i < shape.key_size ? ToFloat(from[i]) * factor : 0.0f;
  }
  const Number* of_token = ba + token * 2 * shape.value_heads;
  for (int head = threadIdx.x; head < shape.value_heads; head += kDeltaTokenThreads) {
    const float step = Softplus(ToFloat(of_token[shape.value_heads + head]) + dt_bias[head]);
    beta[head * shape.tokens + token] = Sigmoid(ToFloat(of_token[head]));
    gate[head * shape.tokens + token] = -expf(a_log[head]) * step;
  }
}

// gradient [tokens, value_heads, value_size] → by_output [value_heads, tokens, head_size]
template <typename Number>
__device__ __forceinline__ void Spread(const Number* gradient, const DeltaShape& shape, int head_size,
                                       float* by_output) {
  const int64_t token = blockIdx.x;
  for (int i = threadIdx.x; i < shape.value_heads * head_size; i += kDeltaTokenThreads) {
    const int head = i / head_size, column = i % head_size;
    const Number* from = gradient + (token * shape.value_heads + head) * shape.value_size;
    by_output[(head * shape.tokens + token) * head_size + column] =
        column < shape.value_size ? ToFloat(from[column]) : 0.0f;
  }
}

// The gradient by x of x / length, times scale. `from`: one gradient for each of `heads` value heads, `stride` numbers
// apart, which add up. One warp.
template <typename Number>
__device__ __forceinline__ void ByVector(const Number* x, const float* from, int64_t stride, int heads, int size,
                                         float scale, Number* to) {
  const int lane = threadIdx.x % kWarp;
  const float inverse = InverseLength(x, size);
  float sums[kPerLane];
  float along = 0;
#pragma unroll
  for (int k = 0; k < kPerLane; k++) {
    const int i = lane + k * kWarp;
    sums[k] = 0;
    if (i >= size) continue;
    for (int head = 0; head < heads; head++) sums[k] += from[head * stride + i];
    along += ToFloat(x[i]) * sums[k];
  }
  along = WarpSum(along) * (inverse * inverse);
#pragma unroll
  for (int k = 0; k < kPerLane; k++) {
    const int i = lane + k * kWarp;
    if (i < size) Store((sums[k] - ToFloat(x[i]) * along) * (inverse * scale), to + i);
  }
}

// by_query and by_key [value_heads, tokens, head_size] → the queries and keys of by_qkv
template <typename Number>
__device__ __forceinline__ void ByVectors(const Number* qkv, const float* by_query, const float* by_key,
                                          const DeltaShape& shape, int head_size, Number* by_qkv) {
  const int64_t token = blockIdx.x;
  const int shared = shape.value_heads / shape.key_heads;
  for (int vector = threadIdx.x / kWarp; vector < 2 * shape.key_heads; vector += kWarps) {
    const bool is_query = vector < shape.key_heads;
    const int64_t head = is_query ? vector : vector - shape.key_heads;
    const float* from = (is_query ? by_query : by_key) + (head * shared * shape.tokens + token) * head_size;
    const int64_t at = token * shape.width + vector * shape.key_size;
    const float scale = is_query ? 1.0f / sqrtf(static_cast<float>(shape.key_size)) : 1.0f;
    ByVector(qkv + at, from, shape.tokens * head_size, shared, shape.key_size, scale, by_qkv + at);
  }
}

}  // namespace

#define GATED_DELTA_TOKENS(Type, Number)                                                                             \
  extern "C" __global__ void __launch_bounds__(kDeltaTokenThreads)                                                   \
      GatedDeltaPrepare##Type(const Number* qkv, const Number* ba, const float* a_log, const float* dt_bias,         \
                              DeltaShape shape, int head_size, float* query, float* key, float* gate, float* beta) { \
    Prepare(qkv, ba, a_log, dt_bias, shape, head_size, query, key, gate, beta);                                      \
  }                                                                                                                  \
  EXPORT_KERNEL(GatedDeltaPrepare##Type)                                                                             \
  extern "C" __global__ void __launch_bounds__(kDeltaTokenThreads)                                                   \
      GatedDeltaSpread##Type(const Number* gradient, DeltaShape shape, int head_size, float* by_output) {            \
    Spread(gradient, shape, head_size, by_output);                                                                   \
  }                                                                                                                  \
  EXPORT_KERNEL(GatedDeltaSpread##Type)                                                                              \
  extern "C" __global__ void __launch_bounds__(kDeltaTokenThreads)                                                   \
      GatedDeltaByVectors##Type(const Number* qkv, const float* by_query, const float* by_key, DeltaShape shape,     \
                                int head_size, Number* by_qkv) {                                                     \
    ByVectors(qkv, by_query, by_key, shape, head_size, by_qkv);                                                      \
  }                                                                                                                  \
  EXPORT_KERNEL(GatedDeltaByVectors##Type)

GATED_DELTA_TOKENS(Float32, float)
GATED_DELTA_TOKENS(BFloat16, bf16)
