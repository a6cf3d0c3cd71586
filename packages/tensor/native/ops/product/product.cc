// Products of large matrices, where they take most of a training step: in float32 on processors with AVX-512, in
// bfloat16 on those with AVX512-BF16, and in the tile registers of those with AMX.
//
// The second matrix is packed into panels (tile.h), again for every product, which costs about 1 % of the product and
// no memory between products. The sum of an element has the same order for all sizes and numbers of threads, so the
// result of a token does not depend on the tokens beside it.
#include "cpu/kernel.h"

#if defined(__AVX512F__)

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "cpu/bfloat16_tile.h"
#include "cpu/float32_tile.h"
#include "cpu/parallel.h"
#include "ops/grouped_product/grouped_product_operands.h"
#include "ops/quantized/packed_operands.h"
#include "ops/quantized/packed_rows.h"

namespace lorasmith {
namespace {

// What is particular to an element type and its instructions. An object is one thread's.
struct Float32Tiles {
  using Number = float;
  static constexpr int64_t kTileRows = lorasmith::kTileRows;
  // Depth of a chunk: its panel and rows fit into the second-level cache together.
  static constexpr int64_t kDepthChunk = 768;
  // A depth is computed as the next multiple of this: zeros follow.
  static constexpr int64_t kDepthStep = 1;
  // Rows at a multiple of this distance compete for the same cache lines.
  static constexpr int64_t kSharedBytes = 4096;
  // Whether the sums between chunks need memory of their own.
  static constexpr bool kKeepsSums = false;

  void Multiply(Matrix<float> a, int64_t rows, const float* panel, int64_t depth, const Target<float>& to) {
    MultiplyTile(a, rows, panel, depth, to);
  }
};

#if defined(__AVX512BF16__)

struct BFloat16Tiles {
  using Number = BFloat16;
  static constexpr int64_t kTileRows = lorasmith::kTileRows;
  static constexpr int64_t kDepthChunk = 3072;
  static constexpr int64_t kDepthStep = 2;
  static constexpr int64_t kSharedBytes = 2048;
  static constexpr bool kKeepsSums = true;

  void Multiply(Matrix<BFloat16> a, int64_t rows, const BFloat16* panel, int64_t depth, const Target<BFloat16>& to) {
    kTiles[rows](a, panel, depth, to);
  }
};

#endif

#if defined(LORASMITH_AMX)

struct AmxBFloat16Tiles : AmxTiles {
  using Number = BFloat16;
  static constexpr int64_t kTileRows = AmxTiles::kRows;
  static constexpr int64_t kDepthChunk = 2048;
  static constexpr int64_t kDepthStep = AmxTiles::kDepth;
  static constexpr int64_t kSharedBytes = 2048;
  static constexpr bool kKeepsSums = true;
};

#endif

// Most tiles of rows in a piece. A piece is read again for every panel, so it must fit into the cache.
constexpr int64_t kBlockTiles = 8;

// Bytes that are packed at once: they fit into the third-level cache.
constexpr int64_t kPackedBytes = 4 << 20;

struct Sizes {
  int64_t rows;
  int64_t columns;
  int64_t depth;
  int64_t ColumnsOf(int64_t panel) const { return std::min(kPanelColumns, columns - panel * kPanelColumns); }
};

// Numbers of a panel of this depth.
template <typename Tiles>
constexpr int64_t PanelSize(int64_t depth) {
  return kPanelColumns * RoundUp(depth, Tiles::kDepthStep);
}

template <typename Tiles, typename Source, typename Number = typename Tiles::Number>
void Pack(const Source& b, bool transposed, int64_t depth, int64_t columns, Number* panel) {
  if (transposed) {
    PackTransposedPanel(b, depth, columns, panel);
  } else {
    PackPanel(b, depth, columns, panel);
  }
  // Packing completes a pair of depth by itself.
  const int64_t packed = kPanelColumns * RoundUp(depth, std::min<int64_t>(2, Tiles::kDepthStep));
  std::memset(panel + packed, 0, (PanelSize<Tiles>(depth) - packed) * sizeof(Number));
}

// Panels first_panel … first_panel + panels - 1, at depth from … from + depth - 1.
struct Chunk {
  int64_t first_panel;
  int64_t panels;
  int64_t from;
  int64_t depth;
};

// Packs the panels of a chunk, shared by the threads. Help returns when all panels are packed.
template <typename Tiles, typename Source>
class Packing {
  using Number = typename Tiles::Number;

