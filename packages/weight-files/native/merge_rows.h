// The arithmetic of merging an adapter into a weight, W + scale · B A: the registry's download and the check before an
// adapter is published both include it, so they have the same bytes. Those do not depend on the processor.
//
// For each element, a chain of fused multiply-adds over the rank, from 0 on, gives B A; it is multiplied by the scale;
// W is added in float32; the sum is rounded once, to nearest even, to the dtype of W. A rank over 384 has two chains of
// half the rank, whose results are added. This is how TensorFlow's matrix product sums, too.
//
// Nothing here uses a template of the standard library: a file that is compiled for one instruction set must not supply
// code to the rest of the program.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace lorasmith::merging {

// Columns of a panel of the right factor.
constexpr int64_t kPanelColumns = 64;
// Rows of the result per tile.
constexpr int64_t kTileRows = 6;
// A chain is not longer, unless half the rank is.
constexpr int64_t kChain = 384;

// An update scale · L R of a stored weight [rows, width]. L is B, or Aᵀ where the weight is stored transposed.
struct Update {
  const float* left;  // L[row, k] is at left[row * row_stride + k * rank_stride].
  int64_t row_stride;
  int64_t rank_stride;
  const float* panels;  // R, from PackPanels
  int64_t rank;
  int64_t width;
  float scale;
};

// Floats of the panels of R [rank, width].
inline int64_t PanelFloats(int64_t rank, int64_t width) {
  return rank * ((width + kPanelColumns - 1) / kPanelColumns) * kPanelColumns;
}

struct BFloat16Bits {
  uint16_t bits;
};
struct Float16Bits {
  uint16_t bits;
};

