// Spreads loops over the cores. Helpers sleep between loops: a thread that spins would take its core from the matrix
// product that follows.
#pragma once

#include <cstdint>
#include <functional>

namespace lorasmith {

// How many threads work on a loop.
int64_t Threads();

// Calls body(i) for every i in 0 … count - 1, each once, on several threads; returns when all are done. Indices are
// handed out one at a time, so uneven work spreads by itself: give the longest first.
void ParallelFor(int64_t count, const std::function<void(int64_t)>& body);

// The same for ranges of at least `grain` indices: body(begin, end).
void ParallelRanges(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

}  // namespace lorasmith
