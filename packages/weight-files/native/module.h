// The functions of the addon: module.cc.
#pragma once

#include <node_api.h>

namespace lorasmith {

// createSha256(): Sha256
napi_value CreateSha256(napi_env env, napi_callback_info info);

// finishSha256(sha256: Sha256): string
napi_value FinishSha256(napi_env env, napi_callback_info info);

// readPieces(fd, begin, end, pieces: Float64Array, regions: Region[], sha256: Sha256 | null, threads): Promise<boolean>
//
// Reads pieces of a file between two offsets into regions. `pieces` has five numbers for each, in the order of the
// file: its offset in the file, its bytes, the index of its region, its offset in the region, and the number of its
// conversion. With a Sha256, all bytes from begin to end are added to it. False: the file ends before `end`.
napi_value ReadPieces(napi_env env, napi_callback_info info);

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

// writeMerged(options): Promise<string>, and mergeInstructions(): string[]. Their types are in src/addon.ts.
napi_value WriteMerged(napi_env env, napi_callback_info info);
napi_value GetMergeInstructions(napi_env env, napi_callback_info info);

}  // namespace lorasmith
