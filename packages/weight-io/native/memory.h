#pragma once

#include <node_api.h>

namespace lorasmith {

// allocate(bytes: number): ArrayBuffer
napi_value Allocate(napi_env env, napi_callback_info info);

}  // namespace lorasmith
