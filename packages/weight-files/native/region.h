// Memory that weights are read into, until the engine takes it over.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <memory>

namespace lorasmith {

// Memory from the system: zeros, which cost nothing until they are used. It begins at a multiple of the page size. Null
// if there is none. munmap(memory, bytes) returns it. Huge pages are not asked for: on a virtual machine of two cores,
// the first load of a model in a process took several times the system time with them.
void* MapMemory(size_t bytes);

// Makes the pages of a part of it in one call, which is cheaper than a fault for each. It may do nothing.
void Populate(void* memory, size_t bytes);

// From MapMemory. Returned to the system with the last reference, unless it was given away.
class Region {
 public:
  explicit Region(size_t bytes);  // throws std::bad_alloc
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  // The caller returns the memory to the system.
  void GiveAway() { data_ = nullptr; }

  // Returns the memory to the system before the last reference is gone.
  void Release();

 private:
  size_t bytes_;
  char* data_;
};

// Of a value of createRegion; null for another value.
std::shared_ptr<Region> RegionOf(napi_env env, napi_value value);

// createRegion(bytes: number): Region
napi_value CreateRegion(napi_env env, napi_callback_info info);

// giveAway(region: Region): bigint, the address of its memory. munmap(address, bytes) is then the caller's to call.
napi_value GiveAway(napi_env env, napi_callback_info info);

}  // namespace lorasmith
