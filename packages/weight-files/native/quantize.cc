#include "quantize.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "async_work.h"
#include "convert_floats.h"
#include "module.h"
#include "quantized_matrix.h"
#include "region.h"

namespace lorasmith {
namespace {

constexpr int kCodes = 16;
constexpr float kNf4Values[kCodes] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

// The least number that a scale is taken as when it divides.
constexpr float kLeastScale = 1e-38f;

constexpr int kScaleCodes = 256;
// bitsandbytes looks codes of scales up by 16 bits of the number.
constexpr int kScaleSteps = 65536;

double Rounded(double value) { return static_cast<double>(static_cast<float>(value)); }

// The dynamic map of bitsandbytes: in each of seven decades, the means of neighbours in a line from 0.1 to 1, with both
// signs, or twice as many with one; 0; and 1. In double, each step rounded to float32; the points of a line are a fused
// product and sum, as PyTorch computes them on processors with AVX2.
struct DynamicMap {
  float values[kScaleCodes];

  explicit DynamicMap(bool is_signed) {
    int count = 0;
    for (int decade = 0; decade < 7; decade++) {
      const int steps = 1 << (is_signed ? decade : decade + 1);
      const double first = Rounded(0.1);
      const double step = Rounded((1.0 - first) / steps);
      const auto point = [&](int i) {
        return i < (steps + 1) / 2 ? Rounded(first + step * i) : Rounded(1.0 - step * (steps - i));
      };
      const double unit = Rounded(std::pow(10.0, decade - 6));
      for (int i = 0; i < steps; i++) {
        const double mean = Rounded(unit * Rounded(Rounded(point(i) + point(i + 1)) / 2));
        values[count++] = static_cast<float>(mean);
        if (is_signed) values[count++] = static_cast<float>(-mean);
      }
    }
    values[count++] = 0;
    values[count++] = 1;
    std::sort(values, values + kScaleCodes);
  }
};

// The codes of scales, and the values of the codes.
struct ScaleMap : DynamicMap {
  uint8_t codes[kScaleSteps];

  ScaleMap() : DynamicMap(true) {
    int code = 0;
    for (int i = 0; i < kScaleSteps; i++) {
      const double number = Rounded(Rounded(Rounded(2.0 * i) / 65535) - 1);
      while (code < kScaleCodes - 1 &&
             Rounded(Rounded(static_cast<double>(values[code]) + values[code + 1]) / 2) < number) {
        code++;
      }
      codes[i] = static_cast<uint8_t>(code);
    }
  }
};

const ScaleMap& TheScaleMap() {
  static const ScaleMap map;
  return map;
}

// Inlined into functions for several instruction sets, for which the compiler makes vectors of the loops.
#define INLINE __attribute__((always_inline)) inline

template <typename Conversion>
struct As {
  INLINE static float Load(const void* numbers, int64_t i) {
    return FloatOf(Conversion::Convert(static_cast<const typename Conversion::From*>(numbers)[i]));
  }
};

struct AsFloat32 {
  INLINE static float Load(const void* numbers, int64_t i) { return static_cast<const float*>(numbers)[i]; }
};

// The largest magnitude of up to a block of numbers. By its bits, a NaN is larger than all others.
template <typename Numbers>
INLINE float ScaleOf(const void* numbers, int64_t begin, int64_t count, float* block) {
  int32_t largest = 0;
  for (int64_t i = 0; i < count; i++) {
    block[i] = Numbers::Load(numbers, begin + i);
    int32_t bits;
    std::memcpy(&bits, block + i, sizeof bits);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  return FloatOf(static_cast<uint32_t>(largest));
}

template <typename Numbers>
INLINE void Quantize(const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  float midpoints[kCodes - 1];
  for (int i = 0; i < kCodes - 1; i++) midpoints[i] = (kNf4Values[i] + kNf4Values[i + 1]) / 2;
  float block[kQuantizedBlock];
  int32_t code[kQuantizedBlock];
  for (int64_t begin = 0; begin < count; begin += kQuantizedBlock) {
    const bool is_whole = count - begin >= kQuantizedBlock;
    float scale;
    if (is_whole) {
      scale = ScaleOf<Numbers>(numbers, begin, kQuantizedBlock, block);
      const float inverse = 1.0f / (scale < kLeastScale ? kLeastScale : scale);
      for (int64_t i = 0; i < kQuantizedBlock; i++) block[i] *= inverse;
    } else {
      // A short block is divided, and padded with zeros; its scale is at least the least.
      scale = ScaleOf<Numbers>(numbers, begin, count - begin, block);
      scale = scale < kLeastScale ? kLeastScale : scale;
      for (int64_t i = 0; i < kQuantizedBlock; i++) block[i] = i < count - begin ? block[i] / scale : 0.0f;
    }
    scales[begin / kQuantizedBlock] = scale;
    for (int64_t i = 0; i < kQuantizedBlock; i++) {
      int32_t sum = 0;
#pragma GCC unroll 15
      for (int j = 0; j < kCodes - 1; j++) sum += block[i] > midpoints[j] ? 1 : 0;
      code[i] = sum;
    }
    const int64_t bytes = is_whole ? kQuantizedBlock / 2 : (count - begin + 1) / 2;
    uint8_t* to = codes + begin / 2;
    for (int64_t i = 0; i < bytes; i++) to[i] = static_cast<uint8_t>(code[2 * i] << 4 | code[2 * i + 1]);
  }
}

INLINE void QuantizeAs(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  switch (dtype) {
    case StoredDtype::kFloat32:
      return Quantize<AsFloat32>(numbers, count, codes, scales);
    case StoredDtype::kFloat16:
      return Quantize<As<Float16ToFloat32>>(numbers, count, codes, scales);
    case StoredDtype::kBFloat16:
      return Quantize<As<BFloat16ToFloat32>>(numbers, count, codes, scales);
  }
}

void QuantizeGeneric(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  QuantizeAs(dtype, numbers, count, codes, scales);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void QuantizeAvx2(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes,
                                                  float* scales) {
  QuantizeAs(dtype, numbers, count, codes, scales);
}

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))

AVX512 INLINE __m512 Sixteen(As<BFloat16ToFloat32>, const void* numbers, int64_t i) {
  const auto* from = reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(numbers) + i);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from)), 16));
}
AVX512 INLINE __m512 Sixteen(As<Float16ToFloat32>, const void* numbers, int64_t i) {
  const auto* from = reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(numbers) + i);
  return _mm512_cvtph_ps(_mm256_loadu_si256(from));
}
AVX512 INLINE __m512 Sixteen(AsFloat32, const void* numbers, int64_t i) {
  return _mm512_loadu_ps(static_cast<const float*>(numbers) + i);
}

