// The next token of some texts: what is computed is in sample_tokens.cc, its arithmetic in token_draw.h. One
// block for each text: logits [rows, vocab], choices → results [rows, kResultWords + 2 · top]; `scratch` [rows, vocab]
// has a text's logits with penalties, then its weights. Sums are of whole numbers: the same in any order.
#include "cuda/kernels/number.cuh"
#include "ops/sample_tokens/token_draw.h"

namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
// Thresholds that one pass over the weights tries, so that it takes two bits of the result.
constexpr int kTried = 3;

// The first of the greatest logits. No id: a number is not finite, or there is none above -infinity.
struct Greatest {
  float logit = -INFINITY;
  int32_t id = -1;

  __device__ __forceinline__ void Take(float other, int32_t other_id) {
    if (other_id < 0 || other < logit || (other == logit && id >= 0 && id < other_id)) return;
    logit = other;
    id = other_id;
  }
};

__device__ __forceinline__ Greatest WarpGreatest(Greatest own) {
#pragma unroll
  for (int by = 16; by > 0; by >>= 1) {
    const float logit = __shfl_xor_sync(kAllLanes, own.logit, by);
    const int32_t id = __shfl_xor_sync(kAllLanes, own.id, by);
    own.Take(logit, id);
  }
  return own;
}

// That of all threads, for all of them.
__device__ __forceinline__ Greatest BlockGreatest(Greatest own) {
  SHARED(float, logits, [kWarps]);
  SHARED(int32_t, ids, [kWarps]);
  own = WarpGreatest(own);
  const int lane = threadIdx.x % 32;
  if (lane == 0) {
    logits[threadIdx.x / 32] = own.logit;
    ids[threadIdx.x / 32] = own.id;
  }
  __syncthreads();
  Greatest all;
  all.logit = logits[lane];
  all.id = ids[lane];
  all = WarpGreatest(all);
  __syncthreads();
  return all;
}

__device__ __forceinline__ uint64_t WarpSum(uint64_t value) {
#pragma unroll
  for (int by = 16; by > 0; by >>= 1) value += __shfl_xor_sync(kAllLanes, value, by);
  return value;
}

// Replaces N numbers of each thread by their sums over the block.
template <int N>
__device__ __forceinline__ void BlockSums(uint64_t* sums) {
  SHARED(uint64_t, of_warps, [N][kWarps]);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < N; k++) {
    sums[k] = WarpSum(sums[k]);
    if (lane == 0) of_warps[k][threadIdx.x / 32] = sums[k];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < N; k++) sums[k] = WarpSum(of_warps[k][lane]);
  __syncthreads();
}

template <typename T>
__device__ __forceinline__ Greatest FirstGreatest(const T* logits, int vocab) {
  Greatest own;
#pragma unroll 2
  for (int i = threadIdx.x; i < vocab; i += kThreads) {
    float logit = ToFloat(logits[i]);
    if (!(logit < INFINITY)) logit = INFINITY;  // a NaN, too
    if (logit > own.logit) {
      own.logit = logit;
      own.id = i;
    }
  }
  Greatest greatest = BlockGreatest(own);
  if (greatest.logit == INFINITY) greatest.id = -1;
  return greatest;
}

// The sum of the weights of all tokens. With `weights`, which may be the logits, each is written there by the thread
// that has read its logit.
template <typename T>
__device__ __forceinline__ uint64_t Weigh(const T* logits, int vocab, float greatest, float scale, float* weights) {
  uint64_t sum = 0;
#pragma unroll 2
  for (int i = threadIdx.x; i < vocab; i += kThreads) {
    const float weight = TokenWeight(Less(greatest, ToFloat(logits[i])), scale);
    if (weights != nullptr) weights[i] = weight;
    sum += FixedWeight(weight);
  }
  BlockSums<1>(&sum);
  return sum;
}

