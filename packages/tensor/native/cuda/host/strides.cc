#include "cuda/host/strides.h"

#include <algorithm>

namespace lorasmith {

int64_t SizeOf(const Shape& shape) {
  int64_t size = 1;
  for (int64_t length : shape) size *= length;
  return size;
}

bool BroadcastShapes(const Shape& left, const Shape& right, Shape* result) {
  const size_t rank = std::max(left.size(), right.size());
  result->assign(rank, 1);
  for (size_t axis = 0; axis < rank; axis++) {
    const auto length = [&](const Shape& shape) {
      const size_t missing = rank - shape.size();
      return axis < missing ? 1 : shape[axis - missing];
    };
    const int64_t a = length(left), b = length(right);
    if (a != b && a != 1 && b != 1) return false;
    (*result)[axis] = a == 1 ? b : a;
  }
  return true;
}

Shape StridesOf(const Shape& shape) {
  Shape strides(shape.size());
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

Shape BroadcastStrides(const Shape& shape, const Shape& result) {
  const Shape own = StridesOf(shape);
  Shape strides(result.size(), 0);
  const size_t missing = result.size() - shape.size();
  for (size_t axis = 0; axis < shape.size(); axis++) strides[missing + axis] = shape[axis] == 1 ? 0 : own[axis];
  return strides;
}

bool JoinAxes(const Shape& axes, const Shape& left, const Shape& right, StridedPair* pair) {
  struct Axis {
    int64_t length, left, right;
  };
  std::vector<Axis> joined;
  for (size_t i = 0; i < axes.size(); i++) {
    if (axes[i] == 1) continue;
    Axis* outer = joined.empty() ? nullptr : &joined.back();
    if (outer != nullptr && outer->left == left[i] * axes[i] && outer->right == right[i] * axes[i]) {
      *outer = {outer->length * axes[i], left[i], right[i]};
    } else {
      joined.push_back({axes[i], left[i], right[i]});
    }
  }
  if (joined.empty()) joined.push_back({1, 1, 1});
  if (joined.size() > kMaxAxes) return false;
  *pair = {};
  pair->rank = static_cast<int32_t>(joined.size());
  pair->size = SizeOf(axes);
  for (size_t i = 0; i < joined.size(); i++) {
    pair->axes[i] = joined[i].length;
    pair->left[i] = joined[i].left;
    pair->right[i] = joined[i].right;
  }
  return true;
}

bool Pack(int64_t elements, StridedPair* pair) {
  const int last = pair->rank - 1;
  bool fits = pair->axes[last] % elements == 0;
  fits = fits && (pair->left[last] == 0 || pair->left[last] == 1) && (pair->right[last] == 0 || pair->right[last] == 1);
  for (int axis = 0; axis < last; axis++) {
    // A tensor that repeats one element along the last axis is read element by element.
    fits = fits && (pair->left[last] == 0 || pair->left[axis] % elements == 0);
    fits = fits && (pair->right[last] == 0 || pair->right[axis] % elements == 0);
  }
  if (!fits) return false;
  pair->axes[last] /= elements;
  pair->left[last] *= elements;
  pair->right[last] *= elements;
  pair->size /= elements;
  return true;
}

int WidenElements(int element_bytes, uint64_t address_bits, StridedPair* pair) {
  const int last = pair->rank - 1;
  if (pair->left[last] != 1 || pair->right[last] != 1) return element_bytes;
  int bytes = 16;
  const auto fits = [&] {
    uint64_t bits = address_bits | static_cast<uint64_t>(pair->axes[last] * element_bytes);
    for (int axis = 0; axis < last; axis++) bits |= (pair->left[axis] | pair->right[axis]) * element_bytes;
    return bits % bytes == 0;
  };
  while (bytes > element_bytes && !fits()) bytes /= 2;
  const int64_t joined = bytes / element_bytes;
  pair->axes[last] /= joined;
  pair->size /= joined;
  for (int axis = 0; axis < last; axis++) {
    pair->left[axis] /= joined;
    pair->right[axis] /= joined;
  }
  return bytes;
}

int64_t ElementBlocks(int64_t work) {
  constexpr int64_t kPerThread = 4, kMost = 4096;
  return std::min((work + kElementThreads * kPerThread - 1) / (kElementThreads * kPerThread), kMost);
}

}  // namespace lorasmith
