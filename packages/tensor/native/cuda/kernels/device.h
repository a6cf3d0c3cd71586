// What kernels need beyond CUDA C++ itself, for NVRTC without any header of CUDA, and for the emulation on a CPU. The
// only file that distinguishes the two.
#pragma once

#include "cuda/kernels/portable.h"

#if defined(__CUDACC_RTC__)

#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)

#define SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) uint8_t name[]
#define EXPORT_KERNEL(name)

#else

#include "cuda/emulation/emulate.h"

#endif

constexpr unsigned kAllLanes = 0xffffffffu;

// bfloat16: the upper half of a float32.
struct bf16 {
  uint16_t bits;
};

__device__ __forceinline__ float ToFloat(float value) { return value; }

__device__ __forceinline__ float ToFloat(bf16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}

// The two numbers of a word.
__device__ __forceinline__ float LowToFloat(uint32_t word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float HighToFloat(uint32_t word) { return __uint_as_float(word & 0xffff0000u); }

#if defined(__CUDACC_RTC__)

// Rounds to nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ bf16 ToBFloat16(float value) {
  bf16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
  return result;
}

__device__ __forceinline__ uint32_t PackBFloat16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

__device__ __forceinline__ uint32_t SharedAddress(const void* at) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

// d [16, 8] += a [16, 16] b [16, 8], one warp: the tensor core's mma.m16n8k16.
__device__ __forceinline__ void Mma(float* d, const uint32_t* a, const uint32_t* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ldmatrix: lane i names row i % 8 of matrix i / 8 [8, 8]; a lane gets the pair lane % 4 of row lane / 4 of each
// matrix.
__device__ __forceinline__ void LoadMatrixX4(uint32_t* result, const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// The same of the transposed matrices.
__device__ __forceinline__ void LoadMatrixX4Transposed(uint32_t* result, const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(result[0]), "=r"(result[1]), "=r"(result[2]), "=r"(result[3])
               : "r"(SharedAddress(row))
               : "memory");
}

__device__ __forceinline__ void LoadMatrixX2(uint32_t* result, const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(result[0]), "=r"(result[1])
               : "r"(SharedAddress(row))
               : "memory");
}

__device__ __forceinline__ void LoadMatrixX2Transposed(uint32_t* result, const bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(result[0]), "=r"(result[1])
               : "r"(SharedAddress(row))
               : "memory");
}

// Starts to copy 16 bytes from global to shared memory, both aligned to 16 bytes.
__device__ __forceinline__ void CopyAsync16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(to)), "l"(from) : "memory");
}

// The same of 8 bytes.
__device__ __forceinline__ void CopyAsync8(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(SharedAddress(to)), "l"(from) : "memory");
}

// Ends a group of copies of this thread.
__device__ __forceinline__ void EndCopyGroup() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `pending` of this thread's groups are on their way. A barrier shows them to the other threads.
template <int pending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Waits for all copies of this thread, also those that no group has.
__device__ __forceinline__ void WaitForAllCopies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// 2^x within 2 units in the last place.
__device__ __forceinline__ float FastExp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// Ends the kernel with an error unless the condition holds; checked in the emulation only.
#define EMULATED_CHECK(condition, message)

#else

inline bf16 ToBFloat16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if (value != value) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
inline uint32_t PackBFloat16(float low, float high) {
  return ToBFloat16(low).bits | static_cast<uint32_t>(ToBFloat16(high).bits) << 16;
}
inline void Mma(float* d, const uint32_t* a, const uint32_t* b) { emulation::Mma(d, a, b); }
inline void LoadMatrixX4(uint32_t* result, const bf16* row) { emulation::LoadMatrix<4, false>(result, row); }
inline void LoadMatrixX4Transposed(uint32_t* result, const bf16* row) { emulation::LoadMatrix<4, true>(result, row); }
inline void LoadMatrixX2(uint32_t* result, const bf16* row) { emulation::LoadMatrix<2, false>(result, row); }
inline void LoadMatrixX2Transposed(uint32_t* result, const bf16* row) { emulation::LoadMatrix<2, true>(result, row); }
inline void CopyAsync16(void* to, const void* from) { emulation::StartCopy(to, from, 16); }
inline void CopyAsync8(void* to, const void* from) { emulation::StartCopy(to, from, 8); }
inline void EndCopyGroup() { emulation::EndCopyGroup(); }
template <int pending>
inline void WaitForCopies() {
  emulation::WaitForCopies(pending);
}
inline void WaitForAllCopies() { emulation::WaitForCopies(-1); }
inline float FastExp2(float x) { return std::exp2(x); }
#define EMULATED_CHECK(condition, message)      \
  do {                                          \
    if (!(condition)) emulation::Fail(message); \
  } while (false)

#endif

// `value` as the element type of `to`; also for kernels that are templates of it.
__device__ __forceinline__ void Store(float value, float* to) { *to = value; }
__device__ __forceinline__ void Store(float value, bf16* to) { *to = ToBFloat16(value); }

// 16 bytes of numbers, which one instruction loads or stores.
template <typename Number>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(Number);
  Number values[kSize];
};

__device__ __forceinline__ bool IsVectorAligned(const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; }

// `at` must be aligned to 16 bytes.
template <typename Number>
__device__ __forceinline__ Vector<Number> LoadVector(const Number* at) {
  EMULATED_CHECK(IsVectorAligned(at), "a vector is not aligned to 16 bytes");
  return *reinterpret_cast<const Vector<Number>*>(at);
}

template <typename Number>
__device__ __forceinline__ void StoreVector(const Vector<Number>& vector, Number* at) {
  EMULATED_CHECK(IsVectorAligned(at), "a vector is not aligned to 16 bytes");
  *reinterpret_cast<Vector<Number>*>(at) = vector;
}

// The sum over the lanes of a warp, the same in all. All 32 lanes call it.
template <typename Number>
__device__ __forceinline__ Number WarpSum(Number value) {
#pragma unroll
  for (int by = 16; by > 0; by >>= 1) value += __shfl_xor_sync(kAllLanes, value, by);
  return value;
}

__device__ __forceinline__ float WarpMax(float value) {
#pragma unroll
  for (int by = 16; by > 0; by >>= 1) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, by));
  return value;
}

// The sum over a block's threads, the same in all and always in the same order. Called by all threads of a block of
// whole warps with y = z = 1; may be called again at once.
template <typename Number>
__device__ __forceinline__ Number BlockSum(Number value) {
  SHARED(Number, sums, [32]);
  value = WarpSum(value);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();
  if (lane == 0) sums[warp] = value;
  __syncthreads();
  return WarpSum(lane < static_cast<int>(blockDim.x / 32) ? sums[lane] : Number(0));
}

__device__ __forceinline__ float BlockMax(float value) {
  SHARED(float, greatest, [32]);
  value = WarpMax(value);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  __syncthreads();
  if (lane == 0) greatest[warp] = value;
  __syncthreads();
  return WarpMax(lane < static_cast<int>(blockDim.x / 32) ? greatest[lane] : -INFINITY);
}