// Whole blocks, as Quantize makes them. A number's code is found in four steps, each of which halves the midpoints.
template <typename Numbers>
AVX512 void QuantizeBlocks(const void* numbers, int64_t blocks, uint8_t* codes, float* scales) {
  constexpr int kVectors = kQuantizedBlock / 16;
  float all[kCodes] = {};
  for (int i = 0; i < kCodes - 1; i++) all[i] = (kNf4Values[i] + kNf4Values[i + 1]) / 2;
  const __m512 midpoints = _mm512_loadu_ps(all);
  const __m512 middle = _mm512_set1_ps(all[kCodes / 2 - 1]);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int64_t block = 0; block < blocks; block++) {
    __m512 x[kVectors];
    __m512i largest = _mm512_setzero_si512();
    for (int i = 0; i < kVectors; i++) {
      x[i] = Sixteen(Numbers(), numbers, block * kQuantizedBlock + i * 16);
      largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(x[i]), magnitude));
    }
    const float scale = FloatOf(static_cast<uint32_t>(_mm512_reduce_max_epi32(largest)));
    scales[block] = scale;
    const __m512 inverse = _mm512_set1_ps(1.0f / (scale < kLeastScale ? kLeastScale : scale));
    for (int i = 0; i < kVectors; i++) {
      const __m512 number = _mm512_mul_ps(x[i], inverse);
      const __mmask16 upper = _mm512_cmp_ps_mask(number, middle, _CMP_GT_OQ);
      __m512i code = _mm512_maskz_set1_epi32(upper, kCodes / 2);
      for (int half = kCodes / 4; half > 0; half /= 2) {
        const __m512i next = _mm512_add_epi32(code, _mm512_set1_epi32(half - 1));
        const __m512 midpoint = _mm512_permutexvar_ps(next, midpoints);
        const __mmask16 above = _mm512_cmp_ps_mask(number, midpoint, _CMP_GT_OQ);
        code = _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(half));
      }
      // Of two neighbours in one word of 64 bits, the first is the lower half.
      const __m512i pairs = _mm512_or_si512(_mm512_slli_epi64(code, 4), _mm512_srli_epi64(code, 32));
      uint8_t* to = codes + (block * kQuantizedBlock + i * 16) / 2;
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm512_cvtepi64_epi8(pairs));
    }
  }
}

