// A Node addon that, when it is required after TensorFlow's, registers this library's ops with it.
#include <node_api.h>

#include "kernel.h"

namespace {

napi_value Init(napi_env env, napi_value exports) {
  using namespace lorasmith;
  for (const auto& family : {NormOps(), SwiGluOps(), AttentionOps(), CrossEntropyOps(), ProductOps()}) {
    for (const OpDefinition& op : family) {
      const std::string problem = Register(op);
      if (problem.empty()) continue;
      napi_throw_error(env, nullptr, (std::string(op.name) + ": " + problem).c_str());
      return exports;
    }
  }
  return exports;
}

}  // namespace

NAPI_MODULE(lorasmith_ops, Init)
