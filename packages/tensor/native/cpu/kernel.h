// A thin layer over TensorFlow's C kernel API: an op is its definition and a class for each kind of kernel.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/number.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_datatype.h"
#include "tensorflow/c/tf_tensor.h"

namespace lorasmith {

// The attributes of an op, which a kernel reads by name when it is made.
class Attributes {
 public:
  explicit Attributes(TF_OpKernelConstruction* construction) : construction_(construction), status_(TF_NewStatus()) {}
  ~Attributes() { TF_DeleteStatus(status_); }
  Attributes(const Attributes&) = delete;

  int64_t Int(const char* name) const {
    int64_t value = 0;
    TF_OpKernelConstruction_GetAttrInt64(construction_, name, &value, status_);
    FailOnError();
    return value;
  }

  float Float(const char* name) const {
    float value = 0;
    TF_OpKernelConstruction_GetAttrFloat(construction_, name, &value, status_);
    FailOnError();
    return value;
  }

  bool Bool(const char* name) const {
    TF_Bool value = 0;
    TF_OpKernelConstruction_GetAttrBool(construction_, name, &value, status_);
    FailOnError();
    return value != 0;
  }

  TF_DataType Type(const char* name) const {
    TF_DataType value = TF_FLOAT;
    TF_OpKernelConstruction_GetAttrType(construction_, name, &value, status_);
    FailOnError();
    return value;
  }

  std::vector<int64_t> Ints(const char* name) const {
    std::vector<int64_t> values(ListSize(name));
    TF_OpKernelConstruction_GetAttrInt64List(construction_, name, values.data(), static_cast<int>(values.size()),
                                             status_);
    FailOnError();
    return values;
  }

  std::vector<float> Floats(const char* name) const {
    std::vector<float> values(ListSize(name));
    TF_OpKernelConstruction_GetAttrFloatList(construction_, name, values.data(), static_cast<int>(values.size()),
                                             status_);
    FailOnError();
    return values;
  }

 private:
  int32_t ListSize(const char* name) const {
    int32_t size = 0;
    int32_t total_size = 0;
    TF_OpKernelConstruction_GetAttrSize(construction_, name, &size, &total_size, status_);
    FailOnError();
    return size < 0 ? 0 : size;
  }

  void FailOnError() const {
    if (TF_GetCode(status_) != TF_OK) TF_OpKernelConstruction_Failure(construction_, status_);
  }

  TF_OpKernelConstruction* construction_;
  TF_Status* status_;
};

// What a kernel computes with: its inputs, and outputs that it allocates.
class Context {
 public:
  explicit Context(TF_OpKernelContext* context) : context_(context), status_(TF_NewStatus()) {}
  ~Context() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }
  Context(const Context&) = delete;

  // The input's data; null if it has no elements, or after a failure.
  template <typename Number>
  const Number* Input(int index) {
    TF_Tensor* tensor = Tensor(index);
    return tensor == nullptr ? nullptr : static_cast<const Number*>(DataOf(tensor));
  }

  int64_t Dim(int index, int axis) {
    TF_Tensor* tensor = Tensor(index);
    if (tensor == nullptr || axis >= TF_NumDims(tensor)) return 0;
    return TF_Dim(tensor, axis);
  }

  int64_t Size(int index) {
    TF_Tensor* tensor = Tensor(index);
    return tensor == nullptr ? 0 : TF_TensorElementCount(tensor);
  }

  int InputCount() const { return TF_NumInputs(context_); }

  std::vector<int64_t> Shape(int index) {
    TF_Tensor* tensor = Tensor(index);
    std::vector<int64_t> shape(tensor == nullptr ? 0 : TF_NumDims(tensor));
    for (size_t axis = 0; axis < shape.size(); axis++) shape[axis] = TF_Dim(tensor, static_cast<int>(axis));
    return shape;
  }

  template <typename Number>
  Number* Output(int index, const std::vector<int64_t>& shape) {
    int64_t elements = 1;
    for (int64_t dimension : shape) elements *= dimension;
    TF_Tensor* tensor = TF_AllocateOutput(context_, index, TF_ExpectedOutputDataType(context_, index), shape.data(),
                                          static_cast<int>(shape.size()), elements * sizeof(Number), status_);
    if (TF_GetCode(status_) != TF_OK || tensor == nullptr) {
      Fail();
      return nullptr;
    }
    tensors_.push_back(tensor);
    return static_cast<Number*>(DataOf(tensor));
  }