void QuantizeAvx512(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  const int64_t blocks = count / kQuantizedBlock;
  const int64_t whole = blocks * kQuantizedBlock;
  switch (dtype) {
    case StoredDtype::kFloat32:
      QuantizeBlocks<AsFloat32>(numbers, blocks, codes, scales);
      break;
    case StoredDtype::kFloat16:
      QuantizeBlocks<As<Float16ToFloat32>>(numbers, blocks, codes, scales);
      break;
    case StoredDtype::kBFloat16:
      QuantizeBlocks<As<BFloat16ToFloat32>>(numbers, blocks, codes, scales);
      break;
  }
  const int64_t element = dtype == StoredDtype::kFloat32 ? 4 : 2;
  const void* rest = static_cast<const char*>(numbers) + whole * element;
  QuantizeGeneric(dtype, rest, count - whole, codes + whole / 2, scales + blocks);
}
#endif

}  // namespace

const float* Nf4Values() { return kNf4Values; }

const float* ScaleValues() { return TheScaleMap().values; }

const float* UnsignedValues() {
  static const DynamicMap map(false);
  return map.values;
}

const std::vector<Quantizer>& Quantizers() {
  static const std::vector<Quantizer> all = [] {
    std::vector<Quantizer> quantizers;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
      quantizers.push_back({"avx512", &QuantizeAvx512});
    }
    if (__builtin_cpu_supports("avx2")) quantizers.push_back({"avx2", &QuantizeAvx2});
#endif
    quantizers.push_back({"generic", &QuantizeGeneric});
    return quantizers;
  }();
  return all;
}

void QuantizeNumbers(StoredDtype dtype, const void* numbers, int64_t count, uint8_t* codes, float* scales) {
  Quantizers().front().quantize(dtype, numbers, count, codes, scales);
}

float OffsetOf(const float* scales, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += static_cast<double>(scales[i]);
  return static_cast<float>(sum / static_cast<double>(count));
}

void QuantizeScales(const float* scales, int64_t count, float offset, uint8_t* codes, float* nested_scales) {
  const ScaleMap& map = TheScaleMap();
  for (int64_t begin = 0; begin < count; begin += kNestedBlock) {
    const int64_t end = std::min(begin + kNestedBlock, count);
    float largest = 0;
    for (int64_t i = begin; i < end; i++) {
      const float magnitude = std::fabs(scales[i] - offset);
      // A scale that is not finite stays one.
      largest = magnitude <= largest ? largest : magnitude;
    }
    nested_scales[begin / kNestedBlock] = largest;
    const float inverse = 1.0f / largest;
    for (int64_t i = begin; i < end; i++) {
      const float number = (scales[i] - offset) * inverse;
      const float place = (number + 1.0f) * 0.5f * static_cast<float>(kScaleSteps - 1) + 0.5f;
      const float last = static_cast<float>(kScaleSteps - 1);
      codes[i] = map.codes[place >= 0 ? static_cast<int>(place < last ? place : last) : 0];
    }
  }
}

namespace {

napi_value Float32Array(napi_env env, const std::vector<float>& numbers) {
  void* data;
  napi_value buffer, array;
  napi_create_arraybuffer(env, numbers.size() * sizeof(float), &data, &buffer);
  if (!numbers.empty()) std::memcpy(data, numbers.data(), numbers.size() * sizeof(float));
  napi_create_typedarray(env, napi_float32_array, numbers.size(), buffer, 0, &array);
  return array;
}

struct Regions {
  std::shared_ptr<Region> scales;
  std::shared_ptr<Region> codes;
  std::shared_ptr<Region> nested_scales;
};

class Quantization : public AsyncWork {
 public:
  // `offset`: NaN where each weight gets its own.
  Quantization(Regions regions, std::vector<int64_t> counts, float offset)
      : regions_(std::move(regions)), counts_(std::move(counts)), offset_(offset) {}

