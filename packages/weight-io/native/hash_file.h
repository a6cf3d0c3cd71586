#pragma once

#include <node_api.h>

namespace lorasmith {

// hashFile(fd: number): Promise<string>
napi_value HashFile(napi_env env, napi_callback_info info);

}  // namespace lorasmith
