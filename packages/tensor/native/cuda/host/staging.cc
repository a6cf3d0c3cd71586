#include "cuda/host/staging.h"

#include <algorithm>
#include <cstring>

namespace lorasmith::cuda {
namespace {
constexpr unsigned kNoTiming = 2;  // CU_EVENT_DISABLE_TIMING
}

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

}  // namespace lorasmith::cuda
