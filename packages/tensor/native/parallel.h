// Runs loops on all cores. Its threads sleep between loops: a spinning thread would take a core from TensorFlow's next
// matrix product.
#pragma once

#include <cstdint>
#include <functional>

namespace lorasmith {

// The number of threads that share a loop.
int64_t Threads();

// Calls body(i) once for every i in 0 … count - 1, on several threads, and returns when all are done. Each thread takes
// the next index when it is free: put the longest work first.
void ParallelFor(int64_t count, const std::function<void(int64_t)>& body);

// The same for ranges of at least `grain` indices: body(begin, end).
void ParallelRanges(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace lorasmith
