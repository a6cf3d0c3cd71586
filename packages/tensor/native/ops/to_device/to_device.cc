// Memory of the host as tensors where ops compute.
#include <sys/mman.h>

#include "cpu/kernel.h"

namespace lorasmith {
namespace {

// Keeps a tensor of whole numbers there. On a processor it is there already; see to_device_cuda.cc.
struct ToDevice {
  void Compute(Context& context) const { context.Forward(0, 0); }
};

}  // namespace

std::vector<OpDefinition> ToDeviceOps() {
  return {
      {"LorasmithToDevice", {"x: T"}, {"y: T"}, {}, {KernelOn<ToDevice>("CPU", TF_INT32)}, "T: {int32}"},
  };
}

namespace {

int64_t Joined(const int32_t* halves) {
  const uint64_t low = static_cast<uint32_t>(halves[0]);
  return static_cast<int64_t>(low | static_cast<uint64_t>(static_cast<uint32_t>(halves[1])) << 32);
}

// Makes a tensor of memory that the caller has filled, without a copy. TensorFlow's binding copies a typed array of
// Node that is not aligned, and frees one that is aligned only when it is collected.
//
// memory [4 + dimensions]: address and bytes of a mapping, each in two halves, the lower first; then the tensor's
// shape. The tensor owns the mapping from then on.
struct Adopt {
  void Compute(Context& context) const {
    const int64_t count = context.Size(0);
    const auto* numbers = context.Input<int32_t>(0);
    if (!context.Check(count >= 4, "an address, a size and a shape are needed")) return;
    auto* memory = reinterpret_cast<void*>(Joined(numbers));
    const auto bytes = static_cast<size_t>(Joined(numbers + 2));
    const auto unmap = [](void* data, size_t, void* mapped) { munmap(data, reinterpret_cast<size_t>(mapped)); };
    const std::vector<int64_t> shape(numbers + 4, numbers + count);
    void* mapped = reinterpret_cast<void*>(bytes > 0 ? bytes : 1);
    context.SetOutput(
        0, TF_NewTensor(TF_UINT8, shape.data(), static_cast<int>(shape.size()), memory, bytes, unmap, mapped));
  }
};

}  // namespace

std::vector<OpDefinition> AdoptOps() {
  return {{"LorasmithAdopt", {"memory: int32"}, {"tensor: T"}, {}, {KernelOn<Adopt>("CPU", TF_UINT8)}, "T: {uint8}"}};
}

}  // namespace lorasmith
