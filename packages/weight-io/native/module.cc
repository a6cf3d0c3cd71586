// The addon weight-io.node: weights between files and memory, on threads of its own.
#include <node_api.h>

#include "hash_file.h"
#include "memory.h"
#include "write_merged.h"

namespace lorasmith {
namespace {

napi_value Init(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"allocate", nullptr, &Allocate, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"hashFile", nullptr, &HashFile, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"writeMerged", nullptr, &WriteMerged, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"mergeInstructions", nullptr, &GetMergeInstructions, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
  return exports;
}

}  // namespace
}  // namespace lorasmith

NAPI_MODULE(lorasmith_weight_io, lorasmith::Init)
