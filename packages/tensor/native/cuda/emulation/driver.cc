// libcuda.so.1 without a card: memory is the host's, and kernels run in the emulation. What opens it cannot tell the
// difference, so the code that a GPU will run is tested as it is.
//
// It refuses what the driver refuses: modules that are not for its architecture, launches beyond CUDA's limits or a
// kernel's launch bounds, copies beyond an allocation, calls from a thread without a context. Copies from pinned memory
// run as late as they may. And it notices what a card would not: pointers of kernels that are not into its memory, and
// writes just beyond an allocation. Fresh and freed memory is NaN.
//
// The state of the card, and the settings by which it behaves: card.h.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/emulation/card.h"
#include "cuda/emulation/registry.h"
#include "cuda/emulation/work.h"

namespace {

using namespace emulation::card;

#define RETURN_UNLESS_READY()                    \
  const std::lock_guard<std::mutex> lock(mutex); \
  if (const Result ready = Ready(); ready != kSuccess) return ready

// What is enqueued after uploads, or waits for them.
#define RETURN_UNLESS_READY_WITH_UPLOADS() \
  RETURN_UNLESS_READY();                   \
  RunUploads()

// Notes the work of a launch that has run, where that is asked for.
void NoteWork(const std::string& kernel, uint64_t work) {
  const std::string file = Setting("WORK_FILE", "");
  if (!file.empty()) std::ofstream(file, std::ios::app) << kernel << ' ' << work << '\n';
}

// Machine code runs on cards of its major version with the same or a later minor one.
Result CheckCubin(const std::string& image) {
  const int architecture = emulation::CubinArchitecture(image);
  if (architecture == 0) return kInvalidImage;
  const bool fits = architecture / 10 == settings.capability_major && architecture % 10 <= settings.capability_minor;
  return fits ? kSuccess : kNoBinary;
}

// PTX that this driver compiles for this card? It knows the versions up to its own CUDA's.
Result CheckPtx(const std::string& image, int driver_version) {
  int major = 0, minor = 0, target = 0;
  const size_t version_at = image.find(".version"), target_at = image.find(".target");
  if (version_at == std::string::npos || target_at == std::string::npos) return kInvalidImage;
  std::sscanf(image.c_str() + version_at, ".version %d.%d", &major, &minor);
  std::sscanf(image.c_str() + target_at, ".target sm_%d", &target);
  // PTX 8.0 … 8.5 came with CUDA 12.0 … 12.5, 8.6 with 12.7, 8.7 with 12.8, 8.8 with 12.9.
  const int cuda = 12000 + 10 * (minor <= 5 ? minor : minor + 1);
  if (major > 8 || (major == 8 && cuda > driver_version)) return kUnsupportedPtx;
  return target <= settings.capability_major * 10 + settings.capability_minor ? kSuccess : kInvalidPtx;
}

int TheDriverVersion() { return std::atoi(Setting("DRIVER_VERSION", "12090").c_str()); }

bool IsCubin(const std::string& image) { return image.compare(0, 4, "\177ELF") == 0; }

bool HasKernel(const std::string& image, const std::string& name) {
  if (IsCubin(image)) return emulation::FindSection(image, ".text." + name).found;
  return image.find(".entry " + name + "(") != std::string::npos;
}

// Pointers of a kernel must point into the card's memory.
bool ArePointersValid(const emulation::Kernel& kernel, void** arguments) {
  for (size_t i = 0; i < kernel.parameters.size(); i++) {
    if (kernel.parameters[i].element_bytes == 0) continue;
    Address at;
    std::memcpy(&at, arguments[i], sizeof(at));
    if (at == 0 || IsOnCard(at, 1)) continue;
    Say("kernel " + kernel.name + ": argument " + std::to_string(i) + " does not point into the card's memory");
    return false;
  }
  return true;
}

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) Result

API cuInit(unsigned flags) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (flags != 0) return kInvalidValue;
  if (!initialized) ReadSettings();
  if (visible.empty() || IsLost()) return kNoDevice;
  initialized = true;
  return kSuccess;
}

API cuDriverGetVersion(int* version) {
  *version = TheDriverVersion();
  return kSuccess;
}

API cuGetErrorName(Result error, const char** name) {
  const auto found = Errors().find(error);
  *name = found == Errors().end() ? nullptr : found->second.first;
  return *name == nullptr ? kInvalidValue : kSuccess;
}

API cuGetErrorString(Result error, const char** text) {
  const auto found = Errors().find(error);
  *text = found == Errors().end() ? nullptr : found->second.second;
  return *text == nullptr ? kInvalidValue : kSuccess;
}

