#pragma once

#include <string>

namespace lorasmith::cuda {

// Registers the opened device with TensorFlow, before TensorFlow lists its devices. Empty on success.
std::string LoadPlugin();

}  // namespace lorasmith::cuda