  Failure Run() override {
    const auto* scales = reinterpret_cast<const float*>(regions_.scales->data());
    auto* codes = reinterpret_cast<uint8_t*>(regions_.codes->data());
    auto* nested = reinterpret_cast<float*>(regions_.nested_scales->data());
    for (const int64_t count : counts_) {
      const float offset = std::isnan(offset_) ? OffsetOf(scales, count) : offset_;
      QuantizeScales(scales, count, offset, codes, nested);
      offsets_.push_back(offset);
      scales += count;
      codes += count;
      nested += (count + kNestedBlock - 1) / kNestedBlock;
    }
    regions_.scales->Release();
    return {};
  }

  napi_value Result(napi_env env) override { return Float32Array(env, offsets_); }

 private:
  const Regions regions_;
  const std::vector<int64_t> counts_;
  const float offset_;
  std::vector<float> offsets_;
};

}  // namespace

napi_value QuantizeScalesOfWeights(napi_env env, napi_callback_info info) {
  size_t argument_count = 3;
  napi_value arguments[3];
  napi_get_cb_info(env, info, &argument_count, arguments, nullptr, nullptr);
  const auto region_at = [&](uint32_t index) {
    napi_value value;
    napi_get_element(env, arguments[0], index, &value);
    return RegionOf(env, value);
  };
  Regions regions{region_at(0), region_at(1), region_at(2)};
  size_t length = 0;
  void* data = nullptr;
  napi_get_typedarray_info(env, arguments[1], nullptr, &length, &data, nullptr, nullptr);
  std::vector<int64_t> counts;
  size_t scales = 0;
  size_t nested = 0;
  for (size_t i = 0; i < length; i++) {
    counts.push_back(static_cast<int64_t>(static_cast<const double*>(data)[i]));
    scales += static_cast<size_t>(counts.back());
    nested += static_cast<size_t>((counts.back() + kNestedBlock - 1) / kNestedBlock);
  }
  const auto fits = [](const std::shared_ptr<Region>& region, size_t bytes) {
    return region != nullptr && region->data() != nullptr && region->bytes() == bytes;
  };
  if (!fits(regions.scales, scales * sizeof(float)) || !fits(regions.codes, scales) ||
      !fits(regions.nested_scales, nested * sizeof(float))) {
    napi_throw_range_error(env, nullptr, "regions of scales do not fit together");
    return nullptr;
  }
  double offset = NAN;
  napi_get_value_double(env, arguments[2], &offset);
  auto work = std::make_unique<Quantization>(std::move(regions), std::move(counts), static_cast<float>(offset));
  return StartWork(env, std::move(work), arguments[0]);
}

napi_value QuantizationTables(napi_env env, napi_callback_info) {
  std::vector<float> numbers(Nf4Values(), Nf4Values() + 16);
  for (const float* values : {ScaleValues(), UnsignedValues()}) numbers.insert(numbers.end(), values, values + 256);
  return Float32Array(env, numbers);
}

napi_value QuantizeNumbersWith(napi_env env, napi_callback_info info) {
  size_t count = 5;
  napi_value arguments[5], result;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  char instructions[32] = "";
  size_t length = 0;
  int32_t dtype = 0;
  napi_get_value_string_utf8(env, arguments[0], instructions, sizeof instructions, &length);
  napi_get_value_int32(env, arguments[1], &dtype);
  const auto data_of = [&](napi_value array, size_t* bytes) {
    void* data = nullptr;
    napi_get_typedarray_info(env, array, nullptr, bytes, &data, nullptr, nullptr);
    return data;
  };
  size_t bytes = 0;
  const void* numbers = data_of(arguments[2], &bytes);
  const auto stored = static_cast<StoredDtype>(dtype);
  const int64_t width = stored == StoredDtype::kFloat32 ? 4 : 2;
  auto* codes = static_cast<uint8_t*>(data_of(arguments[3], nullptr));
  auto* scales = static_cast<float*>(data_of(arguments[4], nullptr));
  bool is_known = false;
  for (const Quantizer& quantizer : Quantizers()) {
    if (quantizer.instructions != instructions) continue;
    quantizer.quantize(stored, numbers, static_cast<int64_t>(bytes) / width, codes, scales);
    is_known = true;
  }
  napi_get_boolean(env, is_known, &result);
  return result;
}

napi_value GetQuantizers(napi_env env, napi_callback_info) {
  napi_value names, name;
  napi_create_array(env, &names);
  uint32_t index = 0;
  for (const Quantizer& quantizer : Quantizers()) {
    napi_create_string_utf8(env, quantizer.instructions.c_str(), quantizer.instructions.size(), &name);
    napi_set_element(env, names, index++, name);
  }
  return names;
}

}  // namespace lorasmith
