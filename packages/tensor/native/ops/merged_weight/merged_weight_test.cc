// An adapter merged into rows of a weight: the bits of the merged download.
#include "ops/merged_weight/merged_weight.h"

#include "../../weight-files/native/merge_rows.h"
#include "cuda/test/guarded.h"

using namespace kernel_test;
namespace merging = lorasmith::merging;

namespace {

struct Shape {
  int64_t rows;
  int64_t in;
  int rank;
};

template <typename Base, typename Result>
const std::string kMergeName = "MergeRows" + kTypeName<Base> + (sizeof(Base) == sizeof(Result) ? "" : "ToFloat32");

// Some numbers are so small that their products are.
void MakeSomeTiny(Memory<float>* numbers, int of) {
  for (int64_t i = 0; i < numbers->size(); i++) {
    if (i % of == 0) (*numbers)[i] *= 1e-30f;
    if (i % of == 1) (*numbers)[i] *= 1e-39f;
  }
}

float RoundedTo(StoredType stored, float number) {
  if (stored == StoredType::kFloat16) return merging::ToFloat(merging::Float16Bits{merging::ToFloat16(number)});
  bf16 rounded;
  Store(number, &rounded);
  return stored == StoredType::kBFloat16 ? ToFloat(rounded) : number;
}

template <typename Base, typename Result>
struct Merged {
  explicit Merged(const Shape& own_shape)
      : shape(own_shape),
        base(shape.rows * shape.in),
        a(shape.rank * shape.in),
        b(shape.rows * shape.rank),
        weight(shape.rows * shape.in),
        exact(shape.rows * shape.in),
        squares(3 * MergedBlocks(shape.rows, shape.in)),
        norms(3) {
    base.FillRandom(), a.FillRandom(), b.FillRandom();
    MakeSomeTiny(&a, 7), MakeSomeTiny(&b, 5);
    for (int64_t i = 0; i < base.size(); i += 11) Store(3e-39f, &base[i]);
    // The products of one number are subnormal; their sum would not be.
    Store(0.0f, &base[shape.in + 3]);
    for (int k = 0; k < shape.rank; k++) b[shape.rank + k] = 1e-19f * (1 + Random()), a[k * shape.in + 3] = 2e-20f;
  }

  void Compute(StoredType stored, float scale) {
    const MergedRows rows{a.data(), b.data(), shape.rows, shape.in, shape.rank, scale, stored};
    const int64_t blocks = MergedBlocks(shape.rows, shape.in);
    Launch(kMergeName<Base, Result>, dim3(static_cast<unsigned>(blocks)), kMergedTileColumns, 0,
           static_cast<const Base*>(base.data()), rows, weight.data(), exact.data(),
           shape.rank == 0 ? static_cast<float*>(nullptr) : squares.data());
    if (shape.rank == 0) return;
    Launch("MergedNormsFloat32", dim3(1), kMergedTileColumns, 0, static_cast<const float*>(squares.data()), blocks,
           norms.data());
  }

  // W + scale · B A before it is rounded.
  std::vector<float> Expected(float scale) {
    std::vector<float> panels(merging::PanelFloats(shape.rank, shape.in)), own(base.size()), merged(base.size());
    for (int64_t i = 0; i < base.size(); i++) own[i] = ToFloat(base[i]);
    if (shape.rank == 0) {
      // A subnormal number is zero, as in a sum with an update of zero.
      for (float& number : own) number = std::abs(number) < 1.17549435e-38f ? 0 : number;
      return own;
    }
    merging::PackPanels(a.data(), shape.in, 1, shape.rank, shape.in, panels.data());
    const merging::Update update{b.data(), shape.rank, 1, panels.data(), shape.rank, shape.in, scale};
    merging::MergeRows(update, 0, shape.rows, own.data(), merged.data());
    return merged;
  }

  void Check(StoredType stored, float scale) {
    const std::vector<float> expected = Expected(scale);
    double of_errors = 0, of_updates = 0, of_base = 0;
    for (int64_t i = 0; i < base.size(); i++) {
      const float rounded = RoundedTo(stored, expected[i]);
      Result result;
      Store(rounded, &result);
      Expect(memcmp(&exact[i], &expected[i], sizeof(float)) == 0, "a sum of merging has other bits");
      Expect(memcmp(&weight[i], &result, sizeof(Result)) == 0, "a merged weight has other bits");
      const double frozen = ToFloat(base[i]), error = static_cast<double>(rounded) - expected[i];
      of_errors += error * error, of_updates += (expected[i] - frozen) * (expected[i] - frozen);
      of_base += frozen * frozen;
    }
    const double sums[] = {of_errors, of_updates, of_base};
    for (int i = 0; i < 3 && shape.rank > 0; i++) {
      // The update is the difference of what is rounded.
      if (!Near(std::sqrt(sums[i]), norms[i], 1e-5, i == 1 ? 1e-6 * std::sqrt(of_base) : 0))
        Differs("norm " + std::to_string(i), std::sqrt(sums[i]), norms[i]);
    }
  }

  Shape shape;
  Memory<Base> base;
  Memory<float> a, b;
  Memory<Result> weight;
  Memory<float> exact, squares, norms;
};

template <typename Base, typename Result>
void TestMerge(StoredType stored) {
  // One tile and parts of others; sums over the rank in one and two chains, of whole slices and not; rows of no layer.
  const std::vector<Shape> shapes{{19, 300, 5}, {8, 256, 64}, {3, 37, 385}, {2, 9, 770}, {9, 70, 0}};
  for (const Shape& shape : shapes) {
    Merged<Base, Result> merged(shape);
    merged.Compute(stored, 3.7f);
    if (run.compares) merged.Check(stored, 3.7f);
  }
}

// A number that the dtype of the files does not hold.
template <typename Base>
void TestInfinite(StoredType stored, float beyond) {
  Merged<Base, float> merged(Shape{9, 300, 3});
  Store(beyond, &merged.base[2 * 300 + 270]);
  merged.b[2 * 3] = 0.5f * beyond, merged.a[270] = 1;
  merged.a[300 + 270] = 0, merged.a[600 + 270] = 0;
  merged.Compute(stored, 1);
  Expect(!std::isfinite(merged.norms[0]), "the norm of errors says that a number is infinite");
}

}  // namespace

KERNEL_TEST(MergeRowsFloat32) {
  for (StoredType stored : {StoredType::kFloat32, StoredType::kFloat16, StoredType::kBFloat16})
    TestMerge<float, float>(stored);
  TestInfinite<float>(StoredType::kFloat16, 65504);
  TestInfinite<float>(StoredType::kFloat32, 3e38f);
}
KERNEL_TEST(MergeRowsBFloat16) {
  TestMerge<bf16, bf16>(StoredType::kBFloat16);
  for (StoredType stored : {StoredType::kFloat32, StoredType::kFloat16, StoredType::kBFloat16})
    TestMerge<bf16, float>(stored);
}