API cuDeviceGetCount(int* count) {
  if (!initialized) return kNotInitialized;
  *count = static_cast<int>(visible.size());
  return kSuccess;
}

API cuDeviceGet(int* device, int ordinal) {
  if (!initialized) return kNotInitialized;
  if (ordinal < 0 || ordinal >= static_cast<int>(visible.size())) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}

API cuDeviceGetName(char* name, int size, int) {
  std::snprintf(name, size, "Emulated GPU");
  return kSuccess;
}

API cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
  if (device < 0 || device >= static_cast<int>(visible.size())) return kInvalidDevice;
  const unsigned char bytes[16] = {0xe0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0};
  std::memcpy(uuid, bytes, sizeof(bytes));
  uuid[15] = static_cast<unsigned char>(visible[device]);
  return kSuccess;
}

API cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16:  // multiprocessors
      *value = 132;
      return kSuccess;
    case 36:  // memory clock, kHz
      *value = 2619000;
      return kSuccess;
    case 37:  // memory bus, bits
      *value = 5120;
      return kSuccess;
    case 75:
      *value = settings.capability_major;
      return kSuccess;
    case 76:
      *value = settings.capability_minor;
      return kSuccess;
    case 97:  // shared memory of a block on request
      *value = kSharedBytesOptin;
      return kSuccess;
    case 115:  // memory pools
      *value = settings.pools;
      return kSuccess;
    default:
      return kInvalidValue;
  }
}

API cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = settings.memory_bytes;
  return kSuccess;
}

API cuDevicePrimaryCtxRetain(void** context, int) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!initialized) return kNotInitialized;
  *context = &the_context;
  return sticky;
}

API cuDevicePrimaryCtxRelease_v2(int) { return kSuccess; }

API cuCtxSetCurrent(void* context) {
  current_context = context;
  return kSuccess;
}

API cuMemGetInfo_v2(size_t* free, size_t* total) {
  RETURN_UNLESS_READY();
  *total = settings.memory_bytes;
  *free = settings.memory_bytes - std::min<size_t>(reserved, settings.memory_bytes);
  return kSuccess;
}

API cuMemPoolCreate(void** pool, const void*) {
  RETURN_UNLESS_READY();
  if (!settings.pools) return kNotSupported;
  *pool = &allocations;
  return kSuccess;
}

API cuMemPoolSetAttribute(void* pool, int attribute, void* value) {
  RETURN_UNLESS_READY();
  if (pool != &allocations) return kInvalidHandle;
  if (attribute == 4) return kSuccess;
  if ((attribute != 6 && attribute != 8) || *static_cast<uint64_t*>(value) != 0) return kInvalidValue;
  (attribute == 6 ? reserved_high : used_high) = attribute == 6 ? reserved : used;
  return kSuccess;
}

API cuMemPoolGetAttribute(void* pool, int attribute, void* value) {
  RETURN_UNLESS_READY();
  if (pool != &allocations || attribute < 5 || attribute > 8) return kInvalidValue;
  const uint64_t values[] = {reserved, reserved_high, used, used_high};
  *static_cast<uint64_t*>(value) = values[attribute - 5];
  return kSuccess;
}

API cuMemPoolTrimTo(void* pool, size_t bytes) {
  RETURN_UNLESS_READY();
  if (pool != &allocations) return kInvalidHandle;
  const uint64_t most = reserved - std::min<uint64_t>(reserved, std::max<uint64_t>(used, bytes));
  if (!settings.fragments) {
    reserved -= most;
  } else if (bytes == 0 || Setting("TRIMS", "parts") != "all") {
    reserved -= fragments.GiveBack(most);
  }
  return kSuccess;
}

API cuMemAllocFromPoolAsync(Address* at, size_t bytes, void* pool, void* stream) {
  RETURN_UNLESS_READY();
  if (pool != &allocations || stream == nullptr || bytes == 0) return kInvalidValue;
  // As a card, whole pieces of 512 bytes.
  const size_t taken = (bytes + 511) / 512 * 512;
  if (used + taken > settings.memory_bytes) return kOutOfMemory;
  if (settings.fragments && !fragments.Take(taken)) {
    if (reserved + taken > settings.memory_bytes) return kOutOfMemory;
    reserved += taken;
  }
  void* memory = std::aligned_alloc(512, (bytes + kGuardBytes + 511) / 512 * 512);
  if (memory == nullptr) return kOutOfMemory;
  std::memset(memory, kUnset, bytes);
  std::memset(static_cast<char*>(memory) + bytes, kGuard, kGuardBytes);
  *at = reinterpret_cast<Address>(memory);
  allocations[*at] = bytes;
  used += taken;
  used_high = std::max(used_high, used);
  reserved = std::max(reserved, used);
  reserved_high = std::max(reserved_high, reserved);
  return kSuccess;
}

