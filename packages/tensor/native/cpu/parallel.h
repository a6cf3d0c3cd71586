// Runs loops on all cores. Between loops its threads wait awake for a moment, then sleep: a thread that stays awake
// would take a core from others.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace lorasmith {

// The number of threads that share a loop.
int64_t Threads();

// Calls body(i) once for every i in 0 … count - 1, on several threads, and returns when all are done. Each thread takes
// the next index when it is free: put the longest work first.
void ParallelFor(int64_t count, const std::function<void(int64_t)>& body);

// A loop whose turns may run at the same time.
struct Phase {
  int64_t count;
  std::function<void(int64_t)> body;
};

// Runs loops one after the other: the next begins when the last is done. The threads wake once for all of them, so the
// turns of all but the last should be short: a thread without one waits awake. With few = true, only the caller's
// thread computes, which is faster where there is little to do.
void ParallelPhases(const std::vector<Phase>& phases, bool few);

// ParallelFor for ranges of at least `grain` indices: body(begin, end).
void ParallelRanges(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace lorasmith
