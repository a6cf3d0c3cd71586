// Root mean square norm, also of a sum, and its gradient, and rows less their mean, as norm.cc has them. One
// block for each row; what a thread reads first it keeps in registers.
#include "cuda/kernels/number.cuh"

namespace {

constexpr int kMaxThreads = 256;
// Packs of a row that each thread keeps: up to 8,192 numbers of a row. Beyond them it reads twice.
constexpr int kKept = 8;

// Calls visit(pack, k) for each pack of the row that is this thread's; the first kKept have k, so that they may be kept
// in registers.
template <typename Visit>
__device__ __forceinline__ void EachKept(int packs, Visit visit) {
#pragma unroll
  for (int k = 0; k < kKept; k++) {
    const int i = threadIdx.x + k * blockDim.x;
    if (i < packs) visit(i, k);
  }
}
template <typename Visit>
__device__ __forceinline__ void EachFurther(int packs, Visit visit) {
  for (int i = threadIdx.x + kKept * blockDim.x; i < packs; i += blockDim.x) visit(i);
}

// sum = x + branch, y = sum / rms(sum) · weight. Without a branch, y is the norm of x and sum is not written.
template <bool kBranch, int N, typename T>
__device__ __forceinline__ void Norm(const float* __restrict__ x, const T* __restrict__ branch,
                                     const float* __restrict__ weight, int width, float epsilon, float* sum,
                                     T* __restrict__ y, float* __restrict__ inverse_rms) {
  const int64_t start = static_cast<int64_t>(blockIdx.x) * width;
  const int packs = width / N;
  const auto read = [&](int i) {
    Pack<float, N> value = LoadPack<N>(x + start + i * N);
    if constexpr (kBranch) {
      const Pack<T, N> added = LoadPack<N>(branch + start + i * N);
#pragma unroll
      for (int j = 0; j < N; j++) value.at[j] += ToFloat(added.at[j]);
      StorePack(value, sum + start + i * N);
    }
    return value;
  };
  Pack<float, N> kept[kKept];
  float squares = 0.0f;
  const auto add_squares = [&](const Pack<float, N>& value) {
#pragma unroll
    for (int j = 0; j < N; j++) squares += value.at[j] * value.at[j];
  };
  EachKept(packs, [&](int i, int k) {
    kept[k] = read(i);
    add_squares(kept[k]);
  });
  EachFurther(packs, [&](int i) { add_squares(read(i)); });
  const float inverse = 1.0f / sqrtf(BlockSum(squares) / static_cast<float>(width) + epsilon);
  const auto write = [&](int i, const Pack<float, N>& value) {
    const Pack<float, N> factor = LoadPack<N>(weight + i * N);
    Pack<T, N> result;
#pragma unroll
    for (int j = 0; j < N; j++) Store(value.at[j] * inverse * factor.at[j], &result.at[j]);
    StorePack(result, y + start + i * N);
  };
  EachKept(packs, [&](int i, int k) { write(i, kept[k]); });
  // A thread reads what it wrote itself.
  EachFurther(packs, [&](int i) { write(i, LoadPack<N>((kBranch ? sum : x) + start + i * N)); });
  if (threadIdx.x == 0) inverse_rms[blockIdx.x] = inverse;
}

// With n = x / rms(x) and g = gradient · weight: residual + (g - n · mean(g n)) / rms(x).
template <int N, typename T>
__device__ __forceinline__ void NormGradient(const T* __restrict__ gradient, const float* __restrict__ x,
                                             const float* __restrict__ weight, const float* __restrict__ inverse_rms,
                                             const float* __restrict__ residual, int width, float* __restrict__ result,
                                             T* __restrict__ rounded) {
  const int64_t start = static_cast<int64_t>(blockIdx.x) * width;
  const int packs = width / N;
  const auto weighted = [&](int i) {
    const Pack<T, N> own = LoadPack<N>(gradient + start + i * N);
    Pack<float, N> value = LoadPack<N>(weight + i * N);
#pragma unroll
    for (int j = 0; j < N; j++) value.at[j] *= ToFloat(own.at[j]);
    return value;
  };
  Pack<float, N> kept_gradient[kKept], kept_x[kKept];
  float products = 0.0f;
  const auto add_products = [&](const Pack<float, N>& a, const Pack<float, N>& b) {
#pragma unroll
    for (int j = 0; j < N; j++) products += a.at[j] * b.at[j];
  };
  EachKept(packs, [&](int i, int k) {
    kept_gradient[k] = weighted(i);
    kept_x[k] = LoadPack<N>(x + start + i * N);
    add_products(kept_gradient[k], kept_x[k]);
  });
  EachFurther(packs, [&](int i) { add_products(weighted(i), LoadPack<N>(x + start + i * N)); });
  const float inverse = inverse_rms[blockIdx.x];
  // mean(g n) / rms(x) as a factor of x
  const float factor = BlockSum(products) * inverse * inverse / static_cast<float>(width);
  const auto write = [&](int i, const Pack<float, N>& g, const Pack<float, N>& own) {
    Pack<float, N> exact = LoadPack<N>(residual + start + i * N);
    Pack<T, N> in_type;
#pragma unroll
    for (int j = 0; j < N; j++) {
      exact.at[j] += (g.at[j] - own.at[j] * factor) * inverse;
      Store(exact.at[j], &in_type.at[j]);
    }
    StorePack(exact, result + start + i * N);
    StorePack(in_type, rounded + start + i * N);
  };
  EachKept(packs, [&](int i, int k) { write(i, kept_gradient[k], kept_x[k]); });
  EachFurther(packs, [&](int i) { write(i, weighted(i), LoadPack<N>(x + start + i * N)); });
}

// x less its mean.
template <int N>
__device__ __forceinline__ void Centre(const float* __restrict__ x, int width, float* __restrict__ result) {
  const int64_t start = static_cast<int64_t>(blockIdx.x) * width;
  const int packs = width / N;
  Pack<float, N> kept[kKept];
  float sum = 0.0f;
  const auto add = [&](const Pack<float, N>& value) {
#pragma unroll
    for (int j = 0; j < N; j++) sum += value.at[j];
  };
  EachKept(packs, [&](int i, int k) {
    kept[k] = LoadPack<N>(x + start + i * N);
    add(kept[k]);
  });
  EachFurther(packs, [&](int i) { add(LoadPack<N>(x + start + i * N)); });
  const float mean = BlockSum(sum) / static_cast<float>(width);
  const auto write = [&](int i, Pack<float, N> value) {
#pragma unroll
    for (int j = 0; j < N; j++) value.at[j] -= mean;
    StorePack(value, result + start + i * N);
  };
  EachKept(packs, [&](int i, int k) { write(i, kept[k]); });
  EachFurther(packs, [&](int i) { write(i, LoadPack<N>(x + start + i * N)); });
}

}  // namespace

