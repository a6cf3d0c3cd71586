// How ops walk tensors: NumPy's broadcasting, boxes of tensors, and the fewest axes and widest accesses for them.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/kernels/portable.h"

namespace lorasmith {

using Shape = std::vector<int64_t>;

int64_t SizeOf(const Shape& shape);

// The shape of the result of an op on two tensors; false if they cannot be broadcast.
bool BroadcastShapes(const Shape& left, const Shape& right, Shape* result);

// Row-major strides, in elements.
Shape StridesOf(const Shape& shape);

// Strides of a tensor that is broadcast to `result`: 0 along axes that it repeats.
Shape BroadcastStrides(const Shape& shape, const Shape& result);

// Axes of length 1 are dropped, and axes that both tensors walk as one are joined. False if more than kMaxAxes are
// left.
bool JoinAxes(const Shape& axes, const Shape& left, const Shape& right, StridedPair* pair);

// Whether `elements` elements at a time can be read and written, all addresses being multiples of a pack: then counts
// the last axis in packs. Along it a tensor is contiguous or repeats one element.
bool Pack(int64_t elements, StridedPair* pair);

// The number of bytes, up to 16, that can be moved at a time, both addresses being multiples of it: `pair` then counts
// such elements.
int WidenElements(int element_bytes, uint64_t address_bits, StridedPair* pair);

// Threads of a block of the kernels that take one element or pack after the other, and how many blocks there are for
// `work` of these: enough for the largest cards, and each thread has several.
constexpr unsigned kElementThreads = 128;
int64_t ElementBlocks(int64_t work);

}  // namespace lorasmith
