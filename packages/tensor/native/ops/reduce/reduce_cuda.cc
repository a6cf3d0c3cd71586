// TensorFlow's Sum, Mean, Max and ArgMax on a GPU: reduce.cu.
#include <limits>

#include "cuda/host/launch.h"
#include "cuda/host/strides.h"

namespace lorasmith::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr int64_t kWarps = kThreads / 32;
constexpr int64_t kMostBlocks = 8192;
// Elements that one result of a pass covers.
constexpr int64_t kPieceOfRow = 4096;
constexpr int64_t kPieceOfColumn = 64;

struct Sum {
  static constexpr const char* kName = "Sum";
};
struct Max {
  static constexpr const char* kName = "Max";
};

template <typename From, typename To>
std::string TypeNames() {
  return std::is_same_v<From, To> ? TypeName<From>() : TypeName<From>() + "To" + TypeName<To>();
}

template <typename Operation, typename From, typename To>
const Kernel<void(const From* x, int64_t rows, int64_t width, int64_t piece, float scale, int32_t packed, To* result)>
    kRows{"reduce", Operation::kName + TypeNames<From, To>() + "Rows"};

template <typename Operation, typename From, typename To>
const Kernel<void(const From* x, int64_t outer, int64_t reduced, int64_t inner, int64_t piece, float scale, To* result)>
    kColumns{"reduce", Operation::kName + TypeNames<From, To>() + "Columns"};

// One axis of [outer, length, inner].
struct Axis {
  int64_t outer, length, inner;

  int64_t Piece() const { return inner == 1 ? kPieceOfRow : kPieceOfColumn; }
  int64_t Pieces() const { return std::max<int64_t>(1, DivideUp(length, Piece())); }
};

template <typename Operation, typename From, typename To>
void ReducePieces(Context& context, const Axis& axis, const From* x, float scale, To* result) {
  const int64_t pieces = axis.Pieces();
  if (axis.inner == 1) {
    const bool packed = reinterpret_cast<uintptr_t>(x) % 16 == 0 && axis.length % (16 / sizeof(From)) == 0;
    const int64_t blocks = std::min(DivideUp(axis.outer * pieces, kWarps), kMostBlocks);
    kRows<Operation, From, To>.Launch(context, {blocks}, kThreads, 0, x, axis.outer, axis.length, axis.Piece(), scale,
                                      packed, result);
  } else {
    const int64_t blocks = std::min(DivideUp(axis.outer * pieces * axis.inner, kThreads), kMostBlocks);
    kColumns<Operation, From, To>.Launch(context, {blocks}, kThreads, 0, x, axis.outer, axis.length, axis.inner,
                                         axis.Piece(), scale, result);
  }
}

// Reduces the axes, the first one of x [outer, length, inner], in passes: each but the last one into float32 scratch.
template <typename Operation, typename From, typename To>
void ReduceAxes(Context& context, std::vector<Axis> axes, const From* x, float scale, To* result) {
  Axis axis = axes.front();
  const int64_t pieces = axis.Pieces();
  if (pieces == 1) axes.erase(axes.begin());
  if (axes.empty()) return ReducePieces<Operation>(context, axis, x, scale, result);
  float* partial = context.Scratch<float>(axis.outer * pieces * axis.inner);
  if (context.failed()) return;
  ReducePieces<Operation>(context, axis, x, 1.0f, partial);
  if (pieces > 1) axes.front().length = pieces;
  ReduceAxes<Operation, float, To>(context, axes, partial, scale, result);
}

// The axes that are reduced, from the last to the first; those beside each other as one. `inner` counts what is left
// when the ones after it have been reduced.
std::vector<Axis> ReducedAxes(const Shape& shape, const std::vector<bool>& reduced) {
  Shape before(shape.size(), 1);
  for (size_t axis = 1; axis < shape.size(); axis++) before[axis] = before[axis - 1] * shape[axis - 1];
  std::vector<Axis> axes;
  int64_t inner = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (!reduced[axis]) {
      inner *= shape[axis];
    } else if (axis + 1 < shape.size() && reduced[axis + 1]) {
      axes.back() = {before[axis], axes.back().length * shape[axis], inner};
    } else {
      axes.push_back({before[axis], shape[axis], inner});
    }
  }
  return axes;
}

