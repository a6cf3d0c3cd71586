#include "region.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

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

namespace {

constexpr napi_type_tag kTag{0x6c6f7261736d6974, 0x682d726567696f6e};

void Delete(napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Region>*>(data); }

}  // namespace

Region::Region(size_t bytes) : bytes_(bytes), data_(static_cast<char*>(MapMemory(bytes > 0 ? bytes : 1))) {
  if (data_ == nullptr) throw std::bad_alloc();
}

Region::~Region() { Release(); }

void Region::Release() {
  if (data_ != nullptr) munmap(data_, bytes_ > 0 ? bytes_ : 1);
  data_ = nullptr;
}

std::shared_ptr<Region> RegionOf(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  bool is_region = false;
  void* data = nullptr;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_external) return nullptr;
  if (napi_check_object_type_tag(env, value, &kTag, &is_region) != napi_ok || !is_region) return nullptr;
  napi_get_value_external(env, value, &data);
  return *static_cast<std::shared_ptr<Region>*>(data);
}

napi_value CreateRegion(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  int64_t bytes = 0;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_value_int64(env, argument, &bytes);
  try {
    auto region = std::make_unique<std::shared_ptr<Region>>(std::make_shared<Region>(static_cast<size_t>(bytes)));
    napi_create_external(env, region.get(), &Delete, nullptr, &result);
    region.release();
    napi_type_tag_object(env, result, &kTag);
    return result;
  } catch (const std::bad_alloc&) {
    napi_throw_range_error(env, "ENOMEM", "failed to allocate memory for weights");
    return nullptr;
  }
}

napi_value GiveAway(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  const std::shared_ptr<Region> region = RegionOf(env, argument);
  // Two: the value's, and the one above.
  if (region == nullptr || region->data() == nullptr || region.use_count() > 2) {
    napi_throw_error(env, nullptr, "no region, or one that was given away or is being read into");
    return nullptr;
  }
  napi_create_bigint_uint64(env, reinterpret_cast<uintptr_t>(region->data()), &result);
  region->GiveAway();
  return result;
}

}  // namespace lorasmith
