// Sums of gathered rows on a GPU: gathered_sum.cu. What they are is in gathered_sum.cc; a place where
// there is no row gives NaN instead of an error.
#include "cuda/host/launch.h"
#include "ops/gathered_sum/gathered_sum_operands.h"

namespace lorasmith::cuda {
namespace {

template <typename Number>
const Kernel<void(const Number* x, const int32_t* places, int64_t rows, int64_t width, int32_t count, Number* result)>
    kGatheredSum{"gathered_sum", "GatheredSum" + TypeName<Number>()};

template <typename Number>
struct GatheredSum {
  explicit GatheredSum(const Attributes& attributes) : count(attributes.Int("count")) {}

  void Compute(Context& context) const {
    const GatheredSumOperands<Number> o(context, count);
    kGatheredSum<Number>.Launch(context, {o.width == 0 ? 0 : o.sums}, ThreadsOfRow<Number>(o.width), 0, o.x, o.places,
                                o.rows, o.width, static_cast<int32_t>(count), o.result);
  }

  int64_t count;
};

const GpuOps kOps{{"LorasmithGatheredSum", GpuKernels<GatheredSum>()}};

}  // namespace
}  // namespace lorasmith::cuda