API cuMemFreeAsync(Address at, void*) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  const auto found = allocations.find(at);
  if (found == allocations.end()) return kInvalidValue;
  const size_t bytes = found->second;
  if (!IsGuardIntact(at, bytes)) return Lose(kIllegalAddress, "a write beyond " + std::to_string(bytes) + " bytes");
  std::memset(reinterpret_cast<void*>(at), kUnset, bytes);
  std::free(reinterpret_cast<void*>(at));
  const size_t taken = (bytes + 511) / 512 * 512;
  used -= taken;
  if (settings.fragments) fragments.Free(taken);
  allocations.erase(found);
  return kSuccess;
}

API cuMemHostAlloc(void** at, size_t bytes, unsigned) {
  RETURN_UNLESS_READY();
  *at = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*at == nullptr) return kOutOfMemory;
  pinned[reinterpret_cast<Address>(*at)] = bytes;
  return kSuccess;
}

API cuMemFreeHost(void* at) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (pinned.erase(reinterpret_cast<Address>(at)) == 0) return kInvalidValue;
  RunUploads();
  std::free(at);
  return kSuccess;
}

API cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) {
  RETURN_UNLESS_READY();
  if (!IsOnCard(to, bytes)) return kInvalidValue;
  const auto source = reinterpret_cast<Address>(from);
  if (Holds(pinned, source, bytes)) {
    uploads.push_back({to, from, bytes});
    return kSuccess;
  }
  RunUploads();
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return kSuccess;
}

API cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  if (!IsOnCard(from, bytes)) return kInvalidValue;
  std::memcpy(to, reinterpret_cast<void*>(from), bytes);
  return kSuccess;
}

API cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void*) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  if (!IsOnCard(to, bytes) || !IsOnCard(from, bytes)) return kInvalidValue;
  std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
  return kSuccess;
}

API cuMemsetD8Async(Address at, unsigned char value, size_t count, void*) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  if (!IsOnCard(at, count)) return kInvalidValue;
  std::memset(reinterpret_cast<void*>(at), value, count);
  return kSuccess;
}

API cuMemsetD32Async(Address at, unsigned value, size_t count, void*) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  if (!IsOnCard(at, 4 * count) || at % 4 != 0) return kInvalidValue;
  std::fill_n(reinterpret_cast<unsigned*>(at), count, value);
  return kSuccess;
}

API cuStreamCreate(void** stream, unsigned) {
  RETURN_UNLESS_READY();
  *stream = new char;
  return kSuccess;
}

API cuStreamSynchronize(void*) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  fragments.Synchronize();
  return kSuccess;
}

API cuEventCreate(void** event, unsigned) {
  RETURN_UNLESS_READY();
  *event = new char;
  return kSuccess;
}

API cuEventDestroy_v2(void* event) {
  delete static_cast<char*>(event);
  return kSuccess;
}

API cuEventRecord(void*, void*) {
  RETURN_UNLESS_READY();
  return kSuccess;
}

API cuEventQuery(void*) {
  RETURN_UNLESS_READY();
  if (uploads.empty()) return kSuccess;
  RunUploads();
  return kNotReady;
}

API cuEventSynchronize(void*) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  fragments.Synchronize();
  return kSuccess;
}

API cuEventElapsedTime(float* milliseconds, void*, void*) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  *milliseconds = 1;
  return kSuccess;
}

API cuModuleLoadDataEx(void** module, const void* image, unsigned, const int*, void* const*) {
  RETURN_UNLESS_READY();
  const char* bytes = static_cast<const char*>(image);
  const bool is_elf = std::memcmp(bytes, "\177ELF", 4) == 0;
  std::string content = is_elf ? std::string(bytes, emulation::ElfBytes(bytes)) : std::string(bytes);
  const Result result = is_elf ? CheckCubin(content) : CheckPtx(content, TheDriverVersion());
  if (result == kSuccess) *module = new Module{std::move(content)};
  return result;
}

