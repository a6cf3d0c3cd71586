// Products of large bfloat16 matrices on processors with AVX512-BF16, where they take most of a training step.
//
// The second matrix is packed into panels of 32 columns with pairs of depth side by side, as VDPBF16PS needs them. It
// is packed again for every product, which costs less than 1 % of the product and no memory between products. A tile of
// 14 rows by 32 columns stays in registers for the whole depth of a chunk (Goto and van de Geijn 2008, "Anatomy of
// high-performance matrix multiplication"). The sum of an element has the same order for all sizes and numbers of
// threads, so the result of a token does not depend on the tokens beside it.
#include "kernel.h"

#if defined(__AVX512BF16__)

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "bfloat16_tile.h"
#include "parallel.h"

namespace lorasmith {
namespace {

// Depth of a chunk: its panel and rows fit into the second-level cache together.
constexpr int64_t kDepthChunk = 3072;

// Most tiles of rows in a piece. A piece is read again for every panel, so it must fit into the cache.
constexpr int64_t kBlockTiles = 8;

// Numbers that are packed at once: they fit into the third-level cache.
constexpr int64_t kPackedNumbers = 2 << 20;

struct Sizes {
  int64_t rows;
  int64_t columns;
  int64_t depth;
};

// Panels first_panel … first_panel + panels - 1, at depth from … from + depth - 1.
struct Chunk {
  int64_t first_panel;
  int64_t panels;
  int64_t from;
  int64_t depth;
};

// Packs the panels of a chunk, shared by the threads. Help returns when all panels are packed.
class Packing {
 public:
  Packing(Matrix b, bool transposed, const Chunk& chunk, BFloat16* packed)
      : b_(b), transposed_(transposed), chunk_(chunk), packed_(packed) {}

  void Help() {
    for (int64_t panel = next_.fetch_add(1); panel < chunk_.panels; panel = next_.fetch_add(1)) {
      const int64_t column = (chunk_.first_panel + panel) * kPanelColumns;
      BFloat16* to = packed_ + panel * kPanelColumns * chunk_.depth;
      if (transposed_) {
        PackTransposedPanel({b_.data + column * b_.stride + chunk_.from, b_.stride}, chunk_.depth, to);
      } else {
        PackPanel({b_.data + chunk_.from * b_.stride + column, b_.stride}, chunk_.depth, to);
      }
      done_.fetch_add(1, std::memory_order_release);
    }
    // The wait is at most the time to pack one panel, too short to sleep.
    while (done_.load(std::memory_order_acquire) < chunk_.panels) std::this_thread::yield();
  }

 private:
  Matrix b_;
  bool transposed_;
  const Chunk& chunk_;
  BFloat16* packed_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> done_{0};
};

// Copies rows whose distance would make them compete for a few cache lines. Other rows are returned as they are.
Matrix Apart(Matrix a, int64_t rows, int64_t depth) {
  constexpr int64_t kSharedBytes = 2048;
  constexpr int64_t kLine = 32;
  if (a.stride * sizeof(BFloat16) % kSharedBytes != 0) return a;
  static thread_local std::vector<BFloat16> copy;
  const int64_t stride = (depth + kLine - 1) / kLine * kLine + kLine;
  copy.resize(rows * stride);
  for (int64_t row = 0; row < rows; row++) {
    std::memcpy(&copy[row * stride], a.data + row * a.stride, depth * sizeof(BFloat16));
  }
  return {copy.data(), stride};
}

// Cuts the tiles of rows into pieces that get smaller, so that all threads finish together. Returns where each piece
// begins, and the end.
std::vector<int64_t> Pieces(int64_t tiles, int64_t threads) {
  std::vector<int64_t> begins{0};
  while (begins.back() < tiles) {
    const int64_t left = tiles - begins.back();
    begins.push_back(begins.back() + std::clamp<int64_t>(left / (2 * threads), 1, kBlockTiles));
  }
  return begins;
}

// Prefetches, step by step, the rows that this thread will probably take next into its second-level cache.
class Ahead {
 public:
  Ahead(Matrix a, const Chunk& chunk, const std::vector<int64_t>& begins, int64_t piece, int64_t groups, int64_t rows) {
    if (groups > 1 || piece + 1 >= static_cast<int64_t>(begins.size())) return;
    const int64_t first = begins[piece] * kTileRows;
    from_ = a.data + first * a.stride + chunk.from;
    stride_ = a.stride;
    rows_ = std::min(rows, begins[piece + 1] * kTileRows) - first;
    lines_ = (chunk.depth + kLine - 1) / kLine;
  }

  // Prefetches part `part` of `parts`.
  void Fetch(int64_t part, int64_t parts) const {
    const int64_t all = rows_ * lines_;
    for (int64_t line = all * part / parts; line < all * (part + 1) / parts; line++) {
      _mm_prefetch(reinterpret_cast<const char*>(from_ + line / lines_ * stride_ + line % lines_ * kLine), _MM_HINT_T1);
    }
  }