 public:
  Packing(const Source& b, bool transposed, const Sizes& sizes, const Chunk& chunk, Number* packed)
      : b_(b), transposed_(transposed), sizes_(sizes), chunk_(chunk), packed_(packed) {}

  void Help() {
    for (int64_t panel = next_.fetch_add(1); panel < chunk_.panels; panel = next_.fetch_add(1)) {
      const int64_t column = (chunk_.first_panel + panel) * kPanelColumns;
      Pack<Tiles>(transposed_ ? b_.From(column, chunk_.from) : b_.From(chunk_.from, column), transposed_, chunk_.depth,
                  sizes_.ColumnsOf(chunk_.first_panel + panel), packed_ + panel * PanelSize<Tiles>(chunk_.depth));
      done_.fetch_add(1, std::memory_order_release);
    }
    // The wait is at most the time to pack one panel, too short to sleep.
    while (done_.load(std::memory_order_acquire) < chunk_.panels) std::this_thread::yield();
  }

 private:
  Source b_;
  bool transposed_;
  const Sizes& sizes_;
  const Chunk& chunk_;
  Number* packed_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> done_{0};
};

constexpr int64_t kLineBytes = 64;

// The next address where a cache line begins: a vector of a panel is then in one line.
template <typename Number>
Number* AlignedToLine(Number* address) {
  return reinterpret_cast<Number*>((reinterpret_cast<uintptr_t>(address) + kLineBytes - 1) / kLineBytes * kLineBytes);
}

// Copies rows whose distance would make them compete for a few cache lines, and rows that need zeros behind them.
// Other rows are returned as they are.
template <typename Tiles, typename Number = typename Tiles::Number>
Matrix<Number> Apart(Matrix<Number> a, int64_t rows, int64_t depth) {
  constexpr int64_t kLine = kLineBytes / sizeof(Number);
  const bool compete = a.stride * sizeof(Number) % Tiles::kSharedBytes == 0;
  const int64_t padded = RoundUp(depth, Tiles::kDepthStep);
  if (!compete && depth == padded) return a;
  static thread_local std::vector<Number> copy;
  const int64_t stride = RoundUp(depth, kLine) + kLine;
  if (static_cast<int64_t>(copy.size()) < rows * stride) copy.resize(rows * stride);
  for (int64_t row = 0; row < rows; row++) {
    std::memcpy(&copy[row * stride], a.data + row * a.stride, depth * sizeof(Number));
    std::fill_n(&copy[row * stride + depth], padded - depth, Number{});
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
template <typename Tiles>
class Ahead {
  using Number = typename Tiles::Number;

 public:
  Ahead(Matrix<Number> a, const Chunk& chunk, const std::vector<int64_t>& begins, int64_t piece, int64_t groups,
        int64_t rows) {
    if (groups > 1 || piece + 1 >= static_cast<int64_t>(begins.size())) return;
    const int64_t first = begins[piece] * Tiles::kTileRows;
    from_ = a.data + first * a.stride + chunk.from;
    stride_ = a.stride;
    rows_ = std::min(rows, begins[piece + 1] * Tiles::kTileRows) - first;
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
  static constexpr int64_t kLine = kLineBytes / sizeof(Number);
  const Number* from_ = nullptr;
  int64_t stride_ = 0;
  int64_t rows_ = 0;
  int64_t lines_ = 0;
};

template <typename Tiles, typename Source, typename Number = typename Tiles::Number>
void MultiplyChunk(Matrix<Number> a, const Source& b, bool transposed, const Sizes& sizes, const Chunk& chunk,
                   Number* packed, const Number* addend, Number* result, float* sums) {
  const int64_t threads = Threads();
  const std::vector<int64_t> begins = Pieces((sizes.rows + Tiles::kTileRows - 1) / Tiles::kTileRows, threads);
  const int64_t pieces = static_cast<int64_t>(begins.size()) - 1;
  // With few rows, the panels are divided among the threads as well.
  const int64_t groups = pieces >= 4 * threads ? 1 : std::min(chunk.panels, 4 * threads);
  const int64_t sums_stride = chunk.panels * kPanelColumns;
  Packing<Tiles, Source> packing(b, transposed, sizes, chunk, packed);
  ParallelFor(pieces * groups, [&](int64_t index) {
    packing.Help();
    Tiles tiles;
    const int64_t piece = index / groups, group = index % groups;
    const int64_t first_row = begins[piece] * Tiles::kTileRows;
    const int64_t end_row = std::min(sizes.rows, begins[piece + 1] * Tiles::kTileRows);
    const Matrix<Number> rows =
        Apart<Tiles>({a.data + first_row * a.stride + chunk.from, a.stride}, end_row - first_row, chunk.depth);
    const Ahead<Tiles> ahead(a, chunk, begins, piece + threads, groups, sizes.rows);
    for (int64_t panel = chunk.panels * group / groups; panel < chunk.panels * (group + 1) / groups; panel++) {
      const int64_t column = (chunk.first_panel + panel) * kPanelColumns;
      ahead.Fetch(panel, chunk.panels);
      for (int64_t row = first_row; row < end_row; row += Tiles::kTileRows) {
        const int64_t at = row * sizes.columns + column;
        const Target<Number> to{result + at,
                                sizes.columns,
                                addend == nullptr ? nullptr : addend + at,
                                sums == nullptr ? nullptr : sums + row * sums_stride + panel * kPanelColumns,
                                sums_stride,
                                chunk.from == 0,
                                chunk.from + chunk.depth == sizes.depth,
                                FirstColumns(sizes.ColumnsOf(chunk.first_panel + panel))};
        tiles.Multiply({rows.data + (row - first_row) * rows.stride, rows.stride},
                       std::min<int64_t>(Tiles::kTileRows, end_row - row),
                       packed + panel * PanelSize<Tiles>(chunk.depth), chunk.depth, to);
      }
    }
  });
}

// Each thread packs the panels that it multiplies where panel and rows stay in its own cache: with few rows, and with
// rows of so many bytes where there are so many panels for each thread that all finish together.
template <typename Tiles>
constexpr int64_t kFewRows = kBlockTiles * Tiles::kTileRows;
constexpr int64_t kFewBytes = 5 << 18;
constexpr int64_t kManyPanels = 12;

// With as few rows as these, dividing them among the threads would gain nothing.
template <typename Tiles>
constexpr int64_t kFewestRows = 2 * Tiles::kTileRows;

template <typename Tiles>
bool AreFew(const Sizes& sizes) {
  const int64_t panels = sizes.columns / kPanelColumns / Threads();
  const int64_t bytes = sizes.rows * sizes.depth * static_cast<int64_t>(sizeof(typename Tiles::Number));
  return sizes.rows <= kFewestRows<Tiles> || (sizes.rows <= kFewRows<Tiles> && panels >= 4) ||
         (bytes <= kFewBytes && panels >= kManyPanels);
}

// Few rows: one panel after the other, for its whole depth.
template <typename Tiles, typename Source, typename Number = typename Tiles::Number>
void MultiplyFewRows(Matrix<Number> a, const Source& b, bool transposed, const Sizes& sizes, const Number* addend,
                     Number* result) {
  constexpr int64_t kChunk = Tiles::kDepthChunk;
  const Matrix<Number> rows = Apart<Tiles>(a, sizes.rows, sizes.depth);
  ParallelFor(RoundUp(sizes.columns, kPanelColumns) / kPanelColumns, [&](int64_t panel) {
    static thread_local std::vector<Number> memory;
    memory.resize(PanelSize<Tiles>(std::min(kChunk, sizes.depth)) + kLineBytes / sizeof(Number));
    Number* packed = AlignedToLine(memory.data());
    static thread_local std::vector<float> sums;
    if (sizes.depth > kChunk) sums.resize(sizes.rows * kPanelColumns);
    Tiles tiles;
    const int64_t column = panel * kPanelColumns;
    const int64_t columns = sizes.ColumnsOf(panel);
    for (int64_t from = 0; from < sizes.depth; from += kChunk) {
      const int64_t depth = std::min(kChunk, sizes.depth - from);
      Pack<Tiles>(transposed ? b.From(column, from) : b.From(from, column), transposed, depth, columns, packed);
      for (int64_t row = 0; row < sizes.rows; row += Tiles::kTileRows) {
        const int64_t at = row * sizes.columns + column;
        const Target<Number> to{result + at,
                                sizes.columns,
                                addend == nullptr ? nullptr : addend + at,
                                sums.data() + row * kPanelColumns,
                                kPanelColumns,
                                from == 0,
                                from + depth == sizes.depth,
                                FirstColumns(columns)};
        tiles.Multiply({rows.data + row * rows.stride + from, rows.stride},
                       std::min<int64_t>(Tiles::kTileRows, sizes.rows - row), packed, depth, to);
      }
    }
  });
}

template <typename Tiles, typename Source, typename Number = typename Tiles::Number>
void MultiplyWith(Matrix<Number> a, const Source& b, bool transposed, const Sizes& sizes, const Number* addend,
                  Number* result) {
  if (AreFew<Tiles>(sizes)) {
    MultiplyFewRows<Tiles>(a, b, transposed, sizes, addend, result);
    return;
  }
  const int64_t depth = std::min(sizes.depth, Tiles::kDepthChunk);
  const int64_t all_panels = RoundUp(sizes.columns, kPanelColumns) / kPanelColumns;
  const int64_t panel_bytes = PanelSize<Tiles>(depth) * static_cast<int64_t>(sizeof(Number));
  const int64_t panels = std::min(all_panels, std::max<int64_t>(1, kPackedBytes / panel_bytes));
  // Reused by later products. TensorFlow runs one op at a time here.
  static thread_local std::vector<Number> memory;
  memory.resize(panels * PanelSize<Tiles>(depth) + kLineBytes / sizeof(Number));
  Number* packed = AlignedToLine(memory.data());
  std::vector<float> sums(Tiles::kKeepsSums && depth < sizes.depth ? sizes.rows * panels * kPanelColumns : 0);
  for (int64_t panel = 0; panel < all_panels; panel += panels) {
    for (int64_t from = 0; from < sizes.depth; from += depth) {
      const Chunk chunk{panel, std::min(panels, all_panels - panel), from, std::min(depth, sizes.depth - from)};
      MultiplyChunk<Tiles>(a, b, transposed, sizes, chunk, packed, addend, result,
                           sums.empty() ? nullptr : sums.data());
    }
  }
}

// b is a Matrix, QuantizedRows, ScaledRows or Mxfp4Rows.
template <typename Source>
void MultiplyMatrices(Matrix<float> a, const Source& b, bool transposed, const Sizes& sizes, const float* addend,
                      float* result) {
  MultiplyWith<Float32Tiles>(a, b, transposed, sizes, addend, result);
}

#if defined(__AVX512BF16__)

template <typename Source>
void MultiplyMatrices(Matrix<BFloat16> a, const Source& b, bool transposed, const Sizes& sizes, const BFloat16* addend,
                      BFloat16* result) {
#if defined(LORASMITH_AMX)
  if (MayUseAmx()) {
    MultiplyWith<AmxBFloat16Tiles>(a, b, transposed, sizes, addend, result);
    return;
  }
#endif
  MultiplyWith<BFloat16Tiles>(a, b, transposed, sizes, addend, result);
}

#endif

// a [rows, depth] · b [depth, columns], or b [columns, depth] with transpose_b → [rows, columns]. With kAddend, the
// third input is an addend of the shape of the result.
template <typename Number, bool kAddend>
struct Product {
  explicit Product(const Attributes& attributes) : transposed(attributes.Int("transpose_b") != 0) {}

  void Compute(Context& context) const {
    const Sizes sizes{context.Dim(0, 0), context.Dim(1, transposed ? 0 : 1), context.Dim(0, 1)};
    const Number* a = context.Input<Number>(0);
    const Number* b = context.Input<Number>(1);
    if (!context.Check(context.Dim(1, transposed ? 1 : 0) == sizes.depth, "the matrices must have the same depth"))
      return;
    if (!context.Check(sizes.depth > 0, "the depth must be at least 1")) return;
    const Number* addend = kAddend ? context.Input<Number>(2) : nullptr;
    const bool fits = !kAddend || (context.Dim(2, 0) == sizes.rows && context.Dim(2, 1) == sizes.columns);
    if (!context.Check(fits, "the addend must have the shape of the product")) return;
    Number* result = context.Output<Number>(0, {sizes.rows, sizes.columns});
    if (context.failed()) return;
    MultiplyMatrices(Matrix<Number>{a, sizes.depth}, Matrix<Number>{b, transposed ? sizes.depth : sizes.columns},
                     transposed, sizes, addend, result);
  }

  bool transposed;
};

// Each row with the matrix of its group. The groups are computed one after the other, each by all threads.
template <typename Number>
struct GroupedProduct {
  explicit GroupedProduct(const Attributes& attributes) : transposed(attributes.Int("transpose_b") != 0) {}

  void Compute(Context& context) const {
    const GroupedDenseOperands<Number> o(context, transposed);
    if (context.failed()) return;
    o.ForEachGroup([&](int64_t group, int64_t rows, const Number* a, Number* result) {
      const Matrix<Number> b{o.OfGroup(group), transposed ? o.depth : o.columns};
      MultiplyMatrices(Matrix<Number>{a, o.depth}, b, transposed, Sizes{rows, o.columns, o.depth}, nullptr, result);
    });
  }

  bool transposed;
};

// The same with a second matrix [rows, columns] in 4 or 8 bits.
template <typename Form, template <typename Number> class Rows, typename Number>
struct PackedProduct {
  explicit PackedProduct(const Attributes& attributes) : shape(attributes) {}

  void Compute(Context& context) const {
    const auto matrix = shape.Weights(context);
    if (context.failed()) return;
    const Sizes sizes{context.Dim(0, 0), shape.ResultColumns(), shape.Depth()};
    const Number* a = context.Input<Number>(0);
    Number* result = context.Output<Number>(0, {sizes.rows, sizes.columns});
    if (context.failed()) return;
    MultiplyMatrices(Matrix<Number>{a, sizes.depth}, Rows<Number>{&matrix}, shape.transposed, sizes, nullptr, result);
  }

  PackedProductShape<Form> shape;
};

// Each row with the matrix of its group, in 4 or 8 bits.
template <typename Form, template <typename Number> class Rows, typename Number>
struct GroupedPackedProduct {
  explicit GroupedPackedProduct(const Attributes& attributes) : shape(attributes) {}

  void Compute(Context& context) const {
    const GroupedPackedOperands<Form, Number> o(context, shape);
    if (context.failed()) return;
    o.ForEachGroup([&](int64_t group, int64_t rows, const Number* a, Number* result) {
      const auto matrix = o.OfGroup(group);
      MultiplyMatrices(Matrix<Number>{a, o.depth}, Rows<Number>{&matrix, group * shape.rows}, shape.transposed,
                       Sizes{rows, o.columns, o.depth}, nullptr, result);
    });
  }

  PackedProductShape<Form> shape;
};

template <template <typename Number> class Kernel>
std::vector<KernelDefinition> ProcessorKernels() {
  return {
#if defined(__AVX512BF16__)
      KernelOn<Kernel<BFloat16>>("CPU", TF_BFLOAT16),
#endif
      KernelOn<Kernel<float>>("CPU", TF_FLOAT),
  };
}

template <typename Number>
using PlainProduct = Product<Number, false>;
template <typename Number>
using ProductAdd = Product<Number, true>;
template <typename Number>
using QuantizedProduct = PackedProduct<QuantizedForm, QuantizedRows, Number>;
template <typename Number>
using ScaledProduct = PackedProduct<ScaledForm, ScaledRows, Number>;
template <typename Number>
using GroupedQuantizedProduct = GroupedPackedProduct<QuantizedForm, QuantizedRows, Number>;
template <typename Number>
using GroupedScaledProduct = GroupedPackedProduct<ScaledForm, ScaledRows, Number>;
template <typename Number>
using GroupedMxfp4Product = GroupedPackedProduct<Mxfp4Form, Mxfp4Rows, Number>;

std::vector<KernelDefinition> ProductKernels() { return ProcessorKernels<PlainProduct>(); }
std::vector<KernelDefinition> ProductAddKernels() { return ProcessorKernels<ProductAdd>(); }
std::vector<KernelDefinition> GroupedProductKernels() { return ProcessorKernels<GroupedProduct>(); }
std::vector<KernelDefinition> QuantizedProductKernels() { return ProcessorKernels<QuantizedProduct>(); }
std::vector<KernelDefinition> ScaledProductKernels() { return ProcessorKernels<ScaledProduct>(); }
std::vector<KernelDefinition> GroupedQuantizedProductKernels() { return ProcessorKernels<GroupedQuantizedProduct>(); }
std::vector<KernelDefinition> GroupedScaledProductKernels() { return ProcessorKernels<GroupedScaledProduct>(); }
std::vector<KernelDefinition> GroupedMxfp4ProductKernels() { return ProcessorKernels<GroupedMxfp4Product>(); }

}  // namespace
}  // namespace lorasmith

#else

namespace lorasmith {
namespace {
std::vector<KernelDefinition> ProductKernels() { return {}; }
std::vector<KernelDefinition> ProductAddKernels() { return {}; }
std::vector<KernelDefinition> GroupedProductKernels() { return {}; }
std::vector<KernelDefinition> QuantizedProductKernels() { return {}; }
std::vector<KernelDefinition> ScaledProductKernels() { return {}; }
std::vector<KernelDefinition> GroupedQuantizedProductKernels() { return {}; }
std::vector<KernelDefinition> GroupedScaledProductKernels() { return {}; }
std::vector<KernelDefinition> GroupedMxfp4ProductKernels() { return {}; }
}  // namespace
}  // namespace lorasmith

#endif

namespace lorasmith {

std::vector<OpDefinition> ProductOps() {
  return {
      {"LorasmithProduct", {"a: T", "b: T"}, {"result: T"}, {"transpose_b: int"}, ProductKernels()},
      {"LorasmithProductAdd", {"a: T", "b: T", "addend: T"}, {"result: T"}, {"transpose_b: int"}, ProductAddKernels()},
      // On GPUs alone: weights [rows, columns] with padding beyond their rows or columns.
      {"LorasmithPaddedProduct",
       {"a: T", "weight: T"},
       {"result: T"},
       {"transpose_b: int", "rows: int", "columns: int"},
       {}},
      {"LorasmithGroupedProduct",
       {"a: T", "b: T", "offsets: int32"},
       {"result: T"},
       {"transpose_b: int"},
       GroupedProductKernels()},
      {"LorasmithQuantizedProduct",
       {"a: T", "codes: uint8", "scales: uint8", "nested_scales: float", "modules: float"},
       {"result: T"},
       // On a GPU, the bytes of the weights that are decoded at a time.
       {"transpose_b: int", "rows: int", "columns: int", "most_decoded_bytes: int"},
       QuantizedProductKernels()},
      {"LorasmithScaledProduct",
       {"a: T", "codes: uint8", "scales: float", "bands: int32"},
       {"result: T"},
       {"transpose_b: int", "rows: int", "columns: int", "block_shift: int", "most_decoded_bytes: int"},
       ScaledProductKernels()},
      // Rows and columns are those of each group.
      {"LorasmithGroupedQuantizedProduct",
       {"a: T", "codes: uint8", "scales: uint8", "nested_scales: float", "modules: float", "offsets: int32"},
       {"result: T"},
       {"transpose_b: int", "rows: int", "columns: int", "most_decoded_bytes: int"},
       GroupedQuantizedProductKernels()},
      {"LorasmithGroupedScaledProduct",
       {"a: T", "codes: uint8", "scales: float", "bands: int32", "offsets: int32"},
       {"result: T"},
       {"transpose_b: int", "rows: int", "columns: int", "block_shift: int", "most_decoded_bytes: int"},
       GroupedScaledProductKernels()},
      {"LorasmithGroupedMxfp4Product",
       {"a: T", "codes: uint8", "scales: uint8", "offsets: int32"},
       {"result: T"},
       {"transpose_b: int", "rows: int", "columns: int", "most_decoded_bytes: int"},
       GroupedMxfp4ProductKernels()},
  };
}

}  // namespace lorasmith
