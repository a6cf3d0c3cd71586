// A block of CUDA threads: each is a fiber, and they take turns. Barriers are where they wait for each other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/emulation/fiber.h"

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulation {

constexpr int kWarpSize = 32;
constexpr size_t kSharedAlignment = 128;

// A kernel did what has no defined result on a GPU.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Wait { kNothing, kBlock, kWarp };

// Bytes on their way into shared memory (cp.async); none: the end of a group.
struct AsyncCopy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Thread {
  Suspended suspended;
  char* stack = nullptr;  // null before it starts and after its end
  uint3 index{0, 0, 0};
  int lane = 0;
  int warp = 0;
  bool finished = false;
  Wait waits = Wait::kNothing;
  uint64_t generation = 0;  // of the block's barrier that it waits for
  std::vector<AsyncCopy> copies;
};

// What the lanes of a warp exchange: each brings operands and takes a result.
struct Warp {
  int lanes = 0;          // the last warp of a block may have fewer than kWarpSize
  uint32_t arrived = 0;   // lanes that wait in an exchange
  uint32_t finished = 0;  // lanes whose thread has ended
  int kind[kWarpSize];    // of the exchange that a lane waits in
  uint32_t mask[kWarpSize];
  uint32_t operand[kWarpSize][16];
  const void* address[kWarpSize];
  uint32_t result[kWarpSize][8];
  uint64_t barriers = 0;  // passed by all lanes
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  int arrived = 0;          // at the barrier
  int live = 0;             // threads that have not ended
  uint64_t generation = 0;  // how many barriers were passed
  int votes = 0;            // of the threads that have arrived
  int result = 0;           // of the votes at the last barrier
  std::unique_ptr<uint8_t, void (*)(void*)> shared{nullptr, free};
  size_t shared_bytes = 0;
  Suspended scheduler;
};

// One launch runs at a time; the driver's lock sees to that.
inline Block* block = nullptr;
inline Thread* thread = nullptr;
inline uint3 block_index{0, 0, 0};
inline dim3 block_dim, grid_dim;
inline const std::function<void()>* body = nullptr;
// Identifies a launch, and a block of one.
inline uint64_t launch_serial = 0, block_serial = 0;
// Set by a thread that did something undefined; it is never continued.
inline std::string fault;
// Set by races.cc in a program that looks for races. on_access is called for each access of a thread; watch_memory and
// forget_memory name where races are looked for.
inline void (*on_access)(const void* at, size_t bytes, bool writes) = nullptr;
inline void (*watch_memory)(const void* at, size_t bytes, bool shared) = nullptr;
inline void (*forget_memory)(const void* at, size_t bytes) = nullptr;
// In what order threads run. 0: as they are numbered, 1: reversed, else the seed of a shuffle.
inline int order = 0;

inline void Yield() { Switch(thread->suspended, block->scheduler); }

// Ends the launch with an error.
[[noreturn]] inline void Fail(const std::string& message) {
  fault = message;
  for (;;) Yield();
}

inline void ThreadMain() {
  Arrive(block->scheduler);
  (*body)();
  const auto unfinished = [](const AsyncCopy& copy) { return copy.bytes > 0; };
  if (std::any_of(thread->copies.begin(), thread->copies.end(), unfinished))
    Fail("a thread ended before its asynchronous copies");
  thread->finished = true;
  block->live--;
  block->warps[thread->warp].finished |= 1u << thread->lane;
  Switch(thread->suspended, block->scheduler, true);
  abort();
}

// __syncthreads. Returns the sum of the threads' votes.
inline int BlockBarrier(int vote = 0) {
  Block& own = *block;
  own.votes += vote;
  if (++own.arrived == static_cast<int>(own.threads.size())) {
    own.result = own.votes;
    own.votes = 0;
    own.arrived = 0;
    own.generation++;
    return own.result;
  }
  thread->waits = Wait::kBlock;
  thread->generation = own.generation;
  Yield();
  thread->waits = Wait::kNothing;
  return own.result;
}

inline bool CanRun(const Thread& t) {
  if (t.finished) return false;
  if (t.waits == Wait::kBlock) return block->generation != t.generation;
  if (t.waits == Wait::kWarp) return (block->warps[t.warp].arrived >> t.lane & 1) == 0;
  return true;
}

inline void Run(Thread& t) {
  if (t.stack == nullptr) {
    t.stack = TakeStack();
    Prepare(t.suspended, t.stack, ThreadMain);
  }
  thread = &t;
  Switch(block->scheduler, t.suspended);
  if (!t.finished) return;
  FreeStacks().push_back(t.stack);
  t.stack = nullptr;
}

inline void FreeStacksOf(Block& b) {
  for (Thread& t : b.threads) {
    if (t.stack != nullptr) FreeStacks().push_back(t.stack);
    t.stack = nullptr;
  }
}

inline std::string DescribeDeadlock(const Block& b) {
  int at_barrier = 0, in_exchange = 0, finished = 0;
  for (const Thread& t : b.threads) {
    if (t.finished) finished++;
    if (t.waits == Wait::kBlock) at_barrier++;
    if (t.waits == Wait::kWarp) in_exchange++;
  }
  return "block (" + std::to_string(block_index.x) + ", " + std::to_string(block_index.y) + ", " +
         std::to_string(block_index.z) + "): " + std::to_string(at_barrier) + " threads wait at a barrier and " +
         std::to_string(in_exchange) + " in a warp's exchange that the others never reach; " +
         std::to_string(finished) + " have ended";
}

// The warps in the order of their turns.
inline std::vector<int> WarpOrder(int warps) {
  std::vector<int> turns(warps);
  for (int i = 0; i < warps; i++) turns[i] = order == 1 ? warps - 1 - i : i;
  if (order <= 1) return turns;
  uint64_t state = order * 0x9e3779b97f4a7c15ull;
  for (int i = warps - 1; i > 0; i--) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    std::swap(turns[i], turns[state % (i + 1)]);
  }
  return turns;
}