// One namespace for each instruction set, so that several can be in one program.
#if defined(__AVX512F__) && defined(__AVX512BW__)
inline namespace merge_avx512 {
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
inline namespace merge_avx2 {
#else
inline namespace merge_generic {
#endif

// R → panels of 64 columns, each [rank, 64], zeros beyond the last column. R[k, column] is at
// right[k * rank_stride + column * column_stride].
inline void PackPanels(const float* right, int64_t rank_stride, int64_t column_stride, int64_t rank, int64_t width,
                       float* panels) {
  for (int64_t first = 0; first < width; first += kPanelColumns) {
    const int64_t columns = width - first < kPanelColumns ? width - first : kPanelColumns;
    for (int64_t k = 0; k < rank; k++) {
      const float* from = right + k * rank_stride + first * column_stride;
      for (int64_t column = 0; column < columns; column++) panels[column] = from[column * column_stride];
      for (int64_t column = columns; column < kPanelColumns; column++) panels[column] = 0;
      panels += kPanelColumns;
    }
  }
}

// While it lives, this thread treats subnormal float32 as zero, as TensorFlow's threads do.
class FlushSubnormals {
 public:
  FlushSubnormals() : before_(Read()) {
#if defined(__x86_64__)
    Write(before_ | 0x8040);
#elif defined(__aarch64__)
    Write(before_ | (uint64_t{1} << 24));
#endif
  }
  ~FlushSubnormals() { Write(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  static uint64_t Read() {
#if defined(__x86_64__)
    return _mm_getcsr();
#elif defined(__aarch64__)
    uint64_t value;
    asm volatile("mrs %0, fpcr" : "=r"(value));
    return value;
#else
    return 0;
#endif
  }
  static void Write(uint64_t value) {
#if defined(__x86_64__)
    _mm_setcsr(static_cast<unsigned>(value));
#elif defined(__aarch64__)
    asm volatile("msr fpcr, %0" ::"r"(value));
#else
    (void)value;
#endif
  }
  uint64_t before_;
};

#if defined(__AVX512F__) && defined(__AVX512BW__)
using Lanes = __m512;
constexpr int kTileVectors = 4;
inline Lanes Load(const float* from) { return _mm512_loadu_ps(from); }
inline void Store(float* to, Lanes x) { _mm512_storeu_ps(to, x); }
inline Lanes Same(float x) { return _mm512_set1_ps(x); }
inline Lanes Fused(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
using Lanes = __m256;
constexpr int kTileVectors = 2;
inline Lanes Load(const float* from) { return _mm256_loadu_ps(from); }
inline void Store(float* to, Lanes x) { _mm256_storeu_ps(to, x); }
inline Lanes Same(float x) { return _mm256_set1_ps(x); }
inline Lanes Fused(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
#elif defined(__aarch64__)
using Lanes = float32x4_t;
constexpr int kTileVectors = 4;
inline Lanes Load(const float* from) { return vld1q_f32(from); }
inline void Store(float* to, Lanes x) { vst1q_f32(to, x); }
inline Lanes Same(float x) { return vdupq_n_f32(x); }
inline Lanes Fused(Lanes a, Lanes b, Lanes c) { return vfmaq_f32(c, a, b); }
#else
// A processor without the instruction. The product is exact in double; the sum is rounded to odd, so that rounding it
// again, to float, gives what rounding once does (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums").
typedef float Lanes __attribute__((vector_size(16)));
constexpr int kTileVectors = 2;
inline Lanes Load(const float* from) {
  Lanes x;
  memcpy(&x, from, sizeof x);
  return x;
}
inline void Store(float* to, Lanes x) { memcpy(to, &x, sizeof x); }
inline Lanes Same(float x) { return Lanes{x, x, x, x}; }
inline float FusedOne(float a, float b, float c) {
  const double product = static_cast<double>(a) * b;
  double sum = product + c;
  const double added = sum - product;
  const double error = (product - (sum - added)) + (c - added);
  uint64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  // Infinities and NaN have an error that is NaN.
  if ((error > 0 || error < 0) && (bits & 1) == 0) {
    bits += (error > 0) == (sum > 0) ? 1 : -1;
    memcpy(&sum, &bits, sizeof sum);
  }
  return static_cast<float>(sum);
}
inline Lanes Fused(Lanes a, Lanes b, Lanes c) {
  return Lanes{FusedOne(a[0], b[0], c[0]), FusedOne(a[1], b[1], c[1]), FusedOne(a[2], b[2], c[2]),
               FusedOne(a[3], b[3], c[3])};
}
#endif
constexpr int64_t kLanes = sizeof(Lanes) / sizeof(float);

// One chain of a tile, from `begin` to `end` of the rank, into `result` [rows, 64] at the tile's first column. A later
// chain is added to the earlier one; after the last, the sum is multiplied by the scale. Not inlined: a compiler that
// may fuse products with sums must not fuse the scale with the addition of W.
template <int kRows>
__attribute__((noinline)) void MergeTile(const Update& update, const float* left, const float* panel, int64_t begin,
                                         int64_t end, float* result) {
  Lanes sums[kRows][kTileVectors];
  for (int row = 0; row < kRows; row++) {
    for (int v = 0; v < kTileVectors; v++) sums[row][v] = Same(0);
  }
  for (int64_t k = begin; k < end; k++) {
    Lanes columns[kTileVectors];
    for (int v = 0; v < kTileVectors; v++) columns[v] = Load(panel + k * kPanelColumns + v * kLanes);
    for (int row = 0; row < kRows; row++) {
      const Lanes factor = Same(left[row * update.row_stride + k * update.rank_stride]);
      for (int v = 0; v < kTileVectors; v++) sums[row][v] = Fused(factor, columns[v], sums[row][v]);
    }
  }
  for (int row = 0; row < kRows; row++) {
    for (int v = 0; v < kTileVectors; v++) {
      float* to = result + row * kPanelColumns + v * kLanes;
      Lanes sum = begin == 0 ? sums[row][v] : Load(to) + sums[row][v];
      if (end == update.rank) sum = sum * Same(update.scale);
      Store(to, sum);
    }
  }
}

// scale · L R of kRows rows from `row` on, for the columns of one panel → result [kRows, 64].
template <int kRows>
inline void UpdateTile(const Update& update, int64_t row, int64_t panel_index, float* result) {
  const float* left = update.left + row * update.row_stride;
  const float* panel = update.panels + panel_index * update.rank * kPanelColumns;
  const int64_t chain = update.rank <= kChain ? update.rank : (update.rank + 1) / 2;
  for (int64_t column = 0; column < kPanelColumns; column += kTileVectors * kLanes) {
    for (int64_t begin = 0; begin < update.rank; begin += chain) {
      const int64_t end = begin + chain < update.rank ? begin + chain : update.rank;
      MergeTile<kRows>(update, left, panel + column, begin, end, result + column);
    }
  }
}

inline float ToFloat(float x) { return x; }
inline float ToFloat(BFloat16Bits x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

// Adds and rounds `count` numbers. Returns whether all results are finite in the dtype.
inline bool AddAndRound(const float* base, const float* update, int64_t count, float* merged) {
  uint32_t infinite = 0;
  for (int64_t i = 0; i < count; i++) {
    const float sum = base[i] + update[i];
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    infinite |= (bits & 0x7f800000) == 0x7f800000;
    merged[i] = sum;
  }
  return infinite == 0;
}

inline bool AddAndRound(const BFloat16Bits* base, const float* update, int64_t count, BFloat16Bits* merged) {
  uint32_t infinite = 0;
  for (int64_t i = 0; i < count; i++) {
    const float sum = ToFloat(base[i]) + update[i];
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    // A NaN may become something else. It counts as not finite before it is rounded.
    infinite |= (bits & 0x7f800000) == 0x7f800000;
    bits += 0x7fff + ((bits >> 16) & 1);
    infinite |= (bits & 0x7f800000) == 0x7f800000;
    merged[i].bits = static_cast<uint16_t>(bits >> 16);
  }
  return infinite == 0;
}

#if defined(__F16C__)
inline float ToFloat(Float16Bits x) { return _cvtsh_ss(x.bits); }
inline uint16_t ToFloat16(float x) { return static_cast<uint16_t>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)); }
#elif defined(__aarch64__)
inline float ToFloat(Float16Bits x) {
  __fp16 half;
  memcpy(&half, &x.bits, sizeof half);
  return half;
}
inline uint16_t ToFloat16(float x) {
  const __fp16 half = static_cast<__fp16>(x);
  uint16_t bits;
  memcpy(&bits, &half, sizeof bits);
  return bits;
}
#else
inline float ToFloat(Float16Bits x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t magnitude = x.bits & 0x7fff;
  uint32_t bits = sign | (magnitude << 13);
  if (magnitude >= 0x7c00) {
    bits += uint32_t{224} << 23;
  } else if (magnitude >= 0x400) {
    bits += uint32_t{112} << 23;
  } else {
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
  }
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
inline uint16_t ToFloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
  if (magnitude >= 0x477ff000) return sign | 0x7c00;  // 65,520 and more
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
  if (magnitude <= 0x33000000) return sign;  // 2^-25 and less
  const uint32_t shift = 126 - (magnitude >> 23);
  const uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
  return sign | ((significand + (uint32_t{1} << (shift - 1)) - 1 + ((significand >> shift) & 1)) >> shift);
}
#endif

inline bool AddAndRound(const Float16Bits* base, const float* update, int64_t count, Float16Bits* merged) {
  uint32_t infinite = 0;
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= count; i += 8) {
    const __m256 sum = _mm256_add_ps(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(base + i))),
                                     _mm256_loadu_ps(update + i));
    const __m128i half = _mm256_cvtps_ph(sum, _MM_FROUND_TO_NEAREST_INT);
    const __m128i exponent = _mm_set1_epi16(0x7c00);
    infinite |= _mm_movemask_epi8(_mm_cmpeq_epi16(_mm_and_si128(half, exponent), exponent));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(merged + i), half);
  }
#endif
  for (; i < count; i++) {
    const uint16_t half = ToFloat16(ToFloat(base[i]) + update[i]);
    infinite |= (half & 0x7c00) == 0x7c00;
    merged[i].bits = half;
  }
  return infinite == 0;
}

template <int kRows, typename Stored>
inline bool MergeStrip(const Update& update, int64_t row, const Stored* base, Stored* merged) {
  alignas(64) float tile[kRows * kPanelColumns];
  bool finite = true;
  for (int64_t first = 0; first < update.width; first += kPanelColumns) {
    const int64_t columns = update.width - first < kPanelColumns ? update.width - first : kPanelColumns;
    UpdateTile<kRows>(update, row, first / kPanelColumns, tile);
    for (int r = 0; r < kRows; r++) {
      const int64_t at = r * update.width + first;
      finite &= AddAndRound(base + at, tile + r * kPanelColumns, columns, merged + at);
    }
  }
  return finite;
}

// Merges `rows` rows of the weight, from `row` on. `base` and `merged` are those rows, [rows, width], and may be the
// same memory. Returns whether all merged numbers are finite in the dtype of the weight.
template <typename Stored>
inline bool MergeRows(const Update& update, int64_t row, int64_t rows, const Stored* base, Stored* merged) {
  const FlushSubnormals flush;
  bool finite = true;
  while (rows > 0) {
    const int64_t some = rows >= kTileRows ? kTileRows : 1;
    finite &=
        some == kTileRows ? MergeStrip<kTileRows>(update, row, base, merged) : MergeStrip<1>(update, row, base, merged);
    row += some;
    rows -= some;
    base += some * update.width;
    merged += some * update.width;
  }
  return finite;
}

}  // inline namespace
}  // namespace lorasmith::merging
