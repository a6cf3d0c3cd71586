// The next token of some texts on a GPU: sample_tokens.cu. What it computes is in sample_tokens.cc. The
// choices are in the GPU's memory, so what they name cannot be checked here.
//
// Memory besides inputs and outputs: a float32 number for each logit.
#include "cuda/host/launch.h"
#include "ops/sample_tokens/sample_tokens_operands.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 1024;

template <typename Number>
const Kernel<void(const Number* logits, const int32_t* words, int vocab, int top, float* scratch, int32_t* results)>
    kSampleTokens{"sample_tokens", "SampleTokens" + TypeName<Number>()};

template <typename Number>
struct SampleTokens {
  explicit SampleTokens(const Attributes& attributes) : top(attributes.Int("top")) {}

  void Compute(Context& context) const {
    const SampleTokensOperands<Number> o(context, top);
    if (context.failed()) return;
    float* scratch = context.Scratch<float>(o.rows * o.vocab);
    if (context.failed()) return;
    kSampleTokens<Number>.Launch(context, {o.rows}, kThreads, 0, o.logits, o.choices, static_cast<int>(o.vocab),
                                 static_cast<int>(top), scratch, o.results);
  }

  int64_t top;
};

const GpuOps kOps{{"LorasmithSampleTokens", GpuKernels<SampleTokens>()}};

}  // namespace
}  // namespace lorasmith::cuda
