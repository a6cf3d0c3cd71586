#pragma once

#include <node_api.h>

namespace lorasmith {

// quantizeScales(regions: [scales, codes, nestedScales], counts: Float64Array, offset: number | null):
// Promise<Float32Array>, the offset of each of the weights whose scales lie one behind the other. The memory of the
// float32 scales is released.
napi_value QuantizeScalesOfWeights(napi_env env, napi_callback_info info);

// quantizationTables(): Float32Array, the 16 numbers of NF4, the 256 of a scale, and the 256 without a sign.
napi_value QuantizationTables(napi_env env, napi_callback_info info);

// quantizeNumbers(instructions: string, dtype: number, numbers: Uint8Array, codes: Uint8Array, scales: Float32Array):
// boolean, whether this processor has the instructions. For tests: `dtype` is a StoredDtype, sizes are not checked.
napi_value QuantizeNumbersWith(napi_env env, napi_callback_info info);

// quantizers(): string[], the instruction sets that numbers can be quantized with, best first.
napi_value GetQuantizers(napi_env env, napi_callback_info info);

}  // namespace lorasmith
