#include "memory.h"

#include <sys/mman.h>

#include <cstdint>

namespace lorasmith {
namespace {

// The size of huge pages on x64, and the common one on arm64.
constexpr size_t kHugePage = size_t{2} << 20;

struct Mapping {
  void* start;
  size_t bytes;
};

void Unmap(napi_env, void*, void* hint) {
  auto* mapping = static_cast<Mapping*>(hint);
  munmap(mapping->start, mapping->bytes);
  delete mapping;
}

}  // namespace

napi_value Allocate(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  int64_t bytes = 0;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_value_int64(env, argument, &bytes);
  // From the system: pages that nobody has touched are zeros, and cost nothing until they are used.
  const size_t size = bytes > 0 ? static_cast<size_t>(bytes) : 1;
  const size_t mapped = size >= kHugePage ? size + kHugePage : size;
  void* start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    napi_throw_range_error(env, "ENOMEM", "the system has no memory for this array");
    return nullptr;
  }
  auto address = reinterpret_cast<uintptr_t>(start);
  if (size >= kHugePage) {
    address = (address + kHugePage - 1) / kHugePage * kHugePage;
    madvise(reinterpret_cast<void*>(address), size, MADV_HUGEPAGE);
  }
  auto* mapping = new Mapping{start, mapped};
  void* data = reinterpret_cast<void*>(address);
  if (napi_create_external_arraybuffer(env, data, static_cast<size_t>(bytes), &Unmap, mapping, &result) != napi_ok) {
    Unmap(env, nullptr, mapping);
    napi_throw_error(env, nullptr, "this Node has no external array buffers");
    return nullptr;
  }
  return result;
}

}  // namespace lorasmith
