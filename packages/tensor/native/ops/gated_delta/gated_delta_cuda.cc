// The gated delta rule on a GPU: kernels/gated_delta_*.cu, some for each head size. What it computes is in
// gated_delta.h.
//
// Scratch memory for each token, with heads of D numbers: queries and keys of 4 D bytes for each key head; in the
// backward pass, for each value head, 12 D bytes of vectors, and of the gradients by states 4 D² bytes for every 64
// tokens, as many as the states have that are kept between the passes.
#include "cuda/host/launch.h"
#include "ops/gated_delta/gated_delta.h"
#include "ops/gated_delta/gated_delta_shape.h"

namespace lorasmith::cuda {
namespace {

static_assert(kChunk == kRowTile, "states are kept where tiles begin");

template <typename Number>
const Kernel<void(const Number* qkv, const Number* ba, const float* a_log, const float* dt_bias, DeltaShape shape,
                  int head_size, float* query, float* key, float* gate, float* beta)>
    kPrepare{"gated_delta_tokens", "GatedDeltaPrepare" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* gradient, DeltaShape shape, int head_size, float* by_output)> kSpread{
    "gated_delta_tokens", "GatedDeltaSpread" + TypeName<Number>()};

template <typename Number>
const Kernel<void(const Number* qkv, const float* by_query, const float* by_key, DeltaShape shape, int head_size,
                  Number* by_qkv)>
    kByVectors{"gated_delta_tokens", "GatedDeltaByVectors" + TypeName<Number>()};

// The kernels of one head size.
template <typename Number>
struct HeadKernels {
  explicit HeadKernels(int size)
      : head_size(size),
        forward(Module(size), Name("", size)),
        errors(Module(size), Name("Errors", size)),
        backward(Module(size), Name("Backward", size)),
        chunk(Module(size), Name("Chunk", size)) {}

  int head_size;
  Kernel<void(const Number* qkv, const float* query, const float* key, const float* gate, const float* beta,
              const int32_t* offsets, DeltaShape shape, const float* before, Number* output, float* kept, float* last)>
      forward;
  Kernel<void(const Number* qkv, const float* query, const float* key, const float* gate, const float* beta,
              const int32_t* offsets, DeltaShape shape, const float* kept, float* errors)>
      errors;
  Kernel<void(const float* query, const float* key, const float* gate, const float* beta, const float* by_output,
              const int32_t* offsets, DeltaShape shape, float* by_delta, float* ends, Number* by_qkv)>
      backward;
  Kernel<void(const float* query, const float* key, const float* gate, const float* beta, const Number* ba,
              const float* a_log, const float* dt_bias, const int32_t* offsets, DeltaShape shape, const float* kept,
              const float* ends, const float* by_delta, float* by_output, float* errors, Number* by_ba)>
      chunk;

 private:
  static std::string Module(int size) { return "gated_delta_" + std::to_string(size); }
  static std::string Name(const char* kernel, int size) {
    return std::string("GatedDelta") + kernel + TypeName<Number>() + "_" + std::to_string(size);
  }
};

template <typename Number>
const HeadKernels<Number> kHeads[] = {HeadKernels<Number>(64), HeadKernels<Number>(128)};

// The kernels for the smallest size that holds a head's keys and values; null after a failure.
template <typename Number>
const HeadKernels<Number>* KernelsFor(Context& context, const DeltaStream<Number>& stream) {
  context.Check(stream.rows >= 0 && stream.rows <= stream.tokens && stream.tokens <= INT32_MAX,
                "there must be 0 to tokens rows");
  if (context.failed()) return nullptr;
  for (const HeadKernels<Number>& kernels : kHeads<Number>)
    if (std::max(stream.key_size, stream.value_size) <= kernels.head_size) return &kernels;
  context.Fail(TF_INVALID_ARGUMENT, "on a GPU, keys and values of linear attention have at most 128 numbers in a head");
  return nullptr;
}

template <typename Number>
DeltaShape ShapeOf(const DeltaStream<Number>& stream) {
  return {stream.tokens,
          stream.width,
          static_cast<int>(stream.rows),
          static_cast<int>(stream.key_heads),
          static_cast<int>(stream.value_heads),
          static_cast<int>(stream.key_size),
          static_cast<int>(stream.value_size)};
}

// What every value head needs of each token, as the sweeps read it.
struct DeltaTokens {
  template <typename Number>
  DeltaTokens(Context& context, const DeltaStream<Number>& stream, const DeltaShape& shape, int head_size)
      : query(context.Scratch<float>(stream.tokens * stream.key_heads * head_size)),
        key(context.Scratch<float>(stream.tokens * stream.key_heads * head_size)),
        gate(context.Scratch<float>(stream.tokens * stream.value_heads)),
        beta(context.Scratch<float>(stream.tokens * stream.value_heads)) {
    kPrepare<Number>.Launch(context, {stream.tokens}, kDeltaTokenThreads, 0, stream.qkv, stream.ba, stream.a_log,
                            stream.dt_bias, shape, head_size, query, key, gate, beta);
  }

