// TensorFlow's ops that move elements, on a GPU. Parameters such as axes and sizes are in the host's memory.
#include "cuda/host/move.h"

namespace lorasmith::cuda {
namespace {

std::vector<int64_t> Vector(Context& context, int input) {
  const int32_t* values = context.Input<int32_t>(input);
  return values == nullptr ? std::vector<int64_t>() : std::vector<int64_t>(values, values + context.Size(input));
}

// The axis that an input names; -1 where there is none.
int64_t AxisOf(Context& context, int input, int64_t rank) {
  const std::vector<int64_t> axis = Vector(context, input);
  const int64_t counted = axis.size() == 1 ? (axis[0] < 0 ? axis[0] + rank : axis[0]) : -1;
  return context.Check(counted >= 0 && counted < rank, "there is no such axis") ? counted : -1;
}

int64_t ProductOf(const Shape& shape, size_t begin, size_t end) {
  return SizeOf(Shape(shape.begin() + begin, shape.begin() + end));
}

// x, perm → axis i of the result is axis perm[i] of x
template <typename Element>
struct Transpose {
  void Compute(Context& context) const {
    const Shape shape = context.Shape(0), own = StridesOf(shape);
    const std::vector<int64_t> order = Vector(context, 1);
    const Element* x = context.Input<Element>(0);
    if (!context.Check(order.size() == shape.size(), "the order must name every axis")) return;
    std::vector<bool> seen(shape.size(), false);
    Shape axes, strides;
    for (int64_t axis : order) {
      const bool fits = axis >= 0 && axis < static_cast<int64_t>(shape.size()) && !seen[axis];
      if (!context.Check(fits, "the order must name every axis once")) return;
      seen[axis] = true;
      axes.push_back(shape[axis]);
      strides.push_back(own[axis]);
    }
    Element* result = context.Output<Element>(0, axes);
    StridedPair pair;
    if (context.failed()) return;
    if (!context.Check(JoinAxes(axes, strides, StridesOf(axes), &pair), "the shapes have too many axes")) return;
    // [count, columns, rows] of [count, rows, columns]
    const int first = pair.rank - 2;
    const bool swaps = (pair.rank == 2 || pair.rank == 3) && pair.left[first] == 1 &&
                       pair.left[first + 1] == pair.axes[first] &&
                       (pair.rank == 2 || pair.left[0] == pair.axes[1] * pair.axes[2]);
    const int64_t count = pair.rank == 3 ? pair.axes[0] : 1;
    if (swaps && count < 65536) {
      TransposeMatrices(context, sizeof(Element), x, result, count, pair.axes[first + 1], pair.axes[first]);
    } else {
      MoveBox(context, sizeof(Element), x, strides, result, StridesOf(axes), axes);
    }
  }
};

// values …, axis → one tensor
template <typename Element>
struct Concat {
  void Compute(Context& context) const {
    const int count = context.InputCount() - 1;
    Shape shape = context.Shape(0);
    const int64_t axis = AxisOf(context, count, static_cast<int64_t>(shape.size()));
    if (context.failed()) return;
    shape[axis] = 0;
    for (int i = 0; i < count; i++) {
      Shape expected = context.Shape(i);
      if (!context.Check(expected.size() == shape.size(), "the tensors must have the same number of axes")) return;
      const int64_t length = expected[axis];
      expected[axis] = shape[axis];
      if (!context.Check(expected == shape, "the tensors may differ along the axis only")) return;
      shape[axis] += length;
    }
    Element* result = context.Output<Element>(0, shape);
    const int64_t outer = ProductOf(shape, 0, axis), width = ProductOf(shape, axis, shape.size());
    for (int i = 0; i < count && !context.failed(); i++) {
      const Shape own = context.Shape(i);
      const int64_t own_width = ProductOf(own, axis, own.size());
      MoveBox(context, sizeof(Element), context.Input<Element>(i), {own_width, 1}, result, {width, 1},
              {outer, own_width});
      result += own_width;
    }
  }
};

// x, sizes, axis → pieces
template <typename Element>
struct Split {
  void Compute(Context& context) const {
    const Shape shape = context.Shape(0);
    std::vector<int64_t> sizes = Vector(context, 1);
    const int64_t axis = AxisOf(context, 2, static_cast<int64_t>(shape.size()));
    const Element* x = context.Input<Element>(0);
    if (context.failed()) return;
    int64_t known = 0;
    for (int64_t size : sizes) known += size < 0 ? 0 : size;
    for (int64_t& size : sizes) {
      if (size >= 0) continue;
      size = shape[axis] - known;
      known = shape[axis];
    }
    bool fits = known == shape[axis];
    for (int64_t size : sizes) fits = fits && size >= 0;
    if (!context.Check(fits, "the sizes must sum to the length of the axis")) return;
    const int64_t outer = ProductOf(shape, 0, axis), width = ProductOf(shape, axis, shape.size());
    const int64_t inner = ProductOf(shape, axis + 1, shape.size());
    for (size_t i = 0; i < sizes.size() && !context.failed(); i++) {
      Shape piece = shape;
      piece[axis] = sizes[i];
      const int64_t own_width = sizes[i] * inner;
      Element* result = context.Output<Element>(static_cast<int>(i), piece);
      if (context.failed()) return;
      MoveBox(context, sizeof(Element), x, {width, 1}, result, {own_width, 1}, {outer, own_width});
      x += own_width;
    }
  }
};

// x, begin, size → a box of x
template <typename Element>
struct Slice {
  void Compute(Context& context) const {
    const Shape shape = context.Shape(0), strides = StridesOf(shape);
    const std::vector<int64_t> begin = Vector(context, 1);
    std::vector<int64_t> size = Vector(context, 2);
    const Element* x = context.Input<Element>(0);
    const bool complete = begin.size() == shape.size() && size.size() == shape.size();
    if (!context.Check(complete, "begin and size must name every axis")) return;
    int64_t offset = 0;
    for (size_t axis = 0; axis < shape.size(); axis++) {
      if (size[axis] == -1) size[axis] = shape[axis] - begin[axis];
      const bool inside = begin[axis] >= 0 && size[axis] >= 0 && begin[axis] + size[axis] <= shape[axis];
      if (!context.Check(inside, "the slice is outside the tensor")) return;
      offset += begin[axis] * strides[axis];
    }
    Element* result = context.Output<Element>(0, size);
    if (context.failed()) return;
    MoveBox(context, sizeof(Element), x + offset, strides, result, StridesOf(size), size);
  }
};

// x, paddings [axes, 2] → x with zeros around it
template <typename Element>
struct Pad {
  void Compute(Context& context) const {
    const Shape shape = context.Shape(0);
    const std::vector<int64_t> paddings = Vector(context, 1);
    const Element* x = context.Input<Element>(0);
    if (!context.Check(paddings.size() == 2 * shape.size(), "every axis needs two paddings")) return;
    Shape padded;
    for (size_t axis = 0; axis < shape.size(); axis++) {
      const bool fits = paddings[2 * axis] >= 0 && paddings[2 * axis + 1] >= 0;
      if (!context.Check(fits, "a padding cannot be negative")) return;
      padded.push_back(paddings[2 * axis] + shape[axis] + paddings[2 * axis + 1]);
    }
    Element* result = context.Output<Element>(0, padded);
    if (context.failed()) return;
    const Shape strides = StridesOf(padded);
    Clear(context, result, SizeOf(padded) * static_cast<int64_t>(sizeof(Element)));
    for (size_t axis = 0; axis < shape.size(); axis++) result += paddings[2 * axis] * strides[axis];
    MoveBox(context, sizeof(Element), x, StridesOf(shape), result, strides, shape);
  }
};

// x, shift, axis → element i of the axis is at i + shift, round the end
template <typename Element>
struct Roll {
  void Compute(Context& context) const {
    const Shape shape = context.Shape(0);
    const std::vector<int64_t> shift = Vector(context, 1);
    const int64_t axis = AxisOf(context, 2, static_cast<int64_t>(shape.size()));
    const Element* x = context.Input<Element>(0);
    if (!context.Check(shift.size() == 1, "one axis can be rolled")) return;
    Element* result = context.Output<Element>(0, shape);
    if (context.failed() || SizeOf(shape) == 0) return;
    const int64_t length = shape[axis], by = (shift[0] % length + length) % length;
    const int64_t outer = ProductOf(shape, 0, axis), inner = ProductOf(shape, axis + 1, shape.size());
    const Shape strides{length * inner, 1};
    MoveBox(context, sizeof(Element), x, strides, result + by * inner, strides, {outer, (length - by) * inner});
    if (by > 0)
      MoveBox(context, sizeof(Element), x + (length - by) * inner, strides, result, strides, {outer, by * inner});
  }
};

// shape, value [] → the value everywhere
template <typename Element>
struct Fill {
  void Compute(Context& context) const {
    const Shape shape = Vector(context, 0);
    const Element* value = context.Input<Element>(1);
    if (!context.Check(context.Size(1) == 1, "one value is needed")) return;
    for (int64_t length : shape) {
      if (!context.Check(length >= 0, "a shape cannot be negative")) return;
    }
    Element* result = context.Output<Element>(0, shape);
    if (context.failed()) return;
    FillElements(context, sizeof(Element), value, result, SizeOf(shape));
  }
};

// x [n, …], indices of any shape, axis (the first only) → the slices of x
template <typename Element>
struct Gather {
  void Compute(Context& context) const {
    const Shape shape = context.Shape(0);
    Shape result_shape = context.Shape(1);
    const int64_t axis = AxisOf(context, 2, static_cast<int64_t>(shape.size()));
    const Element* x = context.Input<Element>(0);
    const int32_t* indices = context.Input<int32_t>(1);
    if (!context.Check(axis == 0, "slices of the first axis only can be gathered on a GPU")) return;
    const int64_t m = SizeOf(result_shape);
    result_shape.insert(result_shape.end(), shape.begin() + 1, shape.end());
    Element* result = context.Output<Element>(0, result_shape);
    if (context.failed()) return;
    GatherRows(context, sizeof(Element), x, indices, shape[0], m, ProductOf(shape, 1, shape.size()), result);
  }
};

// The kernels of an op for every type but int32, whose tensors are in the host's memory.
template <template <typename Element> class Op>
std::vector<KernelDefinition> ForElements(const char* type, std::vector<const char*> index_types,
                                          const std::vector<const char*>& host_memory) {
  std::vector<KernelDefinition> all;
  for (TF_DataType number : {TF_FLOAT, TF_BFLOAT16, TF_HALF, TF_INT64, TF_UINT8, TF_BOOL}) {
    std::vector<TypeConstraint> constraints{{type, number}};
    for (const char* index_type : index_types) constraints.push_back({index_type, TF_INT32});
    switch (TF_DataTypeSize(number)) {
      case 1:
        all.push_back(GpuKernelOn<Op<uint8_t>>(constraints, host_memory));
        break;
      case 2:
        all.push_back(GpuKernelOn<Op<uint16_t>>(constraints, host_memory));
        break;
      case 4:
        all.push_back(GpuKernelOn<Op<uint32_t>>(constraints, host_memory));
        break;
      default:
        all.push_back(GpuKernelOn<Op<uint64_t>>(constraints, host_memory));
    }
  }
  return all;
}

const GpuOps kOps{
    {"Transpose", ForElements<Transpose>("T", {"Tperm"}, {"perm"})},
    {"ConcatV2", ForElements<Concat>("T", {"Tidx"}, {"axis"})},
    {"SplitV", ForElements<Split>("T", {"Tlen"}, {"size_splits", "split_dim"})},
    {"Slice", ForElements<Slice>("T", {"Index"}, {"begin", "size"})},
    {"Pad", ForElements<Pad>("T", {"Tpaddings"}, {"paddings"})},
    {"Roll", ForElements<Roll>("T", {"Tshift", "Taxis"}, {"shift", "axis"})},
    {"Fill", ForElements<Fill>("T", {"index_type"}, {"dims"})},
    {"GatherV2", ForElements<Gather>("Tparams", {"Tindices", "Taxis"}, {"axis"})},
};

}  // namespace
}  // namespace lorasmith::cuda
