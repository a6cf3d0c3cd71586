#include "cuda/host/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace lorasmith::cuda {
namespace {

constexpr int kLeastCapability = 8;
constexpr unsigned kNoTiming = 2;     // CU_EVENT_DISABLE_TIMING
constexpr unsigned kNonBlocking = 1;  // CU_STREAM_NON_BLOCKING

// Requests from here on are rounded up to a class.
constexpr size_t kLeastClassBytes = size_t{1} << 20;
// Classes between a power of two and the next: a request grows by an eighth at most.
constexpr size_t kClasses = 8;
// The least that the pool gives back at a time: what it has from the driver are blocks of some megabytes.
constexpr size_t kLeastTrimBytes = size_t{64} << 20;

// Never destroyed: threads of TensorFlow may still use it when the process ends.
std::atomic<Device*> the_device{nullptr};
std::mutex open_mutex;

int Attribute(const Driver& driver, int attribute, int device) {
  int value = 0;
  return driver.cuDeviceGetAttribute(&value, attribute, device) == kSuccess ? value : 0;
}

size_t ClassBytes(size_t bytes) {
  if (bytes < kLeastClassBytes) return bytes;
  size_t power = kLeastClassBytes;
  while (power <= bytes / 2) power *= 2;
  const size_t step = power / kClasses;
  return (bytes + step - 1) / step * step;
}

std::string UuidText(const Uuid& uuid) {
  static const char* const kDigits = "0123456789abcdef";
  std::string text = "GPU-";
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kDigits[uuid.bytes[i] >> 4];
    text += kDigits[uuid.bytes[i] & 15];
  }
  return text;
}

DeviceDescription Describe(const Driver& driver, int ordinal, int device) {
  DeviceDescription description;
  description.ordinal = ordinal;
  char name[256] = {};
  driver.cuDeviceGetName(name, sizeof(name) - 1, device);
  description.name = name;
  Uuid uuid = {};
  driver.cuDeviceGetUuid_v2(&uuid, device);
  description.uuid = UuidText(uuid);
  description.capability_major = Attribute(driver, kCapabilityMajor, device);
  description.capability_minor = Attribute(driver, kCapabilityMinor, device);
  description.multiprocessors = Attribute(driver, kMultiprocessorCount, device);
  description.shared_bytes_per_block = Attribute(driver, kSharedMemoryPerBlockOptin, device);
  // Both edges of the clock carry data.
  description.memory_bytes_per_second = int64_t{2000} * Attribute(driver, kMemoryClockKilohertz, device) *
                                        (Attribute(driver, kMemoryBusBits, device) / 8);
  driver.cuDeviceTotalMem_v2(&description.total_bytes, device);
  return description;
}

}  // namespace

Result Staging::Open(void* stream) {
  stream_ = stream;
  void* memory = nullptr;
  Result result = driver_.cuMemHostAlloc(&memory, kSlotBytes * slots_.size(), 0);
  for (size_t i = 0; i < slots_.size() && result == kSuccess; i++) {
    slots_[i].memory = static_cast<char*>(memory) + i * kSlotBytes;
    result = driver_.cuEventCreate(&slots_[i].left, kNoTiming);
  }
  return result;
}

Result Staging::Upload(DevicePointer to, const void* from, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const char* source = static_cast<const char*>(from);
  Result result = kSuccess;
  while (bytes > 0 && result == kSuccess) {
    if (used_ + std::min(bytes, kAlignment) > kSlotBytes) result = MoveOn();
    if (result != kSuccess) break;
    const size_t piece = std::min(bytes, kSlotBytes - used_);
    char* staged = slots_[current_].memory + used_;
    std::memcpy(staged, source, piece);
    result = driver_.cuMemcpyHtoDAsync_v2(to, staged, piece, stream_);
    used_ += (piece + kAlignment - 1) / kAlignment * kAlignment;
    source += piece;
    to += piece;
    bytes -= piece;
  }
  return result;
}

Result Staging::MoveOn() {
  Slot& left = slots_[current_];
  Result result = driver_.cuEventRecord(left.left, stream_);
  left.was_left = true;
  current_ = (current_ + 1) % slots_.size();
  used_ = 0;
  Slot& next = slots_[current_];
  if (result == kSuccess && next.was_left) result = driver_.cuEventSynchronize(next.left);
  return result;
}