// The sum of the weights of at least `least`.
__device__ __forceinline__ uint64_t SumKept(const float* weights, int vocab, float least) {
  uint64_t sum = 0;
#pragma unroll 2
  for (int i = threadIdx.x; i < vocab; i += kThreads) {
    if (weights[i] >= least) sum += FixedWeight(weights[i]);
  }
  BlockSums<1>(&sum);
  return sum;
}

// The greatest weight such that those of at least it are `wanted`, or (`counts` is false) together reach it; the least
// weight of all if none is. Each pass divides what is left of the weights' bits by four.
__device__ __forceinline__ float Threshold(const float* weights, int vocab, bool counts, uint64_t wanted) {
  uint32_t low = kLeastWeight, high = kGreatestWeight + 1;
  while (high - low > 1) {
    const uint32_t step = (high - low + kTried) / (kTried + 1);
    uint64_t found[kTried] = {};
#pragma unroll 2
    for (int i = threadIdx.x; i < vocab; i += kThreads) {
      const float weight = weights[i];
      const uint32_t bits = BitsOf(weight);
      const uint64_t amount = counts ? 1 : FixedWeight(weight);
#pragma unroll
      for (int k = 0; k < kTried; k++) found[k] += bits >= low + (k + 1) * step ? amount : 0;
    }
    BlockSums<kTried>(found);
    const uint32_t from = low;
#pragma unroll
    for (int k = 0; k < kTried; k++) {
      const uint32_t tried = from + (k + 1) * step;
      if (tried >= high) break;
      if (found[k] < wanted) {
        high = tried;
      } else {
        low = tried;
      }
    }
  }
  return OfBits(low);
}

// The token at which the sum of the weights of at least `least`, in the order of the tokens, exceeds `target`. Each
// warp sums a part of the tokens, then each a part of that part.
__device__ __forceinline__ int32_t Walk(const float* weights, int vocab, float least, uint64_t target) {
  SHARED(uint64_t, of_warps, [kWarps]);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int begin = 0, end = vocab;
  while (end - begin > 32) {
    const int part = ((end - begin + kWarps - 1) / kWarps + 31) / 32 * 32;
    const int first = begin + warp * part;
    uint64_t sum = 0;
#pragma unroll 2
    for (int i = first + lane; i < min(first + part, end); i += 32) {
      if (weights[i] >= least) sum += FixedWeight(weights[i]);
    }
    sum = WarpSum(sum);
    if (lane == 0) of_warps[warp] = sum;
    __syncthreads();
    int found = 0;
    while (found < kWarps - 1 && target >= of_warps[found]) target -= of_warps[found++];
    begin += found * part;
    end = min(begin + part, end);
    __syncthreads();
  }
  for (int i = begin; i < end; i++) {
    const uint64_t weight = weights[i] >= least ? FixedWeight(weights[i]) : 0;
    if (target < weight) return i;
    target -= weight;
  }
  return -1;
}

// A token from logits, which become weights.
__device__ __forceinline__ int32_t Draw(float* weights, int vocab, float greatest, const TokenChoice& choice) {
  uint64_t sum = Weigh(weights, vocab, greatest, choice.scale, weights);
  float least = OfBits(kLeastWeight);
  if (choice.top_k > 0 && choice.top_k < vocab) {
    least = Threshold(weights, vocab, true, choice.top_k);
    sum = SumKept(weights, vocab, least);
  }
  if (choice.top_p != kAllOfThem) {
    least = fmaxf(least, Threshold(weights, vocab, false, PartOf(sum, choice.top_p)));
  }
  least = fmaxf(least, choice.min_p);
  sum = SumKept(weights, vocab, least);
  return Walk(weights, vocab, least, PartOf(sum, choice.draw));
}

