// A ring of pinned host memory for uploads. The driver copies from pinned memory while the host goes on; from other
// memory it would wait for the whole stream.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>

#include "cuda/host/driver.h"

namespace lorasmith::cuda {

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

}  // namespace lorasmith::cuda
