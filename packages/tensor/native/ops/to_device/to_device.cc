// Keeps a tensor of whole numbers where ops compute. On a processor it is there already; see to_device_cuda.cc.
#include "cpu/kernel.h"

namespace lorasmith {
namespace {

struct ToDevice {
  void Compute(Context& context) const { context.Forward(0, 0); }
};

}  // namespace

std::vector<OpDefinition> ToDeviceOps() {
  return {
      {"LorasmithToDevice", {"x: T"}, {"y: T"}, {}, {KernelOn<ToDevice>("CPU", TF_INT32)}, "T: {int32}"},
  };
}

}  // namespace lorasmith
