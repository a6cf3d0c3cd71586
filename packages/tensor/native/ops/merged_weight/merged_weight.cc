// A group's weight with an adapter merged into it, for the check of an adapter before it is published: everything that
// the check needs of a weight, in one pass over its rows.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../../weight-files/native/merge_rows.h"
#include "cpu/gemm.h"
#include "cpu/parallel.h"
#include "ops/merged_weight/merged_weight_operands.h"

namespace lorasmith {
namespace {

using merging::Float16Bits;
using merging::kPanelColumns;
constexpr int64_t kStripRows = merging::kTileRows;
constexpr int64_t kTile = kStripRows * kPanelColumns;

// Rows that a thread computes together: a panel of A and of the tokens is read from the first-level cache for them.
constexpr int64_t kBlockRows = 4 * kStripRows;

// Rounds to nearest even. What becomes of a number that is not finite does not matter: its error is NaN.
inline void Round(float value, float* to) { *to = value; }

inline void Round(float value, BFloat16* to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  to->bits = static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline void Round(float value, Float16Bits* to) { to->bits = merging::ToFloat16(value); }

inline Vector LoadVector(const float* from) { return *reinterpret_cast<const Vector*>(from); }

struct SquareSums {
  double error = 0;
  double update = 0;
  double base = 0;
};

// Of a tile. The numbers are scaled up first, so that the squares of tiny ones do not underflow.
double SquareSum(const float* values) {
  constexpr float kScale = 1 << 20;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < kTile; i++) sum += (kScale * values[i]) * (kScale * values[i]);
  return static_cast<double>(sum) / kScale / kScale;
}

// Some rows of one layer of the group, or of one that is not adapted.
struct Block {
  int64_t first_row;  // in the group
  int64_t rows;
  int64_t layer;      // -1: not adapted
  int64_t layer_row;  // of first_row, in the layer
};

// What all blocks read, and where they write.
template <typename Base, typename Result>
struct Matrices {
  const Base* base;     // [out, in]
  const float* tokens;  // [token_count, panels of in]
  Result* weight;       // [out, in]
  float* output;        // [token_count, out]
  int64_t in;
  int64_t out;
  int64_t token_count;
};

int64_t Panels(int64_t in) { return (in + kPanelColumns - 1) / kPanelColumns; }

// Adds what a panel gives to kTokens products of kRows rows; the sums of a product are kLanes apart.
template <int kRows, int kTokens>
inline void AddProducts(const float* exact, const float* tokens, int64_t token_stride, float* sums,
                        int64_t row_stride) {
  constexpr int kVectors = kPanelColumns / kLanes;
  Vector factors[kTokens][kVectors];
  for (int token = 0; token < kTokens; token++) {
    for (int v = 0; v < kVectors; v++) factors[token][v] = LoadVector(tokens + token * token_stride + v * kLanes);
  }
  for (int row = 0; row < kRows; row++) {
    for (int token = 0; token < kTokens; token++) {
      float* place = sums + row * row_stride + token * kLanes;
      Vector sum = LoadVector(place);
      for (int v = 0; v < kVectors; v++)
        sum += factors[token][v] * LoadVector(exact + row * kPanelColumns + v * kLanes);
      *reinterpret_cast<Vector*>(place) = sum;
    }
  }
}

// Tiles of kRows rows from `row` of the group on, in the columns of one panel. Exact is W + scale * B A before it is
// rounded to the dtype Stored of the base's files. `products` [kRows, token_count, kLanes] are added to.
template <int kRows, typename Stored, typename Base, typename Result>
void MergeTiles(const Matrices<Base, Result>& all, const merging::Update* update, int64_t layer_row, int64_t row,
                int64_t panel, float* products, SquareSums* sums) {
  const int64_t first = panel * kPanelColumns;
  const int64_t columns = std::min(kPanelColumns, all.in - first);
  alignas(64) float updates[kTile];
  alignas(64) float bases[kTile];
  alignas(64) float exact[kTile];
  alignas(64) float errors[kTile];
  // Beyond the last row and column there is nothing.
  if (columns < kPanelColumns || kRows < kStripRows) {
    for (float* tile : {updates, bases, exact, errors}) std::fill(tile, tile + kTile, 0.0f);
  }
  if (update == nullptr) {
    std::fill(updates, updates + kTile, 0.0f);
  } else {
    merging::UpdateTile<kRows>(*update, layer_row, panel, updates);
  }
  for (int r = 0; r < kRows; r++) {
    const Base* base = all.base + (row + r) * all.in + first;
    Result* weight = all.weight + (row + r) * all.in + first;
    const int64_t to = r * kPanelColumns;
#pragma omp simd
    for (int64_t i = 0; i < columns; i++) {
      const float value = ToFloat(base[i]);
      const float sum = value + updates[to + i];
      Stored stored;
      Round(sum, &stored);
      const float rounded = ToFloat(stored);
      bases[to + i] = value;
      exact[to + i] = sum;
      errors[to + i] = rounded - sum;
      Round(rounded, weight + i);
    }
    // Zero times an infinite B would be NaN.
    std::fill(updates + to + columns, updates + to + kPanelColumns, 0.0f);
  }
  if (update != nullptr) {
    sums->error += SquareSum(errors);
    sums->update += SquareSum(updates);
    sums->base += SquareSum(bases);
  }
  const int64_t token_stride = Panels(all.in) * kPanelColumns;
  const int64_t row_stride = all.token_count * kLanes;
  int64_t token = 0;
  for (; token + 2 <= all.token_count; token += 2) {
    AddProducts<kRows, 2>(exact, all.tokens + token * token_stride + first, token_stride, products + token * kLanes,
                          row_stride);
  }
  if (token < all.token_count) {
    AddProducts<kRows, 1>(exact, all.tokens + token * token_stride + first, token_stride, products + token * kLanes,
                          row_stride);
  }
}

template <typename Stored, typename Base, typename Result>
SquareSums MergeBlock(const Matrices<Base, Result>& all, const merging::Update* update, const Block& block) {
  // As TensorFlow's threads do.
  const merging::FlushSubnormals flush;
  const int64_t row_stride = all.token_count * kLanes;
  std::vector<float> products(block.rows * row_stride, 0.0f);
  SquareSums sums;
  for (int64_t panel = 0; panel < Panels(all.in); panel++) {
    int64_t done = 0;
    for (; done + kStripRows <= block.rows; done += kStripRows) {
      MergeTiles<kStripRows, Stored>(all, update, block.layer_row + done, block.first_row + done, panel,
                                     products.data() + done * row_stride, &sums);
    }
    for (; done < block.rows; done++) {
      MergeTiles<1, Stored>(all, update, block.layer_row + done, block.first_row + done, panel,
                            products.data() + done * row_stride, &sums);
    }
  }
  for (int64_t row = 0; row < block.rows; row++) {
    for (int64_t token = 0; token < all.token_count; token++) {
      const float* lanes = products.data() + row * row_stride + token * kLanes;
      float sum = 0;
      for (int64_t lane = 0; lane < kLanes; lane++) sum += lanes[lane];
      all.output[token * all.out + block.first_row + row] = sum;
    }
  }
  return sums;
}

// base [out, in], parameters [all], tokens [tokens, in] →
//   weight [out, in]: base + scale * B A in the rows of the adapted layers, rounded to the dtype `stored` of each;
//   output [tokens, out]: tokens times the transposed weight before it is rounded;
//   norms [layers, 3]: Frobenius norms of the rounding errors, of the updates, and of what they are added to.
template <typename Base, typename Result>
struct MergedWeight {
  explicit MergedWeight(const Attributes& attributes) : layout(attributes), stored(attributes.Ints("stored")) {}

