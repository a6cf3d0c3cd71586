// A Node addon that registers this library's ops with TensorFlow. It must be loaded after TensorFlow's own addon.
#include <node_api.h>

#include "cpu/kernel.h"

namespace lorasmith {
namespace {

// Sizes are known when the op has run; nothing asks for them before.
void UnknownShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

std::string Message(TF_Status* status) {
  std::string message = TF_GetCode(status) == TF_OK ? "" : TF_Message(status);
  TF_DeleteStatus(status);
  return message;
}

// Registers the op and its kernels. Empty on success, else what went wrong.
std::string Register(const OpDefinition& op) {
  TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(op.name);
  TF_OpDefinitionBuilderAddAttr(builder, op.element_types);
  for (const char* attribute : op.attributes) TF_OpDefinitionBuilderAddAttr(builder, attribute);
  for (const char* input : op.inputs) TF_OpDefinitionBuilderAddInput(builder, input);
  for (const char* output : op.outputs) TF_OpDefinitionBuilderAddOutput(builder, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, &UnknownShape);
  TF_Status* status = TF_NewStatus();
  TF_RegisterOpDefinition(builder, status);
  std::string problem = Message(status);
  for (const KernelDefinition& kernel : op.kernels) {
    if (problem.empty()) problem = RegisterKernel(op.name, kernel);
  }
  return problem;
}

napi_value Init(napi_env env, napi_value exports) {
  for (const auto& family : {NormOps(),        ActivationOps(),        GatedUnitOps(),    ClampedUnitOps(),
                             AttentionOps(),   CachedAttentionOps(),   CrossEntropyOps(), LoraOps(),
                             LoraForwardOps(), LoraBackwardOps(),      DropoutOps(),      AdamWOps(),
                             ProductOps(),     MergedWeightOps(),      ToDeviceOps(),     AdoptOps(),
                             DequantizeOps(),  CausalConvolutionOps(), GatedDeltaOps(),   GatedDeltaGradientOps(),
                             GatheredSumOps(), SampleTokensOps()}) {
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
}  // namespace lorasmith

NAPI_MODULE(lorasmith_ops, lorasmith::Init)
