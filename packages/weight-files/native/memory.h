#pragma once

#include <cstddef>

namespace lorasmith {

// Memory from the system: zeros, which cost nothing until they are used. It begins at a multiple of the page size. Null
// if there is none. munmap(memory, bytes) returns it. Huge pages are not asked for: on a virtual machine of two cores,
// the first load of a model in a process took several times the system time with them.
void* MapMemory(size_t bytes);

// Makes the pages of a part of it in one call, which is cheaper than a fault for each. It may do nothing.
void Populate(void* memory, size_t bytes);

}  // namespace lorasmith
