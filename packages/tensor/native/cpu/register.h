// The registers of the processor that the file is compiled for.
#pragma once

#include <cstdint>

namespace lorasmith {

// The floats of a register, and how many rows of two registers each have their sums in registers. The compiler keeps
// vectors that are wider, and sums that are more, in memory: products then take ten times as long.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
constexpr int kRowsInRegisters = 8;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8;
constexpr int kRowsInRegisters = 6;
#else
constexpr int64_t kLanes = 4;
constexpr int kRowsInRegisters = 6;
#endif
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(4)));

}  // namespace lorasmith
