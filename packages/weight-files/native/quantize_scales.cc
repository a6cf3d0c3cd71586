#include "quantize_scales.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "async_work.h"
#include "quantize.h"
#include "quantized_matrix.h"
#include "region.h"

namespace lorasmith {
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
