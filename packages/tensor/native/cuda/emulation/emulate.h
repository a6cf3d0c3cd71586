// Runs CUDA C++ on the CPU, from the source that NVRTC compiles for a GPU.
//
// Besides results it checks: barriers and exchanges that not all threads reach, results that depend on the order in
// which threads run (set `order`), shared memory that is read before it is written (it begins as NaN), and bytes of an
// asynchronous copy that are read before the wait. One OS thread runs one launch at a time.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda/emulation/block.h"
#include "cuda/emulation/registry.h"
#include "cuda/emulation/warp.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(bytes) __attribute__((aligned(bytes)))

#define threadIdx (emulation::thread->index)
#define blockIdx (emulation::block_index)
#define blockDim (emulation::block_dim)
#define gridDim (emulation::grid_dim)

// SHARED(float, sums, [32]); in a function: a __shared__ variable.
#define SHARED(type, name, ...)                               \
  static emulation::Shared<type __VA_ARGS__> name##_variable; \
  auto& name = name##_variable.Use()
#define DYNAMIC_SHARED(name) uint8_t* name = emulation::block->shared.get()

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

inline void __syncthreads() { emulation::BlockBarrier(); }
inline int __syncthreads_count(int vote) { return emulation::BlockBarrier(vote != 0); }
inline int __syncthreads_or(int vote) { return emulation::BlockBarrier(vote != 0) != 0; }
inline int __syncthreads_and(int vote) { return emulation::BlockBarrier(vote == 0) == 0; }
inline void __threadfence() {}

inline void __syncwarp(unsigned mask = 0xffffffffu) { emulation::WarpBarrier(mask); }
template <typename Value>
inline Value __shfl_sync(unsigned mask, Value value, int lane) {
  return emulation::Shuffle(mask, value, [=](int) { return lane & 31; });
}
template <typename Value>
inline Value __shfl_xor_sync(unsigned mask, Value value, int by) {
  return emulation::Shuffle(mask, value, [=](int lane) { return lane ^ by; });
}
// Lanes without a source keep their own value.
template <typename Value>
inline Value __shfl_down_sync(unsigned mask, Value value, unsigned by) {
  return emulation::Shuffle(mask, value, [=](int lane) { return lane + by < 32 ? lane + static_cast<int>(by) : lane; });
}
template <typename Value>
inline Value __shfl_up_sync(unsigned mask, Value value, unsigned by) {
  return emulation::Shuffle(
      mask, value, [=](int lane) { return lane >= static_cast<int>(by) ? lane - static_cast<int>(by) : lane; });
}
inline unsigned __ballot_sync(unsigned mask, int vote) { return emulation::Ballot(mask, vote != 0); }
inline int __any_sync(unsigned mask, int vote) { return emulation::Ballot(mask, vote != 0) != 0; }
inline int __all_sync(unsigned mask, int vote) { return emulation::Ballot(mask, vote == 0) == 0; }

template <typename To, typename From>
inline To BitsAs(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}
inline float __uint_as_float(unsigned bits) { return BitsAs<float>(bits); }
inline float __int_as_float(int bits) { return BitsAs<float>(bits); }
inline unsigned __float_as_uint(float value) { return BitsAs<unsigned>(value); }
inline int __float_as_int(float value) { return BitsAs<int>(value); }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <typename Value>
inline Value __ldg(const Value* at) {
  return *at;
}

using std::max;
using std::min;
