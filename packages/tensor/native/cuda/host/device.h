// The GPU that this process computes on: its context, its one stream, its memory, and what has happened on it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/host/driver.h"

namespace lorasmith::cuda {

// A ring of pinned host memory for uploads. The driver copies from pinned memory while the host goes on; from other
// memory it would wait for the whole stream.
class Staging {
 public:
  Staging(const Driver& driver) : driver_(driver) {}

  Result Open(void* stream);

  // Copies the source and enqueues the upload, in pieces.
  Result Upload(DevicePointer to, const void* from, size_t bytes);

 private:
  static constexpr size_t kSlotBytes = size_t{4} << 20;
  // A piece begins where the bus transfers whole lines.
  static constexpr size_t kAlignment = 256;

  struct Slot {
    char* memory = nullptr;
    // Recorded when the ring has moved on from the slot: its uploads have ended once this is over.
    void* left = nullptr;
    bool was_left = false;
  };

  Result MoveOn();

  const Driver& driver_;
  void* stream_ = nullptr;
  std::mutex mutex_;
  std::array<Slot, 4> slots_;
  size_t current_ = 0;
  size_t used_ = 0;
};

struct DeviceDescription {
  int ordinal = 0;
  std::string name;
  std::string uuid;  // GPU-8-4-4-4-12 hexadecimal digits
  int capability_major = 0;
  int capability_minor = 0;
  int multiprocessors = 0;
  int shared_bytes_per_block = 0;
  // What the memory's clock and width allow; 0 if the driver does not say.
  int64_t memory_bytes_per_second = 0;
  size_t total_bytes = 0;
};

// The devices that the driver shows (CUDA_VISIBLE_DEVICES selects them). Empty, and `problem` says why, if there is
// none.
std::vector<DeviceDescription> DescribeDevices(std::string* problem);

struct MemoryUse {
  uint64_t current_bytes = 0;
  uint64_t peak_bytes = 0;
  // Held by the pool, also for later use.
  uint64_t reserved_bytes = 0;
  size_t free_bytes = 0;
  size_t total_bytes = 0;
};

struct Counters {
  std::atomic<uint64_t> uploads{0};
  std::atomic<uint64_t> uploaded_bytes{0};
  std::atomic<uint64_t> downloads{0};
  std::atomic<uint64_t> downloaded_bytes{0};
  std::atomic<uint64_t> launches{0};
  // Times that the host waited until the GPU had run all that was enqueued.
  std::atomic<uint64_t> waits{0};
  // Times that an allocation failed and waited until memory that enqueued work still used was free.
  std::atomic<uint64_t> memory_waits{0};
  // Times that the pool gave back about as much as one allocation needed.
  std::atomic<uint64_t> partial_trims{0};
  // Times that the pool gave back everything that it had for later.
  std::atomic<uint64_t> full_trims{0};
  // Allocations that failed after all of these.
  std::atomic<uint64_t> failed_allocations{0};
};

// Everything is enqueued on one stream in the order of the calls, so memory can be freed as soon as the last use is
// enqueued, and no op waits for another one on the host.
class Device {
 public:
  // Opens the first visible device. Empty on success, else what is wrong.
  static std::string Open();
  // Null before Open has succeeded.
  static Device* Get();

  const DeviceDescription& description() const { return description_; }
  const Driver& driver() const { return driver_; }
  void* stream() const { return stream_; }

  // Lets this thread call the driver.
  void Enter();

  // Null when there is no memory left, also after what is free in the pool was given back. Large requests are rounded
  // up to a class of sizes, so that what is freed fits later requests of about the same size.
  void* Allocate(size_t bytes);
  void Free(void* at);
  // Whether allocations take what they ask for from now on, without classes: for what stays, such as weights.
  void AllocateExactly(bool exactly) { allocates_exactly_.store(exactly, std::memory_order_relaxed); }
  // Gives back all memory that the pool has for later: the driver needs some for kernels. Waits for the GPU. `during`:
  // what the host was doing.
  void Trim(const std::string& during);
  // The bytes of the last allocation that failed since the last call; 0: none.
  size_t TakeFailedAllocation() { return failed_allocation_.exchange(0); }
  MemoryUse Memory();
  void ResetPeak();

  // The source may change as soon as this returns.
  Result Upload(void* to, const void* from, size_t bytes);
  // Waits until the bytes are there.
  Result Download(void* to, const void* from, size_t bytes);
  Result Copy(void* to, const void* from, size_t bytes);
  // `during`: what the host was doing, if it waits for the sake of that.
  Result Synchronize(const std::string& during = "waiting for the GPU");
  void WaitFor(void* event);

  // Records an error that loses the context. `during`: what the host was doing.
  void Record(Result error, const std::string& during);
  // The first such error with its circumstances; empty as long as there is none.
  std::string failure();
  bool has_failed() const { return failed_.load(std::memory_order_acquire); }

  // A kernel's name, to say which ones an error may come from. It must stay valid.
  void CountLaunch(const char* kernel);

  Counters counters;

 private:
  Device(const Driver& driver, DeviceDescription description);
  std::string Initialize();
  Result Wait();
  bool TrimBy(size_t bytes);
  void TrimAll();

  const Driver& driver_;
  DeviceDescription description_;
  void* context_ = nullptr;
  void* stream_ = nullptr;
  void* pool_ = nullptr;
  Staging staging_;
  std::atomic<const char*> last_kernel_{nullptr};
  std::atomic<size_t> failed_allocation_{0};
  std::atomic<bool> allocates_exactly_{false};
  std::atomic<bool> failed_{false};
  std::mutex failure_mutex_;
  std::string failure_;
};

}  // namespace lorasmith::cuda
