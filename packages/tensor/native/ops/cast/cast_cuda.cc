// TensorFlow's Cast on a GPU (cast.cu), and Bitcast, which moves nothing.
#include "cuda/host/launch.h"
#include "cuda/host/strides.h"

namespace lorasmith::cuda {
namespace {

struct Float16 {
  uint16_t bits;
};

template <typename Number>
struct Type;
#define TYPE(NUMBER, NAME, TENSORFLOW)                     \
  template <>                                              \
  struct Type<NUMBER> {                                    \
    static constexpr const char* kName = NAME;             \
    static constexpr TF_DataType kTensorFlow = TENSORFLOW; \
  };
TYPE(float, "Float32", TF_FLOAT)
TYPE(BFloat16, "BFloat16", TF_BFLOAT16)
TYPE(Float16, "Float16", TF_HALF)
TYPE(int32_t, "Int32", TF_INT32)
TYPE(int64_t, "Int64", TF_INT64)
TYPE(uint8_t, "Uint8", TF_UINT8)
TYPE(bool, "Bool", TF_BOOL)
#undef TYPE

template <typename From, typename To>
const Kernel<void(const From* x, To* result, int64_t packs, int32_t packed)> kCast{
    "cast", std::string("Cast") + Type<From>::kName + "To" + Type<To>::kName};

template <typename From, typename To>
struct Cast {
  void Compute(Context& context) const {
    constexpr int64_t kPack = 16 / std::max(sizeof(From), sizeof(To));
    const int64_t size = context.Size(0);
    const From* x = context.Input<From>(0);
    To* result = context.Output<To>(0, context.Shape(0));
    const bool aligned = ((reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(result)) & 15) == 0;
    const bool packed = aligned && size % kPack == 0;
    const int64_t packs = packed ? size / kPack : size;
    kCast<From, To>.Launch(context, {ElementBlocks(packs)}, kElementThreads, 0, x, result, packs, packed);
  }
};

template <typename From, typename To>
KernelDefinition CastOf() {
  return GpuKernelOn<Cast<From, To>>({{"SrcT", Type<From>::kTensorFlow}, {"DstT", Type<To>::kTensorFlow}});
}

template <typename... Types>
struct TypeList {};
using AllTypes = TypeList<float, BFloat16, Float16, int32_t, int64_t, uint8_t, bool>;

template <typename From, typename... To>
std::vector<KernelDefinition> CastsFrom(TypeList<To...>) {
  return {CastOf<From, To>()...};
}

template <typename... From>
std::vector<KernelDefinition> AllCasts(TypeList<From...> types) {
  std::vector<KernelDefinition> all;
  for (const auto& casts : {CastsFrom<From>(types)...}) all.insert(all.end(), casts.begin(), casts.end());
  return all;
}

// bytes [..., width] → [...], for the little-endian content of files; bytes stay as they are
struct Bitcast {
  explicit Bitcast(const Attributes& attributes) : type(attributes.Type("type")) {}

  void Compute(Context& context) const {
    if (type == TF_UINT8) return context.Forward(0, 0);
    Shape shape = context.Shape(0);
    const bool fits = !shape.empty() && shape.back() == static_cast<int64_t>(TF_DataTypeSize(type));
    if (!context.Check(fits, "the last axis must have the bytes of one element")) return;
    shape.pop_back();
    context.ForwardAs(0, 0, type, shape);
  }

  TF_DataType type;
};

std::vector<KernelDefinition> Bitcasts() {
  std::vector<KernelDefinition> all;
  for (TF_DataType type : {TF_FLOAT, TF_BFLOAT16, TF_HALF, TF_UINT8}) {
    all.push_back(GpuKernelOn<Bitcast>({{"T", TF_UINT8}, {"type", type}}));
  }
  return all;
}

const GpuOps kOps{{"Cast", AllCasts(AllTypes())}, {"Bitcast", Bitcasts()}};

}  // namespace
}  // namespace lorasmith::cuda