API cuModuleGetFunction(void** function, void* module, const char* name) {
  RETURN_UNLESS_READY();
  auto* loaded = static_cast<Module*>(module);
  if (!HasKernel(loaded->image, name)) return kNotFound;
  const auto kernel = emulation::Kernels().find(name);
  if (kernel == emulation::Kernels().end()) {
    Say(std::string("kernel ") + name + " is in a module, but not in the emulation (EXPORT_KERNEL?)");
    return kNotFound;
  }
  Function& made = functions[{loaded, name}];
  made.kernel = &kernel->second;
  if (IsCubin(loaded->image)) made.limits = emulation::ReadLaunchLimits(loaded->image, name);
  made.dynamic_shared_bytes = kSharedBytes - static_cast<int64_t>(made.limits.static_shared_bytes);
  *function = &made;
  return kSuccess;
}

// Since CUDA 12.4.
API cuFuncGetParamInfo(void* function, size_t index, size_t* offset, size_t* bytes) {
  RETURN_UNLESS_READY();
  const auto& parameters = static_cast<Function*>(function)->kernel->parameters;
  if (index >= parameters.size()) return kInvalidValue;
  *offset = 0;
  for (size_t i = 0; i <= index; i++) {
    const size_t alignment = std::min<size_t>(parameters[i].bytes, 8);
    *offset = (*offset + alignment - 1) / alignment * alignment;
    if (i < index) *offset += parameters[i].bytes;
  }
  *bytes = parameters[index].bytes;
  return kSuccess;
}

API cuFuncSetAttribute(void* function, int attribute, int value) {
  RETURN_UNLESS_READY();
  auto& own = *static_cast<Function*>(function);
  const auto most = kSharedBytesOptin - static_cast<int64_t>(own.limits.static_shared_bytes);
  constexpr int kMaxDynamicSharedBytes = 8, kSharedCarveout = 9;
  if (attribute == kMaxDynamicSharedBytes) {
    if (value < 0 || value > most) return kInvalidValue;
    own.dynamic_shared_bytes = value;
  } else if (attribute != kSharedCarveout || value < -1 || value > 100) {
    return kInvalidValue;
  }
  if (const std::string file = Setting("ATTRIBUTES_FILE", ""); !file.empty()) {
    std::ofstream(file, std::ios::app) << own.kernel->name << ' ' << attribute << ' ' << value << '\n';
  }
  return kSuccess;
}

API cuLaunchKernel(void* handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, void* stream, void** arguments, void**) {
  RETURN_UNLESS_READY_WITH_UPLOADS();
  Function& function = *static_cast<Function*>(handle);
  const uint64_t threads = uint64_t{block_x} * block_y * block_z;
  const bool fits = uint64_t{grid_x} * grid_y * grid_z > 0 && grid_x <= INT32_MAX && grid_y <= 65535 &&
                    grid_z <= 65535 && threads > 0 && threads <= function.limits.threads && block_z <= 64;
  if (!fits || stream == nullptr || shared_bytes > function.dynamic_shared_bytes) return kInvalidValue;
  const std::string broken = HowBroken(function.kernel->name);
  function.launches++;
  bool runs = true;
  if (const Result result = CountLaunch(&runs); result != kSuccess || !runs) return result;
  if (!ArePointersValid(*function.kernel, arguments)) {
    sticky = kIllegalAddress;
    return kSuccess;
  }
  if (broken == "skip") return kSuccess;
  const uint64_t work_before = emulation::work;
  try {
    function.kernel->launch(dim3(grid_x, grid_y, grid_z), dim3(block_x, block_y, block_z), shared_bytes, arguments);
  } catch (const emulation::Fault& fault_of_kernel) {
    Lose(kLaunchFailed, "kernel " + function.kernel->name + ": " + fault_of_kernel.what());
    return kSuccess;
  }
  NoteWork(function.kernel->name, emulation::work - work_before);
  Break(function, broken, arguments);
  return kSuccess;
}

// For the emulated cuBLASLt: whether a product may run, with these ranges of memory. As cuLaunchKernel, it counts as a
// launch. `how`: how products are broken on purpose; empty if they are not.
extern "C" __attribute__((visibility("default"))) bool EmulatedProduct(size_t ranges, const void* const* addresses,
                                                                       const size_t* bytes, Result* result,
                                                                       const char** how) {
  const std::lock_guard<std::mutex> lock(mutex);
  *how = "";
  *result = Ready();
  bool runs = true;
  if (*result == kSuccess) {
    RunUploads();
    *result = CountLaunch(&runs);
  }
  if (*result != kSuccess || !runs) return false;
  for (size_t i = 0; i < ranges; i++) {
    if (IsOnCard(reinterpret_cast<Address>(addresses[i]), bytes[i])) continue;
    Say("cublasLtMatmul: matrix " + std::to_string(i) + " is not in the card's memory");
    sticky = kIllegalAddress;
    return false;
  }
  *how = HowBroken("cublasLtMatmul");
  return true;
}
