// Keeps a tensor of whole numbers where ops compute. On a processor it is there already; see cuda/host/to_device.cc.
#include "kernel.h"

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