// x of any shape, axes → the sum, mean or maximum over them
template <typename Operation, bool kMean, typename Number>
struct Reduction {
  explicit Reduction(const Attributes& attributes) : keep_dims(attributes.Bool("keep_dims")) {}

  void Compute(Context& context) const {
    const Shape shape = context.Shape(0);
    const Number* x = context.Input<Number>(0);
    const int32_t* listed = context.Input<int32_t>(1);
    const int64_t rank = static_cast<int64_t>(shape.size());
    std::vector<bool> reduced(shape.size(), false);
    for (int64_t i = 0; i < context.Size(1); i++) {
      const int64_t axis = listed[i] < 0 ? listed[i] + rank : listed[i];
      if (!context.Check(axis >= 0 && axis < rank, "there is no such axis")) return;
      reduced[axis] = true;
    }
    std::vector<Axis> axes = ReducedAxes(shape, reduced);
    int64_t count = 1;
    for (const Axis& axis : axes) count *= axis.length;
    if (axes.empty()) axes.push_back({SizeOf(shape), 1, 1});
    Shape kept;
    for (int64_t axis = 0; axis < rank; axis++) {
      if (!reduced[axis]) kept.push_back(shape[axis]);
      if (reduced[axis] && keep_dims) kept.push_back(1);
    }
    Number* result = context.Output<Number>(0, kept);
    if (context.failed() || SizeOf(kept) == 0) return;
    if (SizeOf(shape) == 0) x = result;  // An empty tensor has no address, and nothing is read.
    const float scale = kMean ? 1.0f / static_cast<float>(count) : 1.0f;
    ReduceAxes<Operation>(context, axes, x, scale, result);
  }

  bool keep_dims;
};

template <typename Number>
const Kernel<void(const Number* x, int64_t width, int32_t* result)> kArgMax{"reduce", "ArgMax" + TypeName<Number>()};

// x [..., width], the last axis → [...] int32
template <typename Number>
struct ArgMax {
  void Compute(Context& context) const {
    Shape shape = context.Shape(0);
    const int64_t rank = static_cast<int64_t>(shape.size());
    const int32_t* axis = context.Input<int32_t>(1);
    const Number* x = context.Input<Number>(0);
    if (context.failed()) return;
    const bool last = rank > 0 && (*axis == rank - 1 || *axis == -1);
    if (!context.Check(last, "only the last axis can be searched on a GPU")) return;
    const int64_t width = shape.back();
    if (!context.Check(width > 0 && width <= std::numeric_limits<int32_t>::max(), "there is nothing to search")) return;
    shape.pop_back();
    int32_t* result = context.Output<int32_t>(0, shape);
    kArgMax<Number>.Launch(context, {SizeOf(shape)}, kThreads, 0, x, width, result);
  }
};

template <template <typename Number> class Op>
std::vector<KernelDefinition> OnAxes(const char* axes, std::vector<TypeConstraint> constraints) {
  std::vector<KernelDefinition> all;
  constraints.push_back({"Tidx", TF_INT32});
  constraints.push_back({"T", TF_FLOAT});
  all.push_back(GpuKernelOn<Op<float>>(constraints, {axes}));
  constraints.back().type = TF_BFLOAT16;
  all.push_back(GpuKernelOn<Op<BFloat16>>(constraints, {axes}));
  return all;
}

template <typename Number>
using SumOf = Reduction<Sum, false, Number>;
template <typename Number>
using MeanOf = Reduction<Sum, true, Number>;
template <typename Number>
using MaxOf = Reduction<Max, false, Number>;

const GpuOps kOps{
    {"Sum", OnAxes<SumOf>("reduction_indices", {})},
    {"Mean", OnAxes<MeanOf>("reduction_indices", {})},
    {"Max", OnAxes<MaxOf>("reduction_indices", {})},
    {"ArgMax", OnAxes<ArgMax>("dimension", {{"output_type", TF_INT32}})},
};

}  // namespace
}  // namespace lorasmith::cuda