inline int LaneInTurn(int turn, int lanes) {
  if (order == 0) return turn;
  if (order == 1) return lanes - 1 - turn;
  return (turn * 5 + order) % kWarpSize;  // all lanes, since 5 and 32 have no common factor
}

// Runs the warp until each of its lanes waits for other warps or has ended. Returns whether any lane ran.
inline bool RunWarp(Block& b, int warp) {
  bool any = false;
  const int lanes = b.warps[warp].lanes;
  const int turns = order > 1 ? kWarpSize : lanes;
  for (bool again = true; again;) {
    again = false;
    for (int turn = 0; turn < turns; turn++) {
      const int lane = LaneInTurn(turn, lanes);
      if (lane >= lanes) continue;
      Thread& t = b.threads[warp * kWarpSize + lane];
      while (CanRun(t)) {
        any = again = true;
        Run(t);
        if (!fault.empty()) return true;
      }
    }
  }
  return any;
}

inline void RunBlock(Block& b, const std::vector<int>& turns) {
  b.live = static_cast<int>(b.threads.size());
  b.arrived = b.votes = 0;
  block_serial++;
  for (Warp& warp : b.warps) warp.arrived = warp.finished = 0;
  for (Thread& t : b.threads) {
    t.finished = false;
    t.waits = Wait::kNothing;
    t.copies.clear();
  }
  if (b.shared_bytes > 0) memset(b.shared.get(), 0xff, b.shared_bytes);  // NaN
  while (b.live > 0) {
    bool any = false;
    // A warp runs as far as barriers let it before the next one gets its turn, so that what a missing barrier allows
    // happens.
    for (int warp : turns) {
      any |= RunWarp(b, warp);
      if (!fault.empty()) throw Fault(std::exchange(fault, {}));
    }
    if (!any) throw Fault(DescribeDeadlock(b));
  }
}