std::vector<DeviceDescription> DescribeDevices(std::string* problem) {
  std::vector<DeviceDescription> devices;
  const Driver* driver = OpenDriver(problem);
  if (driver == nullptr) return devices;
  int count = 0;
  Result result = driver->cuInit(0);
  if (result == kSuccess) result = driver->cuDeviceGetCount(&count);
  for (int ordinal = 0; ordinal < count && result == kSuccess; ordinal++) {
    int device = 0;
    result = driver->cuDeviceGet(&device, ordinal);
    if (result == kSuccess) devices.push_back(Describe(*driver, ordinal, device));
  }
  if (result == kSuccess && count == 0) result = kNoDevice;
  if (result != kSuccess) *problem = "NVIDIA's driver shows no GPU: " + ErrorText(result);
  return devices;
}

std::string Device::Open() {
  const std::lock_guard<std::mutex> lock(open_mutex);
  if (Get() != nullptr) return "";
  std::string problem;
  const std::vector<DeviceDescription> devices = DescribeDevices(&problem);
  if (!problem.empty()) return problem;
  Device* device = new Device(*OpenDriver(nullptr), devices[0]);
  problem = device->Initialize();
  if (problem.empty()) the_device.store(device);
  return problem;
}

Device* Device::Get() { return the_device.load(std::memory_order_acquire); }

Device::Device(const Driver& driver, DeviceDescription description)
    : driver_(driver), description_(std::move(description)), staging_(driver) {}

std::string Device::Initialize() {
  const std::string card = description_.name + " (" + description_.uuid + ")";
  if (description_.capability_major < kLeastCapability) {
    return card + " has compute capability " + std::to_string(description_.capability_major) + "." +
           std::to_string(description_.capability_minor) + ", and at least 8.0 is needed";
  }
  int device = 0;
  Result result = driver_.cuDeviceGet(&device, description_.ordinal);
  if (result == kSuccess && Attribute(driver_, kMemoryPoolsSupported, device) == 0) {
    return card + " has no memory pools: its driver or virtual GPU does not support cuMemAllocAsync";
  }
  const char* step = "a context";
  if (result == kSuccess) result = driver_.cuDevicePrimaryCtxRetain(&context_, device);
  if (result == kSuccess) result = driver_.cuCtxSetCurrent(context_);
  if (result == kSuccess) {
    step = "a stream";
    result = driver_.cuStreamCreate(&stream_, kNonBlocking);
  }
  if (result == kSuccess) {
    step = "a memory pool";
    PoolProperties properties;
    properties.location_id = device;
    result = driver_.cuMemPoolCreate(&pool_, &properties);
  }
  if (result == kSuccess) {
    // Freed memory stays in the pool; it is given back only when an allocation fails.
    uint64_t all = UINT64_MAX;
    result = driver_.cuMemPoolSetAttribute(pool_, kReleaseThreshold, &all);
  }
  if (result == kSuccess) {
    step = "pinned memory for uploads";
    result = staging_.Open(stream_);
  }
  if (result == kSuccess) return "";
  return card + " cannot be used: no " + (step + 2) + ": " + ErrorText(result);
}

void Device::Enter() {
  static thread_local bool entered = false;
  if (entered) return;
  driver_.cuCtxSetCurrent(context_);
  entered = true;
}

void* Device::Allocate(size_t bytes) {
  if (bytes == 0) return nullptr;
  Enter();
  const size_t wanted = allocates_exactly_.load(std::memory_order_relaxed) ? bytes : ClassBytes(bytes);
  DevicePointer at = 0;
  const auto allocate = [&](size_t size) { return driver_.cuMemAllocFromPoolAsync(&at, size, pool_, stream_); };
  Result result = allocate(wanted);
  if (result == kOutOfMemory) {
    // Enqueued work may still use what is free.
    counters.memory_waits++;
    if (Synchronize() == kSuccess) result = allocate(wanted);
  }
  // What is free may be in blocks that are too small.
  if (result == kOutOfMemory && TrimBy(wanted)) result = allocate(wanted);
  if (result == kOutOfMemory) {
    TrimAll();
    result = allocate(bytes);
  }
  if (result == kSuccess) return reinterpret_cast<void*>(at);
  counters.failed_allocations++;
  failed_allocation_.store(bytes);
  Record(result, "allocating memory");
  return nullptr;
}

void Device::Trim(const std::string& during) {
  if (Synchronize(during) == kSuccess) TrimAll();
}

