#pragma once

#include <node_api.h>

namespace lorasmith {

// writeMerged(options): Promise<string>, and mergeInstructions(): string[]. Their types are in src/addon.ts.
napi_value WriteMerged(napi_env env, napi_callback_info info);
napi_value GetMergeInstructions(napi_env env, napi_callback_info info);

}  // namespace lorasmith
