#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace lorasmith {
namespace {

// The size of huge pages on x64, and the common one on arm64.
constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

void* MapMemory(size_t bytes) {
  const bool huge = bytes >= kHugePage;
  const size_t mapped = huge ? bytes + kHugePage : bytes;
  void* start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  if (!huge) return start;
  const auto address = reinterpret_cast<uintptr_t>(start);
  const size_t before = (kHugePage - address % kHugePage) % kHugePage;
  char* memory = static_cast<char*>(start) + before;
  if (before > 0) munmap(start, before);
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t used = (bytes + page - 1) / page * page;
  if (before + used < mapped) munmap(memory + used, mapped - before - used);
  madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

}  // namespace lorasmith
