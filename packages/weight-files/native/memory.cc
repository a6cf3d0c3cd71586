#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace lorasmith {

void* MapMemory(size_t bytes) {
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return start == MAP_FAILED ? nullptr : start;
}

void Populate(void* memory, size_t bytes) {
  // MADV_POPULATE_WRITE of Linux 5.14, which the headers of older systems lack.
  constexpr int kPopulateWrite = 23;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(memory) / page * page;
  madvise(reinterpret_cast<void*>(begin), reinterpret_cast<uintptr_t>(memory) + bytes - begin, kPopulateWrite);
}

}  // namespace lorasmith