  // Memory for this op alone, where its outputs are; null after a failure.
  template <typename Number>
  Number* Scratch(int64_t elements) {
    const int64_t bytes = elements * static_cast<int64_t>(sizeof(Number));
    TF_AllocatorAttributes attributes{TF_ALLOCATOR_ATTRIBUTES_STRUCT_SIZE, 0};
    TF_Tensor* tensor = TF_AllocateTemp(context_, TF_UINT8, &bytes, 1, &attributes, status_);
    if (TF_GetCode(status_) != TF_OK || tensor == nullptr) {
      Fail();
      return nullptr;
    }
    tensors_.push_back(tensor);
    return static_cast<Number*>(DataOf(tensor));
  }

  // The output is the input, without a copy.
  void Forward(int input, int output) {
    TF_Tensor* tensor = Tensor(input);
    if (tensor == nullptr) return;
    TF_SetOutput(context_, output, tensor, status_);
    if (TF_GetCode(status_) != TF_OK) Fail();
  }

  // The output has the input's bytes, without a copy, as another type and shape of the same size.
  void ForwardAs(int input, int output, TF_DataType type, const std::vector<int64_t>& shape) {
    TF_Tensor* tensor = Tensor(input);
    if (tensor == nullptr) return;
    TF_Tensor* result = TF_AllocateTensor(type, nullptr, 0, TF_DataTypeSize(type));
    TF_TensorBitcastFrom(tensor, type, result, shape.data(), static_cast<int>(shape.size()), status_);
    if (TF_GetCode(status_) == TF_OK) TF_SetOutput(context_, output, result, status_);
    TF_DeleteTensor(result);
    if (TF_GetCode(status_) != TF_OK) Fail();
  }

  // The output is this tensor, which the context takes over.
  void SetOutput(int output, TF_Tensor* tensor) {
    TF_SetOutput(context_, output, tensor, status_);
    TF_DeleteTensor(tensor);
    if (TF_GetCode(status_) != TF_OK) Fail();
  }

  // Ends the op with an error unless the condition holds.
  bool Check(bool condition, const char* message) {
    if (!condition) Fail(TF_INVALID_ARGUMENT, message);
    return !failed_;
  }

  // Ends the op with an error. Later ones change nothing.
  void Fail(TF_Code code, const std::string& message) {
    if (failed_) return;
    TF_SetStatus(status_, code, message.c_str());
    Fail();
  }

  bool failed() const { return failed_; }

 private:
  // TensorFlow has an address for an empty tensor, too, which is nobody's.
  static void* DataOf(TF_Tensor* tensor) { return TF_TensorByteSize(tensor) == 0 ? nullptr : TF_TensorData(tensor); }

  TF_Tensor* Tensor(int index) {
    if (static_cast<size_t>(index) >= inputs_.size()) inputs_.resize(index + 1, nullptr);
    if (inputs_[index] == nullptr && !failed_) {
      TF_GetInput(context_, index, &inputs_[index], status_);
      if (TF_GetCode(status_) != TF_OK) {
        Fail();
        inputs_[index] = nullptr;
      } else {
        tensors_.push_back(inputs_[index]);
      }
    }
    return inputs_[index];
  }

  void Fail() {
    failed_ = true;
    TF_OpKernelContext_Failure(context_, status_);
  }

  TF_OpKernelContext* context_;
  TF_Status* status_;
  std::vector<TF_Tensor*> inputs_;
  std::vector<TF_Tensor*> tensors_;
  bool failed_ = false;
};

// A type attribute of an op, such as T, and the type that a kernel takes.
struct TypeConstraint {
  const char* attribute;
  TF_DataType type;
};

// An implementation of an op for one device and some element types; the functions are TensorFlow's callbacks.
struct KernelDefinition {
  const char* device;
  std::vector<TypeConstraint> types;
  // Inputs and outputs that are in the host's memory though the kernel runs on a GPU.
  std::vector<const char*> host_memory;
  void* (*create)(TF_OpKernelConstruction*);
  void (*compute)(void* kernel, TF_OpKernelContext*);
  void (*destroy)(void* kernel);
};

