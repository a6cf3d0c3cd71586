// A thin layer over TensorFlow's C kernel API: an op is its definition and one function over its inputs and outputs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "number.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_datatype.h"
#include "tensorflow/c/tf_tensor.h"

namespace lorasmith {

// The integer and float attributes of one op, read when its kernel is made.
struct Attributes {
  std::vector<int64_t> ints;
  std::vector<float> floats;
};

// What a kernel computes with: its inputs, and outputs it allocates.
class Context {
 public:
  Context(TF_OpKernelContext* context, const Attributes& attributes) : context_(context), attributes_(attributes) {
    status_ = TF_NewStatus();
  }
  ~Context() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
    TF_DeleteStatus(status_);
  }
  Context(const Context&) = delete;

  // The input's data; null after a failure.
  template <typename Number>
  const Number* Input(int index) {
    TF_Tensor* tensor = Tensor(index);
    return tensor == nullptr ? nullptr : static_cast<const Number*>(TF_TensorData(tensor));
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

  template <typename Number>
  Number* Output(int index, const std::vector<int64_t>& shape) {
    int64_t elements = 1;
    for (int64_t dimension : shape) elements *= dimension;
    TF_Tensor* tensor =
        TF_AllocateOutput(context_, index, TF_ExpectedOutputDataType(context_, index), shape.data(),
                          static_cast<int>(shape.size()), elements * sizeof(Number), status_);
    if (TF_GetCode(status_) != TF_OK || tensor == nullptr) {
      Fail();
      return nullptr;
    }
    tensors_.push_back(tensor);
    return static_cast<Number*>(TF_TensorData(tensor));
  }

  int64_t Int(int index) const { return attributes_.ints[index]; }
  float Float(int index) const { return attributes_.floats[index]; }

  // Ends the op with an error unless the condition holds.
  bool Check(bool condition, const char* message) {
    if (condition) return !failed_;
    if (!failed_) {
      TF_SetStatus(status_, TF_INVALID_ARGUMENT, message);
      Fail();
    }
    return false;
  }

  bool failed() const { return failed_; }

 private:
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
  const Attributes& attributes_;
  TF_Status* status_;
  std::vector<TF_Tensor*> inputs_;
  std::vector<TF_Tensor*> tensors_;
  bool failed_ = false;
};

// An op as TensorFlow's registry wants it. `T` is float or bfloat16, a null kernel leaves one out; the spec strings are
// TensorFlow's ("x: T").
struct OpDefinition {
  const char* name;
  std::vector<const char*> inputs;
  std::vector<const char*> outputs;
  std::vector<const char*> ints;
  std::vector<const char*> floats;
  void (*float32)(Context&);
  void (*bfloat16)(Context&);
};

// Registers the op and its CPU kernels. Empty on success, else what went wrong.
std::string Register(const OpDefinition& op);

// The ops of this library, each defined beside its kernels.
std::vector<OpDefinition> NormOps();
std::vector<OpDefinition> SwiGluOps();
std::vector<OpDefinition> AttentionOps();
std::vector<OpDefinition> CrossEntropyOps();
std::vector<OpDefinition> ProductOps();  // none where the processor multiplies no bfloat16

}  // namespace lorasmith
