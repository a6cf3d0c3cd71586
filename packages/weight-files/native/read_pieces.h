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

}  // namespace lorasmith
