#include <memory>

#include "kernel.h"

namespace lorasmith {
namespace {

// TensorFlow's callbacks get no data of ours but what a kernel's own construction returns, so the function to run and the
// names of the attributes are found by the op's name and type here. Entries live as long as the process.
struct Kernel {
  Attributes attributes;
  void (*compute)(Context&);
};

void Compute(void* kernel, TF_OpKernelContext* tf_context) {
  const Kernel* own = static_cast<const Kernel*>(kernel);
  Context context(tf_context, own->attributes);
  own->compute(context);
}

void Delete(void* kernel) { delete static_cast<Kernel*>(kernel); }

std::vector<std::unique_ptr<OpDefinition>>& Registered() {
  static auto* registered = new std::vector<std::unique_ptr<OpDefinition>>();
  return *registered;
}

void* Create(TF_OpKernelConstruction* construction) {
  TF_Status* status = TF_NewStatus();
  auto kernel = std::make_unique<Kernel>();
  int64_t which = 0;
  TF_OpKernelConstruction_GetAttrInt64(construction, "lorasmith_op", &which, status);
  TF_DataType type = TF_FLOAT;
  if (TF_GetCode(status) == TF_OK) TF_OpKernelConstruction_GetAttrType(construction, "T", &type, status);
  if (TF_GetCode(status) == TF_OK) {
    const OpDefinition& op = *Registered()[which];
    kernel->compute = type == TF_BFLOAT16 ? op.bfloat16 : op.float32;
    for (const char* attribute : op.ints) {
      int64_t value = 0;
      TF_OpKernelConstruction_GetAttrInt64(construction, attribute, &value, status);
      kernel->attributes.ints.push_back(value);
    }
    for (const char* attribute : op.floats) {
      float value = 0;
      TF_OpKernelConstruction_GetAttrFloat(construction, attribute, &value, status);
      kernel->attributes.floats.push_back(value);
    }
  }
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return kernel.release();
}

// Sizes are known when the op has run; nobody asks before.
void UnknownShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

std::string Message(TF_Status* status) {
  std::string message = TF_GetCode(status) == TF_OK ? "" : TF_Message(status);
  TF_DeleteStatus(status);
  return message;
}

std::string RegisterKernel(const OpDefinition& op, TF_DataType type) {
  TF_Status* status = TF_NewStatus();
  TF_KernelBuilder* builder = TF_NewKernelBuilder(op.name, "CPU", &Create, &Compute, &Delete);
  TF_KernelBuilder_TypeConstraint(builder, "T", type, status);
  if (TF_GetCode(status) == TF_OK) {
    const std::string kernel_name = std::string(op.name) + (type == TF_BFLOAT16 ? "BFloat16" : "Float32");
    TF_RegisterKernelBuilder(kernel_name.c_str(), builder, status);
  }
  return Message(status);
}

}  // namespace

std::string Register(const OpDefinition& op) {
  TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(op.name);
  TF_OpDefinitionBuilderAddAttr(builder, "T: {float, bfloat16}");
  const std::string which = "lorasmith_op: int = " + std::to_string(Registered().size());
  TF_OpDefinitionBuilderAddAttr(builder, which.c_str());
  for (const char* name : op.ints) TF_OpDefinitionBuilderAddAttr(builder, (std::string(name) + ": int").c_str());
  for (const char* name : op.floats) TF_OpDefinitionBuilderAddAttr(builder, (std::string(name) + ": float").c_str());
  for (const char* spec : op.inputs) TF_OpDefinitionBuilderAddInput(builder, spec);
  for (const char* spec : op.outputs) TF_OpDefinitionBuilderAddOutput(builder, spec);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, &UnknownShape);
  TF_Status* status = TF_NewStatus();
  TF_RegisterOpDefinition(builder, status);
  std::string problem = Message(status);
  if (!problem.empty()) return problem;
  Registered().push_back(std::make_unique<OpDefinition>(op));
  if (op.float32 != nullptr) problem = RegisterKernel(op, TF_FLOAT);
  if (problem.empty() && op.bfloat16 != nullptr) problem = RegisterKernel(op, TF_BFLOAT16);
  return problem;
}

}  // namespace lorasmith
