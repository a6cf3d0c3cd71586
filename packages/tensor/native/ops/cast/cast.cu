// From one element type to another, as C++ converts; to bfloat16 and float16 rounded to nearest, ties to even.
#include "cuda/kernels/number.cuh"

namespace {

constexpr int kThreads = 128;

template <typename A, typename B>
constexpr bool kSame = false;
template <typename A>
constexpr bool kSame<A, A> = true;
template <typename T>
constexpr bool kHalf = kSame<T, bf16> || kSame<T, f16>;

template <typename From, typename To>
__device__ __forceinline__ To Convert(From value) {
  if constexpr (kSame<From, To>) {
    return value;
  } else if constexpr (kHalf<To>) {
    return Round<To>(ToFloat(value));
  } else if constexpr (kHalf<From>) {
    return static_cast<To>(ToFloat(value));
  } else {
    return static_cast<To>(value);
  }
}

template <typename A, typename B>
constexpr int kPack = 16 / (sizeof(A) > sizeof(B) ? sizeof(A) : sizeof(B));

template <typename From, typename To, int N>
__device__ __forceinline__ void Each(const From* __restrict__ x, To* __restrict__ result, int64_t packs) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < packs; i += step) {
    const Pack<From, N> value = LoadPack<N>(x + i * N);
    Pack<To, N> converted;
#pragma unroll
    for (int k = 0; k < N; k++) converted.at[k] = Convert<From, To>(value.at[k]);
    StorePack<To, N>(converted, result + i * N);
  }
}

}  // namespace

// A pack has 16 bytes of the wider type.
#define CAST(NAME, FROM, TO)                                                                                          \
  extern "C" __global__ void __launch_bounds__(kThreads) NAME(const FROM* x, TO* result, int64_t packs, int packed) { \
    if (packed) {                                                                                                     \
      Each<FROM, TO, kPack<FROM, TO>>(x, result, packs);                                                              \
    } else {                                                                                                          \
      Each<FROM, TO, 1>(x, result, packs);                                                                            \
    }                                                                                                                 \
  }                                                                                                                   \
  EXPORT_KERNEL(NAME)
#define CASTS(FROM_NAME, FROM)                  \
  CAST(Cast##FROM_NAME##ToFloat32, FROM, float) \
  CAST(Cast##FROM_NAME##ToBFloat16, FROM, bf16) \
  CAST(Cast##FROM_NAME##ToFloat16, FROM, f16)   \
  CAST(Cast##FROM_NAME##ToInt32, FROM, int32_t) \
  CAST(Cast##FROM_NAME##ToInt64, FROM, int64_t) \
  CAST(Cast##FROM_NAME##ToUint8, FROM, uint8_t) \
  CAST(Cast##FROM_NAME##ToBool, FROM, bool)

CASTS(Float32, float)
CASTS(BFloat16, bf16)
CASTS(Float16, f16)
CASTS(Int32, int32_t)
CASTS(Int64, int64_t)
CASTS(Uint8, uint8_t)
CASTS(Bool, bool)
