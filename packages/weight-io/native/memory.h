#pragma once

#include <cstddef>

namespace lorasmith {

// Memory from the system, in huge pages where it has them: zeros, which cost nothing until they are used. It begins at
// a multiple of the page size. Null if there is none. munmap(memory, bytes) returns it.
void* MapMemory(size_t bytes);

}  // namespace lorasmith