// Subnormal numbers are numbers while it lives, as on a GPU: TensorFlow's threads take them for zero.
class WithSubnormals {
#if defined(__x86_64__)
 public:
  WithSubnormals() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ & ~kToZero); }
  ~WithSubnormals() { __builtin_ia32_ldmxcsr(before_); }

 private:
  // Of results, and of operands.
  static constexpr unsigned kToZero = 1u << 15 | 1u << 6;
  unsigned before_;
#endif
};

// kernel<<<grid, threads, shared_bytes>>>(…), with the arguments bound. Throws Fault.
inline void Launch(const std::function<void()>& kernel, dim3 grid, dim3 threads, size_t shared_bytes) {
  static Block b;
  const WithSubnormals with_subnormals;
  FreeStacksOf(b);  // of a launch that failed
  const unsigned count = threads.x * threads.y * threads.z;
  const int warps = static_cast<int>((count + kWarpSize - 1) / kWarpSize);
  b.threads.resize(count);
  b.warps.resize(warps);
  for (unsigned i = 0; i < count; i++) {
    Thread& t = b.threads[i];
    t.index = {i % threads.x, i / threads.x % threads.y, i / (threads.x * threads.y)};
    t.lane = static_cast<int>(i % kWarpSize);
    t.warp = static_cast<int>(i / kWarpSize);
  }
  for (int i = 0; i < warps; i++) b.warps[i].lanes = std::min(kWarpSize, static_cast<int>(count) - i * kWarpSize);
  if (b.shared_bytes != shared_bytes) {
    if (forget_memory != nullptr) forget_memory(b.shared.get(), b.shared_bytes);
    // Of just this size, so that AddressSanitizer notices an access beyond it.
    void* memory = nullptr;
    if (shared_bytes > 0 && posix_memalign(&memory, kSharedAlignment, shared_bytes) != 0) throw std::bad_alloc();
    b.shared.reset(static_cast<uint8_t*>(memory));
    b.shared_bytes = shared_bytes;
    if (watch_memory != nullptr) watch_memory(memory, shared_bytes, true);
  }
  const std::vector<int> turns = WarpOrder(warps);
  launch_serial++;
  block = &b;
  body = &kernel;
  block_dim = threads;
  grid_dim = grid;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        block_index = {x, y, z};
        RunBlock(b, turns);
      }
}

// A __shared__ variable, NaN when a block first uses it. On the heap, so that AddressSanitizer sees its bounds.
template <typename Value>
class Shared {
 public:
  Shared() {
    if (watch_memory != nullptr) watch_memory(memory_.get(), sizeof(Memory), true);
  }

  Value& Use() {
    if (used_by_ != block_serial) {
      used_by_ = block_serial;
      memset(static_cast<void*>(memory_.get()), 0xff, sizeof(Memory));
    }
    return memory_->value;
  }

 private:
  struct Memory {
    Value value;
  };
  std::unique_ptr<Memory> memory_{new Memory};
  uint64_t used_by_ = 0;
};

// cp.async: the bytes arrive at the wait, and not before, as a GPU may have it.
inline void StartCopy(void* to, const void* from, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0 || reinterpret_cast<uintptr_t>(from) % bytes != 0)
    Fail("an asynchronous copy is not aligned to its size");
  memset(to, 0xff, bytes);
  if (on_access != nullptr) on_access(to, bytes, true);
  thread->copies.push_back({to, from, bytes});
}

inline void EndCopyGroup() { thread->copies.push_back({nullptr, nullptr, 0}); }

// Waits until at most `pending` groups of this thread are on their way; -1: no copy at all.
inline void WaitForCopies(int pending) {
  std::vector<AsyncCopy>& copies = thread->copies;
  auto groups = std::count_if(copies.begin(), copies.end(), [](const AsyncCopy& c) { return c.bytes == 0; });
  auto next = copies.begin();
  for (; next != copies.end() && (pending < 0 || groups > pending); next++) {
    if (next->bytes == 0) groups--;
    if (next->bytes > 0 && on_access != nullptr) on_access(next->to, next->bytes, true);
    memcpy(next->to, next->from, next->bytes);
  }
  copies.erase(copies.begin(), next);
}

}  // namespace emulation
