// TensorFlow's arithmetic element by element on a GPU: elementwise.cu.
#include "cuda/host/launch.h"
#include "cuda/host/strides.h"

namespace lorasmith::cuda {
namespace {

template <typename Operation, typename Number, typename Result>
const Kernel<void(const Number* a, const Number* b, Result* result, StridedPair shape, int32_t packed)> kBinary{
    "elementwise", std::string(Operation::kName) + TypeName<Number>()};

template <typename Operation, typename Number>
const Kernel<void(const Number* x, Number* result, int64_t packs, int32_t packed)> kUnary{
    "elementwise", std::string(Operation::kName) + TypeName<Number>()};

template <typename Number>
constexpr int64_t kPack = 16 / sizeof(Number);

bool IsAligned(const void* a, const void* b, const void* c) {
  return ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | reinterpret_cast<uintptr_t>(c)) & 15) == 0;
}

// a, b of any shapes that NumPy broadcasts → result
template <typename Operation, typename Number, typename Result>
struct Binary {
  void Compute(Context& context) const {
    const Shape left = context.Shape(0), right = context.Shape(1);
    const Number* a = context.Input<Number>(0);
    const Number* b = context.Input<Number>(1);
    Shape shape;
    if (!context.Check(BroadcastShapes(left, right, &shape), "the shapes cannot be broadcast")) return;
    Result* result = context.Output<Result>(0, shape);
    StridedPair pair;
    const bool fits = JoinAxes(shape, BroadcastStrides(left, shape), BroadcastStrides(right, shape), &pair);
    if (!context.Check(fits, "the shapes have too many axes")) return;
    const bool packed = IsAligned(a, b, result) && Pack(kPack<Number>, &pair);
    kBinary<Operation, Number, Result>.Launch(context, {ElementBlocks(pair.size)}, kElementThreads, 0, a, b, result,
                                              pair, packed);
  }
};

template <typename Operation, typename Number>
struct Unary {
  void Compute(Context& context) const {
    const int64_t size = context.Size(0);
    const Number* x = context.Input<Number>(0);
    Number* result = context.Output<Number>(0, context.Shape(0));
    const bool packed = IsAligned(x, result, nullptr) && size % kPack<Number> == 0;
    const int64_t packs = packed ? size / kPack<Number> : size;
    kUnary<Operation, Number>.Launch(context, {ElementBlocks(packs)}, kElementThreads, 0, x, result, packs, packed);
  }
};

template <typename Operation>
std::vector<KernelDefinition> Arithmetic() {
  return {GpuKernelOn<Binary<Operation, float, float>>({{"T", TF_FLOAT}}),
          GpuKernelOn<Binary<Operation, BFloat16, BFloat16>>({{"T", TF_BFLOAT16}})};
}

template <typename Operation>
std::vector<KernelDefinition> Comparison() {
  return {GpuKernelOn<Binary<Operation, float, bool>>({{"T", TF_FLOAT}}),
          GpuKernelOn<Binary<Operation, BFloat16, bool>>({{"T", TF_BFLOAT16}})};
}

template <typename Operation>
std::vector<KernelDefinition> Function() {
  return {GpuKernelOn<Unary<Operation, float>>({{"T", TF_FLOAT}}),
          GpuKernelOn<Unary<Operation, BFloat16>>({{"T", TF_BFLOAT16}})};
}

#define OPERATION(NAME)                         \
  struct NAME {                                 \
    static constexpr const char* kName = #NAME; \
  };
OPERATION(Add)
OPERATION(Sub)
OPERATION(Mul)
OPERATION(Div)
OPERATION(Maximum)
OPERATION(Minimum)
OPERATION(Greater)
OPERATION(GreaterEqual)
OPERATION(Square)
OPERATION(Sqrt)
OPERATION(Rsqrt)
OPERATION(Exp)
OPERATION(Sigmoid)
OPERATION(Tanh)
OPERATION(Erf)
OPERATION(Relu)
#undef OPERATION

const GpuOps kOps{
    {"AddV2", Arithmetic<Add>()},       {"Sub", Arithmetic<Sub>()},
    {"Mul", Arithmetic<Mul>()},         {"RealDiv", Arithmetic<Div>()},
    {"Maximum", Arithmetic<Maximum>()}, {"Minimum", Arithmetic<Minimum>()},
    {"Greater", Comparison<Greater>()}, {"GreaterEqual", Comparison<GreaterEqual>()},
    {"Square", Function<Square>()},     {"Sqrt", Function<Sqrt>()},
    {"Rsqrt", Function<Rsqrt>()},       {"Exp", Function<Exp>()},
    {"Sigmoid", Function<Sigmoid>()},   {"Tanh", Function<Tanh>()},
    {"Erf", Function<Erf>()},           {"Relu", Function<Relu>()},
};

}  // namespace
}  // namespace lorasmith::cuda
