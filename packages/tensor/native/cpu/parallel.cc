#include "cpu/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace lorasmith {
namespace {

// The cores that this process may use: in a container, often fewer than the machine has.
int AllowedCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

// Returns once `ready` says so, or after some 50 microseconds. Waking a thread that sleeps takes about as long.
template <typename Ready>
void WaitAwake(const Ready& ready) {
  constexpr int kTimes = 1000;
  for (int i = 0; i < kTimes && !ready(); i++) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
  }
}

class Pool {
 public:
  Pool() {
    for (int i = 1; i < AllowedCores(); i++) {
      // Detached, so that nothing waits for these threads when the process exits.
      std::thread([this] { Help(); }).detach();
      helpers_++;
    }
  }

  int64_t threads() const { return helpers_ + 1; }

  void Run(int64_t count, const std::function<void(int64_t)>& body) {
    if (helpers_ == 0 || count <= 1) {
      for (int64_t i = 0; i < count; i++) body(i);
      return;
    }
    // TensorFlow runs one op at a time here. A second caller would wait.
    std::lock_guard<std::mutex> turn(turn_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body;
      count_ = count;
      next_ = 0;
      round_++;
    }
    wake_.notify_all();
    Work(body, count);
    {
      // A thread that wakes only now has nothing to do.
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = nullptr;
    }
    const auto is_done = [this] { return busy_ == 0; };
    WaitAwake(is_done);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, is_done);
  }

 private:
  void Work(const std::function<void(int64_t)>& body, int64_t count) {
    for (int64_t i = next_.fetch_add(1); i < count; i = next_.fetch_add(1)) body(i);
  }

  void Help() {
    uint64_t seen = 0;
    const auto is_new = [&] { return round_ != seen; };
    for (;;) {
      const std::function<void(int64_t)>* body;
      int64_t count;
      WaitAwake(is_new);
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, is_new);
        seen = round_;
        if (body_ == nullptr) continue;
        body = body_;
        count = count_;
        busy_++;
      }
      Work(*body, count);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  int helpers_ = 0;
  std::mutex turn_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  const std::function<void(int64_t)>* body_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  std::atomic<uint64_t> round_{0};
};

Pool& SharedPool() {
  static Pool* pool = new Pool();  // never destroyed, because its threads never end
  return *pool;
}

}  // namespace

int64_t Threads() { return SharedPool().threads(); }

void ParallelFor(int64_t count, const std::function<void(int64_t)>& body) { SharedPool().Run(count, body); }

void ParallelPhases(const std::vector<Phase>& phases, bool few) {
  struct Progress {
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> done{0};
  };
  std::vector<Progress> progress(phases.size());
  ParallelFor(few ? 1 : Threads(), [&](int64_t) {
    for (size_t i = 0; i < phases.size(); i++) {
      const int64_t count = phases[i].count;
      for (int64_t turn = progress[i].next.fetch_add(1); turn < count; turn = progress[i].next.fetch_add(1)) {
        phases[i].body(turn);
        progress[i].done.fetch_add(1, std::memory_order_release);
      }
      while (progress[i].done.load(std::memory_order_acquire) < count) std::this_thread::yield();
    }
  });
}

void ParallelRanges(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t ranges = std::max<int64_t>(1, count / std::max<int64_t>(1, grain));
  // Several ranges per core balance the load when other processes use some cores.
  const int64_t pieces = std::min<int64_t>(ranges, 8 * AllowedCores());
  ParallelFor(pieces, [&](int64_t piece) { body(count * piece / pieces, count * (piece + 1) / pieces); });
}

}  // namespace lorasmith
