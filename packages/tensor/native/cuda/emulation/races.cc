// Finds races: two threads access the same byte, one of them writes, and no barrier of the block or the warp lies
// between. Link it into a program whose kernels were compiled with -fsanitize=thread: the compiler then calls a
// function here at each access to memory. (ThreadSanitizer's own library is not used. It knows OS threads, not fibers.)
//
// It looks at shared memory, and at what watch_memory is given. A shuffle orders nothing, as on a GPU.
#include <map>

#include "cuda/emulation/block.h"

namespace emulation {
namespace {

struct Access {
  int thread = -1;
  uint64_t launch = 0;
  uint64_t block = 0;
  uint64_t generation = 0;     // barriers of the block before it
  uint64_t warp_barriers = 0;  // and of the warp
};

// The last accesses to a byte. Of the reads since the last write, two of different threads are enough: a third thread
// that writes races with one of them, or with neither.
struct Byte {
  Access write;
  Access reads[2];
};

// By the end of each watched range.
struct Range {
  uintptr_t begin = 0;
  bool shared = false;
  std::vector<Byte> bytes;
};
std::map<uintptr_t, Range>& Ranges() {
  static std::map<uintptr_t, Range> ranges;
  return ranges;
}

void WatchMemory(const void* at, size_t bytes, bool shared) {
  if (bytes == 0) return;
  const auto begin = reinterpret_cast<uintptr_t>(at);
  Ranges()[begin + bytes] = {begin, shared, std::vector<Byte>(bytes)};
}

void ForgetMemory(const void* at, size_t bytes) { Ranges().erase(reinterpret_cast<uintptr_t>(at) + bytes); }

bool Orders(const Access& before, int thread_number) {
  if (before.thread < 0 || before.launch != launch_serial) return true;
  if (before.block != block_serial) return false;
  if (before.thread == thread_number || before.generation < block->generation) return true;
  return before.thread / kWarpSize == thread_number / kWarpSize &&
         before.warp_barriers < block->warps[thread->warp].barriers;
}

void Check(Byte& byte, bool writes, bool shared) {
  const int number = thread->warp * kWarpSize + thread->lane;
  // Shared memory of another block is other memory.
  if (shared && byte.write.block != block_serial) byte.write = {};
  bool races = !Orders(byte.write, number);
  for (Access& read : byte.reads) {
    if (shared && read.block != block_serial) read = {};
    races |= writes && !Orders(read, number);
  }
  if (races)
    Fail(std::string("race: thread ") + std::to_string(number) + (writes ? " writes" : " reads") + " what thread " +
         std::to_string(!Orders(byte.write, number) ? byte.write.thread : byte.reads[0].thread) +
         " accessed, without a barrier between");
  const Access own{number, launch_serial, block_serial, block->generation, block->warps[thread->warp].barriers};
  if (writes) {
    byte.write = own;
    byte.reads[0] = byte.reads[1] = {};
  } else if (byte.reads[0].thread == number || byte.reads[0].thread < 0) {
    byte.reads[0] = own;
  } else {
    byte.reads[1] = own;
  }
}

void OnAccess(const void* at, size_t bytes, bool writes) {
  if (thread == nullptr || thread->finished || thread->stack == nullptr) return;
  const auto first = reinterpret_cast<uintptr_t>(at);
  const auto found = Ranges().upper_bound(first);
  if (found == Ranges().end() || first < found->second.begin) return;
  for (uintptr_t i = first; i < first + bytes && i < found->first; i++)
    Check(found->second.bytes[i - found->second.begin], writes, found->second.shared);
}

const struct Installed {
  Installed() {
    on_access = OnAccess;
    watch_memory = WatchMemory;
    forget_memory = ForgetMemory;
  }
} installed;

}  // namespace

}  // namespace emulation

// What -fsanitize=thread calls.
extern "C" {
#define ACCESS(bytes)                                                                    \
  void __tsan_read##bytes(void* at) { emulation::OnAccess(at, bytes, false); }           \
  void __tsan_write##bytes(void* at) { emulation::OnAccess(at, bytes, true); }           \
  void __tsan_unaligned_read##bytes(void* at) { emulation::OnAccess(at, bytes, false); } \
  void __tsan_unaligned_write##bytes(void* at) { emulation::OnAccess(at, bytes, true); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* at, unsigned long bytes) { emulation::OnAccess(at, bytes, false); }
void __tsan_write_range(void* at, unsigned long bytes) { emulation::OnAccess(at, bytes, true); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}