  float* query;
  float* key;
  float* gate;
  float* beta;
};

template <typename Number>
struct GatedDelta {
  explicit GatedDelta(const Attributes& attributes)
      : attributes(attributes), record(attributes.Bool("record")), keep_last(attributes.Bool("keep_last")) {}

  void Compute(Context& context) const {
    const DeltaStream<Number> stream(context, attributes, 0);
    const HeadKernels<Number>* kernels = KernelsFor(context, stream);
    if (kernels == nullptr) return;
    const int size = kernels->head_size;
    const DeltaOperands<Number> o(context, stream, record, keep_last, size * size);
    if (context.failed() || o.tokens == 0) return;
    const DeltaShape shape = ShapeOf(o);
    const DeltaTokens tokens(context, stream, shape, size);
    // The backward pass reads all columns of a state that is kept.
    const int64_t columns = DivideUp(record ? size : o.value_size, kDeltaColumns);
    kernels->forward.Launch(context, {o.rows, o.value_heads, columns}, kDeltaSweepThreads, 0, o.qkv, tokens.query,
                            tokens.key, tokens.gate, tokens.beta, o.offsets, shape, o.before, o.output, o.kept, o.last);
  }

  DeltaAttributes attributes;
  bool record;
  bool keep_last;
};

template <typename Number>
struct GatedDeltaGradient {
  explicit GatedDeltaGradient(const Attributes& attributes) : attributes(attributes) {}

  void Compute(Context& context) const {
    const DeltaStream<Number> stream(context, attributes, 1);
    const HeadKernels<Number>* kernels = KernelsFor(context, stream);
    if (kernels == nullptr) return;
    const int size = kernels->head_size;
    const DeltaGradientOperands<Number> o(context, stream, size * size);
    if (context.failed() || o.tokens == 0) return;
    const DeltaShape shape = ShapeOf(o);
    const int64_t numbers = o.tokens * o.value_heads * size;
    float* by_output = context.Scratch<float>(numbers);
    float* errors = context.Scratch<float>(numbers);
    float* by_delta = context.Scratch<float>(numbers);
    float* ends = context.Scratch<float>(o.states() * o.value_heads * size * size);
    const DeltaTokens tokens(context, stream, shape, size);
    const auto [query, key, gate, beta] = tokens;
    const int64_t columns = size / kDeltaColumns;
    const Grid chunks{RowSlots(o.tokens, o.rows), o.value_heads};
    kSpread<Number>.Launch(context, {o.tokens}, kDeltaTokenThreads, 0, o.gradient, shape, size, by_output);
    kernels->errors.Launch(context, {chunks.x, o.value_heads, columns}, kDeltaSweepThreads, 0, o.qkv, query, key, gate,
                           beta, o.offsets, shape, o.kept, errors);
    kernels->backward.Launch(context, {o.rows, o.value_heads, columns}, kDeltaSweepThreads, 0, query, key, gate, beta,
                             by_output, o.offsets, shape, by_delta, ends, o.by_qkv);
    // The gradients by queries and keys take the place of by_output and errors.
    kernels->chunk.Launch(context, chunks, kDeltaChunkThreads, 0, query, key, gate, beta, o.ba, o.a_log, o.dt_bias,
                          o.offsets, shape, o.kept, ends, by_delta, by_output, errors, o.by_ba);
    kByVectors<Number>.Launch(context, {o.tokens}, kDeltaTokenThreads, 0, o.qkv, by_output, errors, shape, size,
                              o.by_qkv);
  }

  DeltaAttributes attributes;
};

const GpuOps kOps{
    {"LorasmithGatedDelta", GpuKernels<GatedDelta>()},
    {"LorasmithGatedDeltaGradient", GpuKernels<GatedDeltaGradient>()},
};

}  // namespace
}  // namespace lorasmith::cuda