  void Compute(Context& context) const {
    const MergedWeightOperands<Base, Result> o(context, layout, stored);
    if (context.failed()) return;
    const int64_t count = o.token_count, width = Panels(layout.in) * kPanelColumns;
    float* padded = context.Scratch<float>(count * width);
    float* panels = context.Scratch<float>(merging::PanelFloats(layout.total_rank, layout.in));
    if (context.failed()) return;
    for (int64_t token = 0; token < count; token++) {
      const float* from = o.tokens + token * layout.in;
      float* end = std::copy(from, from + layout.in, padded + token * width);
      std::fill(end, padded + (token + 1) * width, 0.0f);
    }
    const std::vector<merging::Update> updates = Updates(o.parameters, panels);
    const std::vector<Block> blocks = Blocks();
    std::vector<SquareSums> sums(blocks.size());
    const Matrices<Base, Result> all{o.base, padded, o.weight, o.output, layout.in, layout.out, count};
    ParallelFor(static_cast<int64_t>(blocks.size()), [&](int64_t index) {
      const Block& block = blocks[index];
      sums[index] = block.layer < 0 ? MergeBlock<Base>(all, nullptr, block)
                                    : MergeAs(stored[block.layer], all, &updates[block.layer], block);
    });
    StoreNorms(blocks, sums, o.norms);
  }

