// The compiled kernels: native/build/cuda/<architecture>/NAME.cubin.gz, or compute_80/NAME.ptx.gz.
#pragma once

#include <string>

namespace lorasmith::cuda {

// The driver's handle of a module, which is loaded once. Null on failure, and `problem` says why.
void* LoadModule(const std::string& name, std::string* problem);

}  // namespace lorasmith::cuda
