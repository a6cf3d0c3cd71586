#pragma once

namespace lorasmith {

// The dtype of a weight in a file.
enum class StoredDtype { kFloat32, kFloat16, kBFloat16 };

}  // namespace lorasmith