 private:
  static SquareSums MergeAs(int64_t dtype, const Matrices<Base, Result>& all, const merging::Update* update,
                            const Block& block) {
    if constexpr (std::is_same_v<Result, float>) {
      if (dtype == TF_FLOAT) return MergeBlock<float>(all, update, block);
      if (dtype == TF_HALF) return MergeBlock<Float16Bits>(all, update, block);
    }
    return MergeBlock<BFloat16>(all, update, block);
  }

  // The update of each layer, with its A packed into `panels`.
  std::vector<merging::Update> Updates(const float* parameters, float* panels) const {
    std::vector<merging::Update> updates;
    for (const auto& [a, b] : MatricesOf(layout, parameters)) {
      const size_t layer = updates.size();
      const int64_t rank = layout.ranks[layer];
      merging::PackPanels(a, layout.in, 1, rank, layout.in, panels);
      updates.push_back({b, rank, 1, panels, rank, layout.in, layout.scales[layer]});
      panels += merging::PanelFloats(rank, layout.in);
    }
    return updates;
  }

  std::vector<Block> Blocks() const {
    std::vector<Block> blocks;
    ForEachPart(layout, [&](int64_t layer, int64_t first, int64_t rows) {
      for (int64_t row = 0; row < rows; row += kBlockRows) {
        blocks.push_back({first + row, std::min(kBlockRows, rows - row), layer, row});
      }
    });
    return blocks;
  }

  void StoreNorms(const std::vector<Block>& blocks, const std::vector<SquareSums>& sums, float* norms) const {
    std::vector<SquareSums> totals(layout.ranks.size());
    for (size_t i = 0; i < blocks.size(); i++) {
      if (blocks[i].layer < 0) continue;
      SquareSums& total = totals[blocks[i].layer];
      total.error += sums[i].error;
      total.update += sums[i].update;
      total.base += sums[i].base;
    }
    for (const SquareSums& total : totals) {
      for (double square : {total.error, total.update, total.base}) *norms++ = static_cast<float>(std::sqrt(square));
    }
  }

  LoraLayout layout;
  std::vector<int64_t> stored;
};

template <typename Base, typename Result>
KernelDefinition Definition(TF_DataType base, TF_DataType result) {
  return KernelOn<MergedWeight<Base, Result>>("CPU", {{"T", base}, {"Result", result}});
}

}  // namespace

std::vector<OpDefinition> MergedWeightOps() {
  std::vector<const char*> attributes = LoraLayout::AttributeNames();
  attributes.insert(attributes.end(), {"stored: list(int)", "Result: {float, bfloat16}"});
  return {{"LorasmithMergedWeight",
           {"base: T", "parameters: float", "tokens: float"},
           {"weight: Result", "output: float", "norms: float"},
           attributes,
           {Definition<float, float>(TF_FLOAT, TF_FLOAT), Definition<BFloat16, float>(TF_BFLOAT16, TF_FLOAT),
            Definition<BFloat16, BFloat16>(TF_BFLOAT16, TF_BFLOAT16)}}};
}

}  // namespace lorasmith