// `packed`: the width is a multiple of 4 and every tensor is aligned.
#define NORMS(NAME, T)                                                                                             \
  extern "C" __global__ void __launch_bounds__(kMaxThreads) RmsNorm##NAME(                                         \
      const float* x, const float* weight, int width, float epsilon, int packed, T* y, float* inverse_rms) {       \
    if (packed) {                                                                                                  \
      Norm<false, 4, T>(x, nullptr, weight, width, epsilon, nullptr, y, inverse_rms);                              \
    } else {                                                                                                       \
      Norm<false, 1, T>(x, nullptr, weight, width, epsilon, nullptr, y, inverse_rms);                              \
    }                                                                                                              \
  }                                                                                                                \
  EXPORT_KERNEL(RmsNorm##NAME)                                                                                     \
  extern "C" __global__ void __launch_bounds__(kMaxThreads)                                                        \
      AddRmsNorm##NAME(const float* x, const T* branch, const float* weight, int width, float epsilon, int packed, \
                       float* sum, T* y, float* inverse_rms) {                                                     \
    if (packed) {                                                                                                  \
      Norm<true, 4, T>(x, branch, weight, width, epsilon, sum, y, inverse_rms);                                    \
    } else {                                                                                                       \
      Norm<true, 1, T>(x, branch, weight, width, epsilon, sum, y, inverse_rms);                                    \
    }                                                                                                              \
  }                                                                                                                \
  EXPORT_KERNEL(AddRmsNorm##NAME)                                                                                  \
  extern "C" __global__ void __launch_bounds__(kMaxThreads)                                                        \
      RmsNormGradient##NAME(const T* gradient, const float* x, const float* weight, const float* inverse_rms,      \
                            const float* residual, int width, int packed, float* result, T* rounded) {             \
    if (packed) {                                                                                                  \
      NormGradient<4, T>(gradient, x, weight, inverse_rms, residual, width, result, rounded);                      \
    } else {                                                                                                       \
      NormGradient<1, T>(gradient, x, weight, inverse_rms, residual, width, result, rounded);                      \
    }                                                                                                              \
  }                                                                                                                \
  EXPORT_KERNEL(RmsNormGradient##NAME)

NORMS(Float32, float)
NORMS(BFloat16, bf16)

extern "C" __global__ void __launch_bounds__(kMaxThreads)
    CentredFloat32(const float* x, int width, int packed, float* result) {
  if (packed) {
    Centre<4>(x, width, result);
  } else {
    Centre<1>(x, width, result);
  }
}
EXPORT_KERNEL(CentredFloat32)
