// The addon weight-files.node: weights between files and memory, on threads of its own.
#include "module.h"

#include <node_api.h>

#include "region.h"

namespace lorasmith {
namespace {

napi_value Init(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"createRegion", nullptr, &CreateRegion, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"giveAway", nullptr, &GiveAway, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"createSha256", nullptr, &CreateSha256, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"finishSha256", nullptr, &FinishSha256, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"readPieces", nullptr, &ReadPieces, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"quantizeScales", nullptr, &QuantizeScalesOfWeights, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"quantizationTables", nullptr, &QuantizationTables, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"quantizeNumbers", nullptr, &QuantizeNumbersWith, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"quantizers", nullptr, &GetQuantizers, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"writeMerged", nullptr, &WriteMerged, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"mergeInstructions", nullptr, &GetMergeInstructions, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
  return exports;
}

}  // namespace
}  // namespace lorasmith

NAPI_MODULE(lorasmith_weight_files, lorasmith::Init)
