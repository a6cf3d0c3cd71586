// The work that the threads of kernels have done, where a program counts it: work.cc.
#pragma once

#include <cstdint>

namespace emulation {

// Basic blocks of code: each round of each loop is at least one, also of a loop that touches no memory. 0 unless the
// program has work.cc.
inline uint64_t work = 0;

}  // namespace emulation