// Logits with penalties, -infinity for tokens that are not allowed.
template <typename T>
__device__ __forceinline__ void Adjust(const T* logits, int vocab, const TokenChoice& choice, const int32_t* words,
                                       float* adjusted) {
#pragma unroll 2
  for (int i = threadIdx.x; i < vocab; i += kThreads) {
    const bool allowed = choice.mask < 0 || (words[choice.mask + i / 32] >> (i % 32) & 1) != 0;
    adjusted[i] = allowed ? ToFloat(logits[i]) : -INFINITY;
  }
  __syncthreads();
  const int32_t* list = words + choice.penalties;
#pragma unroll 2
  for (int i = threadIdx.x; i < choice.penalty_count; i += kThreads) {
    float* logit = adjusted + list[2 * i];
    *logit = Penalised(*logit, choice.repetition, __int_as_float(list[2 * i + 1]));
  }
  __syncthreads();
}

template <typename T>
__device__ __forceinline__ int32_t Choose(const T* logits, int vocab, Greatest greatest, const TokenChoice& choice,
                                          const int32_t* words, float* scratch) {
  if (choice.given >= 0) return choice.given;
  const bool draws = choice.scale != 0.0f;
  const bool changed = choice.mask >= 0 || choice.penalty_count > 0;
  if (draws || changed) Adjust(logits, vocab, choice, words, scratch);
  if (changed) greatest = FirstGreatest<float>(scratch, vocab);
  if (greatest.id < 0 || !draws) return greatest.id;
  return Draw(scratch, vocab, greatest.logit, choice);
}

// The most probable tokens after some: the next one of those that follow `last` in the order of logits and ids.
template <typename T>
__device__ __forceinline__ Greatest NextGreatest(const T* logits, int vocab, Greatest last) {
  Greatest own;
#pragma unroll 2
  for (int i = threadIdx.x; i < vocab; i += kThreads) {
    const float logit = ToFloat(logits[i]);
    const bool follows = logit < last.logit || (logit == last.logit && i > last.id);
    if (follows && logit > own.logit) {
      own.logit = logit;
      own.id = i;
    }
  }
  return BlockGreatest(own);
}

template <typename T>
__device__ __forceinline__ void SampleToken(const T* __restrict__ all_logits, const int32_t* __restrict__ words,
                                            int vocab, int top, float* all_scratch, int32_t* __restrict__ results) {
  const int64_t row = blockIdx.x;
  const TokenChoice choice = reinterpret_cast<const TokenChoice*>(words)[row];
  const T* logits = all_logits + row * vocab;
  int32_t* result = results + row * (kResultWords + 2 * top);
  const Greatest greatest = FirstGreatest(logits, vocab);
  int32_t id = -1;
  if (greatest.id >= 0) id = Choose(logits, vocab, greatest, choice, words, all_scratch + row * vocab);
  const bool scores = id >= 0 && choice.scored != 0;
  uint64_t sum = 0;
  if (scores) sum = Weigh(logits, vocab, greatest.logit, kLog2E, static_cast<float*>(nullptr));
  if (threadIdx.x == 0) {
    result[0] = id;
    result[1] = static_cast<int32_t>(sum);
    result[2] = static_cast<int32_t>(sum >> 32);
    result[3] = scores ? static_cast<int32_t>(BitsOf(Less(greatest.logit, ToFloat(logits[id])))) : 0;
  }
  Greatest last;
  last.logit = INFINITY;
  for (int place = 0; place < top; place++) {
    if (scores) last = NextGreatest(logits, vocab, last);
    if (threadIdx.x == 0) {
      result[kResultWords + 2 * place] = scores ? last.id : 0;
      result[kResultWords + 2 * place + 1] =
          scores ? static_cast<int32_t>(BitsOf(Less(greatest.logit, last.logit))) : 0;
    }
  }
}

}  // namespace

#define SAMPLE_TOKENS(NAME, T)                                                                            \
  extern "C" __global__ void __launch_bounds__(kThreads, 1)                                               \
      NAME(const T* logits, const int32_t* words, int vocab, int top, float* scratch, int32_t* results) { \
    SampleToken<T>(logits, words, vocab, top, scratch, results);                                          \
  }                                                                                                       \
  EXPORT_KERNEL(NAME)

SAMPLE_TOKENS(SampleTokensFloat32, float)
SAMPLE_TOKENS(SampleTokensBFloat16, bf16)
