// An adapter merged into a weight on a GPU: merged_weight.cu, some rows after the others, and for each the
// product of the tokens with the weight before it is rounded. What is computed is in merged_weight.cc.
#include <algorithm>

#include "cuda/host/launch.h"
#include "ops/merged_weight/merged_weight.h"
#include "ops/merged_weight/merged_weight_operands.h"
#include "ops/product/multiply.h"

namespace lorasmith::cuda {
namespace {

// Of the rows of a weight that are in float32 at one time.
constexpr int64_t kExactBytes = 1 << 25;

template <typename Base, typename Result>
const Kernel<void(const Base* base, MergedRows rows, Result* weight, float* exact, float* squares)> kMergeRows{
    "merged_weight",
    "MergeRows" + TypeName<Base>() + (sizeof(Base) == sizeof(Result) ? "" : "To" + TypeName<Result>())};

const Kernel<void(const float* squares, int64_t blocks, float* norms)> kMergedNorms{"merged_weight",
                                                                                    "MergedNormsFloat32"};

StoredType StoredTypeOf(int64_t dtype) {
  return dtype == TF_HALF ? StoredType::kFloat16 : dtype == TF_BFLOAT16 ? StoredType::kBFloat16 : StoredType::kFloat32;
}

template <typename Base, typename Result>
struct MergedWeight {
  explicit MergedWeight(const Attributes& attributes) : layout(attributes), stored(attributes.Ints("stored")) {}

  void Compute(Context& context) const {
    const MergedWeightOperands<Base, Result> o(context, layout, stored);
    if (context.failed() || layout.in == 0) return;
    float* exact = context.Scratch<float>(RowsAtOnce() * layout.in);
    const std::vector<LayerMatrices> matrices = MatricesOf(layout, o.parameters);
    ForEachPart(layout, [&](int64_t layer, int64_t first, int64_t count) {
      MergedRows part{nullptr, nullptr, count, layout.in, 0, 0.0f, StoredTypeOf(kBaseType)};
      if (layer < 0) return MergePart(context, o, part, first, exact, nullptr);
      part.a = matrices[layer].a, part.b = matrices[layer].b;
      part.rank = static_cast<int>(layout.ranks[layer]), part.scale = layout.scales[layer];
      part.stored = StoredTypeOf(stored[layer]);
      const int64_t blocks = MergedBlocks(count, layout.in);
      float* squares = context.Scratch<float>(3 * blocks);
      MergePart(context, o, part, first, exact, squares);
      kMergedNorms.Launch(context, {1}, kMergedTileColumns, 0, squares, blocks, o.norms + 3 * layer);
    });
  }

 private:
  static constexpr TF_DataType kBaseType = std::is_same_v<Base, float> ? TF_FLOAT : TF_BFLOAT16;

  // Rows of whole blocks.
  int64_t RowsAtOnce() const {
    const int64_t fitting = std::min(layout.out, kExactBytes / (layout.in * 4));
    return std::max<int64_t>(1, fitting / kMergedTileRows) * kMergedTileRows;
  }

  // Merges the rows of a part, from row `first` of the group on, and multiplies the tokens with them.
  void MergePart(Context& context, const MergedWeightOperands<Base, Result>& o, const MergedRows& part, int64_t first,
                 float* exact, float* squares) const {
    Product product;
    product.rows = o.token_count;
    product.depth = layout.in;
    product.transpose_b = true;
    product.result_stride = layout.out;
    for (int64_t done = 0; done < part.rows && !context.failed();) {
      MergedRows rows = part;
      rows.rows = std::min(RowsAtOnce(), part.rows - done);
      if (part.b != nullptr) rows.b = part.b + done * part.rank;
      const int64_t at = (first + done) * layout.in, blocks = MergedBlocks(rows.rows, layout.in);
      kMergeRows<Base, Result>.Launch(context, {blocks}, kMergedTileColumns, 0, o.base + at, rows, o.weight + at, exact,
                                      squares);
      product.columns = rows.rows;
      Multiply(context, product, o.tokens, exact, nullptr, o.output + first + done);
      if (squares != nullptr) squares += 3 * blocks;
      done += rows.rows;
    }
  }

  LoraLayout layout;
  std::vector<int64_t> stored;
};

template <typename Base, typename Result>
KernelDefinition Definition(TF_DataType base, TF_DataType result) {
  return GpuKernelOn<MergedWeight<Base, Result>>({{"T", base}, {"Result", result}});
}

const GpuOps kOps{{"LorasmithMergedWeight",
                   {Definition<float, float>(TF_FLOAT, TF_FLOAT), Definition<BFloat16, float>(TF_BFLOAT16, TF_FLOAT),
                    Definition<BFloat16, BFloat16>(TF_BFLOAT16, TF_BFLOAT16)}}};

}  // namespace
}  // namespace lorasmith::cuda
