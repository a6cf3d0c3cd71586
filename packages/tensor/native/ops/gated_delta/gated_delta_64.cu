#include "ops/gated_delta/gated_delta.cuh"

GATED_DELTA(Float32, float, 64)
GATED_DELTA(BFloat16, bf16, 64)
