// Arithmetic element by element. bfloat16 is computed in float32 and rounded once. Quotients and roots are rounded
// correctly; CUDA states at most 2 units in the last place for expf, tanhf and erff.
#include "cuda/kernels/number.cuh"
#include "cuda/kernels/strided.cuh"

namespace {

constexpr int kThreads = 128;

struct Add {
  __device__ __forceinline__ static float Of(float a, float b) { return a + b; }
};
struct Sub {
  __device__ __forceinline__ static float Of(float a, float b) { return a - b; }
};
struct Mul {
  __device__ __forceinline__ static float Of(float a, float b) { return a * b; }
};
struct Div {
  __device__ __forceinline__ static float Of(float a, float b) { return a / b; }
};
// Maximum, minimum and ReLU of NaN are NaN.
struct Maximum {
  __device__ __forceinline__ static float Of(float a, float b) { return a > b || a != a ? a : b; }
};
struct Minimum {
  __device__ __forceinline__ static float Of(float a, float b) { return a < b || a != a ? a : b; }
};
struct Greater {
  __device__ __forceinline__ static bool Of(float a, float b) { return a > b; }
};
struct GreaterEqual {
  __device__ __forceinline__ static bool Of(float a, float b) { return a >= b; }
};

struct Square {
  __device__ __forceinline__ static float Of(float x) { return x * x; }
};
struct Sqrt {
  __device__ __forceinline__ static float Of(float x) { return sqrtf(x); }
};
struct Rsqrt {
  __device__ __forceinline__ static float Of(float x) { return 1.0f / sqrtf(x); }
};
struct Exp {
  __device__ __forceinline__ static float Of(float x) { return expf(x); }
};
struct Sigmoid {
  __device__ __forceinline__ static float Of(float x) { return 1.0f / (1.0f + expf(-x)); }
};
struct Tanh {
  __device__ __forceinline__ static float Of(float x) { return tanhf(x); }
};
struct Erf {
  __device__ __forceinline__ static float Of(float x) { return erff(x); }
};
struct Relu {
  __device__ __forceinline__ static float Of(float x) { return x > 0.0f || x != x ? x : 0.0f; }
};

template <typename T>
__device__ __forceinline__ T Result(float value) {
  return Round<T>(value);
}
template <typename T>
__device__ __forceinline__ T Result(bool value) {
  return value;
}

template <int N, typename T>
__device__ __forceinline__ Pack<T, N> LoadOrRepeat(const T* from, bool repeat) {
  if (!repeat) return LoadPack<N>(from);
  Pack<T, N> result;
  const T value = *from;
#pragma unroll
  for (int k = 0; k < N; k++) result.at[k] = value;
  return result;
}

template <typename Operation, typename R, int N, typename T>
__device__ __forceinline__ void EachPair(const T* __restrict__ a, const T* __restrict__ b, R* __restrict__ result,
                                         const StridedPair& shape) {
  const bool repeat_left = shape.left[shape.rank - 1] == 0;
  const bool repeat_right = shape.right[shape.rank - 1] == 0;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < shape.size; i += step) {
    int64_t left, right;
    Locate(shape, i, &left, &right);
    const Pack<T, N> x = LoadOrRepeat<N>(a + left, repeat_left);
    const Pack<T, N> y = LoadOrRepeat<N>(b + right, repeat_right);
    Pack<R, N> z;
#pragma unroll
    for (int k = 0; k < N; k++) z.at[k] = Result<R>(Operation::Of(ToFloat(x.at[k]), ToFloat(y.at[k])));
    StorePack(z, result + i * N);
  }
}

template <typename Operation, typename T, typename R>
__device__ __forceinline__ void Binary(const T* a, const T* b, R* result, const StridedPair& shape, int packed) {
  if (packed) {
    EachPair<Operation, R, 16 / sizeof(T)>(a, b, result, shape);
  } else {
    EachPair<Operation, R, 1>(a, b, result, shape);
  }
}

template <typename Operation, typename T, int N>
__device__ __forceinline__ void Each(const T* __restrict__ x, T* __restrict__ result, int64_t packs) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += step) {
    Pack<T, N> value = LoadPack<N>(x + i * N);
#pragma unroll
    for (int k = 0; k < N; k++) value.at[k] = Round<T>(Operation::Of(ToFloat(value.at[k])));
    StorePack(value, result + i * N);
  }
}

template <typename Operation, typename T>
__device__ __forceinline__ void Unary(const T* x, T* result, int64_t packs, int packed) {
  if (packed) {
    Each<Operation, T, 16 / sizeof(T)>(x, result, packs);
  } else {
    Each<Operation, T, 1>(x, result, packs);
  }
}

}  // namespace

#define BINARY(NAME, OPERATION, T, R)                                          \
  extern "C" __global__ void __launch_bounds__(kThreads)                       \
      NAME(const T* a, const T* b, R* result, StridedPair shape, int packed) { \
    Binary<OPERATION, T, R>(a, b, result, shape, packed);                      \
  }                                                                            \
  EXPORT_KERNEL(NAME)
#define ARITHMETIC(OPERATION)                         \
  BINARY(OPERATION##Float32, OPERATION, float, float) \
  BINARY(OPERATION##BFloat16, OPERATION, bf16, bf16)
#define COMPARISON(OPERATION)                        \
  BINARY(OPERATION##Float32, OPERATION, float, bool) \
  BINARY(OPERATION##BFloat16, OPERATION, bf16, bool)
#define UNARY(NAME, OPERATION, T)                                                                                 \
  extern "C" __global__ void __launch_bounds__(kThreads) NAME(const T* x, T* result, int64_t packs, int packed) { \
    Unary<OPERATION, T>(x, result, packs, packed);                                                                \
  }                                                                                                               \
  EXPORT_KERNEL(NAME)
#define FUNCTION(OPERATION)                   \
  UNARY(OPERATION##Float32, OPERATION, float) \
  UNARY(OPERATION##BFloat16, OPERATION, bf16)

ARITHMETIC(Add)
ARITHMETIC(Sub)
ARITHMETIC(Mul)
ARITHMETIC(Div)
ARITHMETIC(Maximum)
ARITHMETIC(Minimum)
COMPARISON(Greater)
COMPARISON(GreaterEqual)
FUNCTION(Square)
FUNCTION(Sqrt)
FUNCTION(Rsqrt)
FUNCTION(Exp)
FUNCTION(Sigmoid)
FUNCTION(Tanh)
FUNCTION(Erf)
FUNCTION(Relu)