// Makes a definition from a class with `void Compute(Context&) const`. Its constructor takes Attributes, or nothing.
template <typename Kernel>
KernelDefinition KernelOn(const char* device, std::vector<TypeConstraint> types,
                          std::vector<const char*> host_memory = {}) {
  KernelDefinition definition{device, std::move(types), std::move(host_memory), nullptr, nullptr, nullptr};
  definition.create = [](TF_OpKernelConstruction* construction) -> void* {
    if constexpr (std::is_default_constructible_v<Kernel>) {
      return new Kernel();
    } else {
      return new Kernel(Attributes(construction));
    }
  };
  definition.compute = [](void* kernel, TF_OpKernelContext* tf_context) {
    Context context(tf_context);
    static_cast<const Kernel*>(kernel)->Compute(context);
  };
  definition.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  return definition;
}

// A kernel for one element type T.
template <typename Kernel>
KernelDefinition KernelOn(const char* device, TF_DataType type) {
  return KernelOn<Kernel>(device, std::vector<TypeConstraint>{{"T", type}});
}

// Registers a kernel. Empty on success, else what went wrong.
inline std::string RegisterKernel(const char* op, const KernelDefinition& kernel) {
  TF_Status* status = TF_NewStatus();
  TF_KernelBuilder* builder = TF_NewKernelBuilder(op, kernel.device, kernel.create, kernel.compute, kernel.destroy);
  std::string name = std::string(op) + kernel.device;
  for (const TypeConstraint& constraint : kernel.types) {
    TF_KernelBuilder_TypeConstraint(builder, constraint.attribute, constraint.type, status);
    name += std::string("_") + constraint.attribute + std::to_string(constraint.type);
    if (TF_GetCode(status) != TF_OK) break;
  }
  for (const char* argument : kernel.host_memory) TF_KernelBuilder_HostMemory(builder, argument);
  std::string problem;
  if (TF_GetCode(status) == TF_OK) {
    TF_RegisterKernelBuilder(name.c_str(), builder, status);
  } else {
    TF_DeleteKernelBuilder(builder);
  }
  if (TF_GetCode(status) != TF_OK) problem = TF_Message(status);
  TF_DeleteStatus(status);
  return problem;
}

// The kernels of a class template for both element types, on the processor.
template <template <typename Number> class Kernel>
std::vector<KernelDefinition> CpuKernels() {
  return {KernelOn<Kernel<float>>("CPU", TF_FLOAT), KernelOn<Kernel<BFloat16>>("CPU", TF_BFLOAT16)};
}

// An op of TensorFlow's registry. Inputs, outputs and attributes are in TensorFlow's form ("x: T", "epsilon: float").
struct OpDefinition {
  const char* name;
  std::vector<const char*> inputs;
  std::vector<const char*> outputs;
  std::vector<const char*> attributes;
  std::vector<KernelDefinition> kernels;
  const char* element_types = "T: {float, bfloat16}";
};

// The ops of this library, each defined beside its kernels.
std::vector<OpDefinition> ActivationOps();
std::vector<OpDefinition> AdamWOps();
std::vector<OpDefinition> AdoptOps();
std::vector<OpDefinition> NormOps();
std::vector<OpDefinition> GatedUnitOps();
std::vector<OpDefinition> ClampedUnitOps();
std::vector<OpDefinition> AttentionOps();
std::vector<OpDefinition> CachedAttentionOps();
std::vector<OpDefinition> CausalConvolutionOps();
std::vector<OpDefinition> CrossEntropyOps();
std::vector<OpDefinition> DequantizeOps();
std::vector<OpDefinition> DropoutOps();
std::vector<OpDefinition> GatedDeltaOps();
std::vector<OpDefinition> GatedDeltaGradientOps();
std::vector<OpDefinition> GatheredSumOps();
std::vector<OpDefinition> LoraOps();
std::vector<OpDefinition> LoraForwardOps();
std::vector<OpDefinition> LoraBackwardOps();
std::vector<OpDefinition> ProductOps();  // without kernels on processors that have no AVX-512
std::vector<OpDefinition> MergedWeightOps();
std::vector<OpDefinition> SampleTokensOps();
std::vector<OpDefinition> ToDeviceOps();

}  // namespace lorasmith
