// Cached attention with bfloat16 products: see cached_attention.cc.
#include "cpu/bfloat16_tile.h"

#if defined(__AVX512BF16__)

#include "cpu/vector.h"
#include "ops/cached_attention/cached_attention.h"

namespace lorasmith {
namespace {

// Keys lie as one panel of depth dim, values as dim / 32 panels of depth 32.
struct Rows {
  static constexpr int64_t kMost = 32;
  std::vector<BFloat16> query;    // [rows, dim]
  std::vector<float> scores;      // [rows, keys]
  std::vector<BFloat16> weights;  // [rows, keys]
  std::vector<float> output;      // [rows, dim]
  int64_t stride = 0;

  // Rows of a unit of work: one tile.
  static int64_t Most() { return PanelTileRows(); }

  static void Put(const float* key, const BFloat16* value, int64_t slot, const Shape& shape, BFloat16* keys,
                  BFloat16* values) {
    for (int64_t i = 0; i < shape.head_dim; i++) Store(key[i], keys + (i / 2 * kPanelColumns + slot) * 2 + i % 2);
    for (int64_t i = 0; i < shape.head_dim; i++) {
      BFloat16* panel = values + i / kPanelColumns * kPanelColumns * kPageTokens;
      panel[(slot / 2 * kPanelColumns + i % kPanelColumns) * 2 + slot % 2] = value[i];
    }
  }

  void Resize(int64_t keys, const Shape& shape) {
    stride = keys;
    query.assign(kMost * shape.padded_dim, BFloat16{0});
    scores.resize(kMost * keys);
    weights.resize(kMost * keys);
    output.resize(kMost * shape.padded_dim);
  }

  void SetQuery(int64_t row, const float* rotated, const Shape& shape) {
    for (int64_t i = 0; i < shape.head_dim; i++) Store(rotated[i], &query[row * shape.padded_dim + i]);
  }

  void Score(int64_t rows, int64_t at, const BFloat16* keys, const Shape& shape) {
    MultiplyPanel({query.data(), shape.padded_dim}, rows, keys, shape.padded_dim, &scores[at], stride, false);
  }

  void SetWeights(int64_t row, int64_t keys) {
    for (int64_t i = 0; i < keys; i += 16) {
      StoreNumbers(_mm512_loadu_ps(&scores[row * stride + i]), &weights[row * stride + i]);
    }
  }

  void Mix(int64_t rows, int64_t at, const BFloat16* values, const Shape& shape, bool first) {
    for (int64_t column = 0; column < shape.padded_dim; column += kPanelColumns) {
      MultiplyPanel({&weights[at], stride}, rows, values + column * kPageTokens, kPageTokens, &output[column],
                    shape.padded_dim, !first);
    }
  }
};

}  // namespace

void AttendToCacheBFloat16(const CachedAttentionTask<BFloat16>& task, const std::vector<Text>& texts) {
  CachedAttentionStep<BFloat16, Rows>(task).Run(texts);
}

}  // namespace lorasmith

#endif