// Gives back twice the bytes. The pool gives back whole blocks, and keeps at least what it is asked to keep. Each block
// is smaller than a request that failed, or it would have served it; so twice the request has the request in whole
// blocks. False, and nothing is given back, where that is all that is free. The GPU must have been waited for: memory
// counts as free when that is known.
bool Device::TrimBy(size_t bytes) {
  uint64_t used = 0, reserved = 0;
  driver_.cuMemPoolGetAttribute(pool_, kUsedCurrent, &used);
  driver_.cuMemPoolGetAttribute(pool_, kReservedCurrent, &reserved);
  const uint64_t given = std::max<uint64_t>(2 * uint64_t{bytes}, kLeastTrimBytes);
  if (reserved < used + given) return false;
  counters.partial_trims++;
  return driver_.cuMemPoolTrimTo(pool_, reserved - given) == kSuccess;
}

void Device::TrimAll() {
  counters.full_trims++;
  driver_.cuMemPoolTrimTo(pool_, 0);
}

void Device::Free(void* at) {
  if (at == nullptr) return;
  Enter();
  Record(driver_.cuMemFreeAsync(reinterpret_cast<DevicePointer>(at), stream_), "freeing memory");
}

MemoryUse Device::Memory() {
  Enter();
  MemoryUse use;
  driver_.cuMemPoolGetAttribute(pool_, kUsedCurrent, &use.current_bytes);
  driver_.cuMemPoolGetAttribute(pool_, kUsedHigh, &use.peak_bytes);
  driver_.cuMemPoolGetAttribute(pool_, kReservedCurrent, &use.reserved_bytes);
  driver_.cuMemGetInfo_v2(&use.free_bytes, &use.total_bytes);
  return use;
}

void Device::ResetPeak() {
  Enter();
  uint64_t zero = 0;  // the only value that is allowed: the current use
  driver_.cuMemPoolSetAttribute(pool_, kUsedHigh, &zero);
}

Result Device::Upload(void* to, const void* from, size_t bytes) {
  Enter();
  counters.uploads++;
  counters.uploaded_bytes += bytes;
  const Result result = staging_.Upload(reinterpret_cast<DevicePointer>(to), from, bytes);
  Record(result, "copying to the GPU");
  return result;
}

Result Device::Download(void* to, const void* from, size_t bytes) {
  Enter();
  counters.downloads++;
  counters.downloaded_bytes += bytes;
  Result result = driver_.cuMemcpyDtoHAsync_v2(to, reinterpret_cast<DevicePointer>(from), bytes, stream_);
  if (result == kSuccess) result = Wait();
  Record(result, "copying from the GPU");
  return result;
}

Result Device::Copy(void* to, const void* from, size_t bytes) {
  Enter();
  const Result result = driver_.cuMemcpyDtoDAsync_v2(reinterpret_cast<DevicePointer>(to),
                                                     reinterpret_cast<DevicePointer>(from), bytes, stream_);
  Record(result, "copying on the GPU");
  return result;
}

Result Device::Synchronize(const std::string& during) {
  Enter();
  const Result result = Wait();
  Record(result, during);
  return result;
}

void Device::WaitFor(void* event) {
  Enter();
  counters.waits++;
  Record(driver_.cuEventSynchronize(event), "waiting for the GPU");
}

Result Device::Wait() {
  counters.waits++;
  return driver_.cuStreamSynchronize(stream_);
}

void Device::Record(Result error, const std::string& during) {
  if (!IsSticky(error)) return;
  const std::lock_guard<std::mutex> lock(failure_mutex_);
  if (failed_) return;
  failure_ = "the GPU failed: " + ErrorText(error) + ", noticed while " + during;
  const char* kernel = last_kernel_.load();
  const char* blocking = std::getenv("CUDA_LAUNCH_BLOCKING");
  const bool is_late = blocking == nullptr || std::strcmp(blocking, "1") != 0;
  if (is_late && kernel != nullptr) {
    failure_ += "; the last kernel enqueued was " + std::string(kernel) +
                ", but an earlier one may have failed. To find it, run the job again with CUDA_LAUNCH_BLOCKING=1: the "
                "error is then noticed while launching the kernel that fails";
  }
  failed_.store(true, std::memory_order_release);
}

std::string Device::failure() {
  const std::lock_guard<std::mutex> lock(failure_mutex_);
  return failure_;
}

void Device::CountLaunch(const char* kernel) {
  counters.launches++;
  last_kernel_.store(kernel, std::memory_order_relaxed);
}

}  // namespace lorasmith::cuda
