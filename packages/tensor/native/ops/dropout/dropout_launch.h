// Dropout on a GPU: dropout.cu.
#pragma once

#include "cuda/host/launch.h"
#include "ops/dropout/dropout.h"

namespace lorasmith::cuda {

// x [size] where the mask leaves it, added to the addend unless that is null; the result may be the addend.
template <typename Number>
void LaunchDropout(Context& context, const DropoutMask& mask, const Number* x, int64_t size, const Number* addend,
                   Number* result);

}  // namespace lorasmith::cuda
