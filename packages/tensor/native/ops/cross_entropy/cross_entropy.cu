// Cross entropy of the label's class and its gradient, in float32: logits [rows, classes], labels [rows] → loss [rows],
// gradient [rows, classes], correct [rows]: 1 where argmax is the label, else 0 (not written if it is null). One block
// for each row. A label that is not among the classes gives NaN, and is not correct.
#include "cuda/kernels/number.cuh"

namespace {

constexpr int kThreads = 256;
// Below this the ratio others / own would overflow or lose digits.
constexpr float kTiny = 1e-20f;
constexpr float kLargest = 3.4028234663852886e38f;

// The greatest of some logits, and the sum of exp(logit - greatest) over them.
struct Exponentials {
  float greatest = -kLargest;  // finite, so that a logit of -infinity has an exponential of 0
  float sum = 0.0f;

  __device__ __forceinline__ void Raise(float to) {
    if (to > greatest) {
      sum *= expf(greatest - to);
      greatest = to;
    }
  }
};

template <typename T, int N>
__device__ __forceinline__ void CrossEntropy(const T* __restrict__ logits, const int32_t* __restrict__ labels,
                                             int64_t classes, float* __restrict__ loss, T* __restrict__ gradient,
                                             float* __restrict__ correct) {
  const int64_t row = blockIdx.x;
  const T* from = logits + row * classes;
  T* to = gradient + row * classes;
  const int64_t label = labels[row];
  const bool known = label >= 0 && label < classes;
  // The label's class is summed separately: loss and gradient stay exact when its probability is near 1.
  Exponentials others;
  for (int64_t i = threadIdx.x * N; i < classes; i += kThreads * N) {
    const Pack<T, N> value = LoadPack<N>(from + i);
    float greatest = ToFloat(value.at[0]);
#pragma unroll
    for (int k = 1; k < N; k++) greatest = fmaxf(greatest, ToFloat(value.at[k]));
    others.Raise(greatest);
#pragma unroll
    for (int k = 0; k < N; k++) {
      if (i + k != label) others.sum += expf(ToFloat(value.at[k]) - others.greatest);
    }
  }
  const float greatest = BlockMax(others.greatest);
  others.Raise(greatest);
  const float sum_of_others = BlockSum(others.sum);
  const float of_label = known ? ToFloat(from[label]) : NAN;
  const float own = expf(of_label - greatest);
  const float sum = sum_of_others + own;
  const float inverse = 1.0f / sum;
  float precedes = 0.0f;  // 1 where a class before the label has the greatest logit, too: argmax is the first
  for (int64_t i = threadIdx.x * N; i < classes; i += kThreads * N) {
    const Pack<T, N> value = LoadPack<N>(from + i);
    Pack<T, N> result;
#pragma unroll
    for (int k = 0; k < N; k++) {
      const float own_or_other = i + k == label ? -sum_of_others : expf(ToFloat(value.at[k]) - greatest);
      result.at[k] = Round<T>(own_or_other * inverse);
      if (i + k < label && ToFloat(value.at[k]) == greatest) precedes = 1.0f;
    }
    StorePack(result, to + i);
  }
  if (correct != nullptr) {
    const bool is_first = BlockMax(precedes) == 0.0f && of_label == greatest;
    if (threadIdx.x == 0) correct[row] = is_first ? 1.0f : 0.0f;
  }
  if (threadIdx.x == 0) {
    // A NaN or an infinity among the logits has made the sum NaN.
    loss[row] = own > kTiny ? log1pf(sum_of_others / own) : greatest + logf(sum) - of_label;
  }
}

}  // namespace

#define CROSS_ENTROPY(NAME, T)                                                                                         \
  extern "C" __global__ void __launch_bounds__(kThreads) NAME(const T* logits, const int32_t* labels, int64_t classes, \
                                                              int packed, float* loss, T* gradient, float* correct) {  \
    if (packed) {                                                                                                      \
      CrossEntropy<T, 16 / sizeof(T)>(logits, labels, classes, loss, gradient, correct);                               \
    } else {                                                                                                           \
      CrossEntropy<T, 1>(logits, labels, classes, loss, gradient, correct);                                            \
    }                                                                                                                  \
  }                                                                                                                    \
  EXPORT_KERNEL(NAME)

CROSS_ENTROPY(CrossEntropyFloat32, float)
CROSS_ENTROPY(CrossEntropyBFloat16, bf16)