 private:
  static constexpr int64_t kLine = 32;
  const BFloat16* from_ = nullptr;
  int64_t stride_ = 0;
  int64_t rows_ = 0;
  int64_t lines_ = 0;
};

void MultiplyChunk(Matrix a, Matrix b, bool transposed, const Sizes& sizes, const Chunk& chunk, BFloat16* packed,
                   const BFloat16* addend, BFloat16* result, float* sums) {
  const int64_t threads = Threads();
  const std::vector<int64_t> begins = Pieces((sizes.rows + kTileRows - 1) / kTileRows, threads);
  const int64_t pieces = static_cast<int64_t>(begins.size()) - 1;
  // With few rows, the panels are divided among the threads as well.
  const int64_t groups = pieces >= 4 * threads ? 1 : std::min(chunk.panels, 4 * threads);
  const int64_t sums_stride = chunk.panels * kPanelColumns;
  Packing packing(b, transposed, chunk, packed);
  ParallelFor(pieces * groups, [&](int64_t index) {
    packing.Help();
    const int64_t piece = index / groups, group = index % groups;
    const int64_t first_row = begins[piece] * kTileRows;
    const int64_t end_row = std::min(sizes.rows, begins[piece + 1] * kTileRows);
    const Matrix rows = Apart({a.data + first_row * a.stride + chunk.from, a.stride}, end_row - first_row, chunk.depth);
    const Ahead ahead(a, chunk, begins, piece + threads, groups, sizes.rows);
    for (int64_t panel = chunk.panels * group / groups; panel < chunk.panels * (group + 1) / groups; panel++) {
      const int64_t column = (chunk.first_panel + panel) * kPanelColumns;
      ahead.Fetch(panel, chunk.panels);
      for (int64_t row = first_row; row < end_row; row += kTileRows) {
        const int64_t at = row * sizes.columns + column;
        const Target to{result + at,
                        sizes.columns,
                        addend == nullptr ? nullptr : addend + at,
                        sums == nullptr ? nullptr : sums + row * sums_stride + panel * kPanelColumns,
                        sums_stride,
                        chunk.from == 0,
                        chunk.from + chunk.depth == sizes.depth};
        kTiles[std::min<int64_t>(kTileRows, end_row - row)]({rows.data + (row - first_row) * rows.stride, rows.stride},
                                                            packed + panel * kPanelColumns * chunk.depth, chunk.depth,
                                                            to);
      }
    }
  });
}

// a [rows, depth] · b [depth, columns], or b [columns, depth] with transpose_b → [rows, columns]. With kAddend, the
// third input is an addend of the shape of the result.
template <bool kAddend>
struct Product {
  explicit Product(const Attributes& attributes) : transposed(attributes.Int("transpose_b") != 0) {}

  void Compute(Context& context) const {
    const Sizes sizes{context.Dim(0, 0), context.Dim(1, transposed ? 0 : 1), context.Dim(0, 1)};
    const BFloat16* a = context.Input<BFloat16>(0);
    const BFloat16* b = context.Input<BFloat16>(1);
    if (!context.Check(context.Dim(1, transposed ? 1 : 0) == sizes.depth, "the matrices must have the same depth"))
      return;
    const bool whole = sizes.depth > 0 && sizes.depth % 2 == 0 && sizes.columns % kPanelColumns == 0;
    if (!context.Check(whole, "the depth must be even and the columns whole panels of 32")) return;
    const BFloat16* addend = kAddend ? context.Input<BFloat16>(2) : nullptr;
    const bool fits = !kAddend || (context.Dim(2, 0) == sizes.rows && context.Dim(2, 1) == sizes.columns);
    if (!context.Check(fits, "the addend must have the shape of the product")) return;
    BFloat16* result = context.Output<BFloat16>(0, {sizes.rows, sizes.columns});
    if (context.failed()) return;
    const int64_t depth = std::min(sizes.depth, kDepthChunk);
    const int64_t all_panels = sizes.columns / kPanelColumns;
    const int64_t panels = std::clamp<int64_t>(kPackedNumbers / (depth * kPanelColumns), 1, all_panels);
    // Reused by later products. TensorFlow runs one op at a time here.
    static thread_local std::vector<BFloat16> packed;
    packed.resize(panels * kPanelColumns * depth);
    std::vector<float> sums(depth < sizes.depth ? sizes.rows * panels * kPanelColumns : 0);
    for (int64_t panel = 0; panel < all_panels; panel += panels) {
      for (int64_t from = 0; from < sizes.depth; from += kDepthChunk) {
        const Chunk chunk{panel, std::min(panels, all_panels - panel), from, std::min(kDepthChunk, sizes.depth - from)};
        MultiplyChunk({a, sizes.depth}, {b, transposed ? sizes.depth : sizes.columns}, transposed, sizes, chunk,
                      packed.data(), addend, result, sums.empty() ? nullptr : sums.data());
      }
    }
  }

  bool transposed;
};

std::vector<KernelDefinition> ProcessorKernels(bool with_addend) {
  return {with_addend ? KernelOn<Product<true>>("CPU", TF_BFLOAT16) : KernelOn<Product<false>>("CPU", TF_BFLOAT16)};
}

}  // namespace
}  // namespace lorasmith

#else

namespace lorasmith {
namespace {
std::vector<KernelDefinition> ProcessorKernels(bool) { return {}; }
}  // namespace
}  // namespace lorasmith

#endif

namespace lorasmith {

std::vector<OpDefinition> ProductOps() {
  return {
      {"LorasmithProduct", {"a: T", "b: T"}, {"result: T"}, {"transpose_b: int"}, ProcessorKernels(false)},
      {"LorasmithProductAdd",
       {"a: T", "b: T", "addend: T"},
       {"result: T"},
       {"transpose_b: int"},
       ProcessorKernels(true)},
  };
}

}  // namespace lorasmith
