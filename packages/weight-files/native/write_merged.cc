#include <utility>

#include "merged_file.h"
#include "module.h"

namespace lorasmith {
namespace {

// Reads the fields of an object. The caller, src/write-merged.ts, has checked that they are there and fit together.
class Fields {
 public:
  Fields(napi_env env, napi_value object) : env_(env), object_(object) {}

  napi_value Get(const char* name) const {
    napi_value value = nullptr;
    napi_get_named_property(env_, object_, name, &value);
    return value;
  }

  int64_t Integer(const char* name) const {
    int64_t value = 0;
    napi_get_value_int64(env_, Get(name), &value);
    return value;
  }

  float Float(const char* name) const {
    double value = 0;
    napi_get_value_double(env_, Get(name), &value);
    return static_cast<float>(value);
  }

  bool Boolean(const char* name) const {
    bool value = false;
    napi_get_value_bool(env_, Get(name), &value);
    return value;
  }

  std::string Text(const char* name) const {
    char text[64];
    size_t size = 0;
    napi_get_value_string_utf8(env_, Get(name), text, sizeof text, &size);
    return std::string(text, size);
  }

  // The memory of a typed array, and its number of elements.
  template <typename Element>
  std::pair<Element*, size_t> Array(const char* name) const {
    void* data = nullptr;
    size_t count = 0;
    napi_get_typedarray_info(env_, Get(name), nullptr, &count, &data, nullptr, nullptr);
    return {static_cast<Element*>(data), count};
  }

  // First and count of each range, one behind the other.
  std::vector<Range> Ranges(const char* name) const {
    const auto [numbers, count] = Array<double>(name);
    std::vector<Range> ranges;
    for (size_t i = 0; i < count; i += 2) {
      ranges.push_back({static_cast<int64_t>(numbers[i]), static_cast<int64_t>(numbers[i + 1])});
    }
    return ranges;
  }

  bool Has(const char* name) const {
    napi_valuetype type = napi_undefined;
    napi_typeof(env_, Get(name), &type);
    return type == napi_object;
  }

 private:
  napi_env env_;
  napi_value object_;
};

StoredDtype DtypeOf(const std::string& name) {
  if (name == "F32") return StoredDtype::kFloat32;
  return name == "F16" ? StoredDtype::kFloat16 : StoredDtype::kBFloat16;
}

std::unique_ptr<RowConversion> ConversionOf(const Fields& fields) {
  auto conversion = std::make_unique<RowConversion>();
  const std::string to = fields.Text("to");
  conversion->from = DtypeOf(fields.Text("from"));
  conversion->to = to == "Q8_0"    ? WrittenType::kQ8_0
                   : to == "MXFP4" ? WrittenType::kMxfp4
                   : to == "F32"   ? WrittenType::kFloat32
                   : to == "F16"   ? WrittenType::kFloat16
                                   : WrittenType::kBFloat16;
  conversion->stored_rows = fields.Integer("rows");
  conversion->stored_width = fields.Integer("width");
  conversion->transposed = fields.Boolean("transposed");
  conversion->head_rows = fields.Integer("headRows");
  conversion->added = fields.Float("added");
  conversion->row_order = fields.Ranges("rowOrder");
  conversion->row_step = fields.Integer("rowStep");
  conversion->row_in_step = fields.Integer("rowInStep");
  conversion->column_order = fields.Ranges("columnOrder");
  return conversion;
}

std::unique_ptr<TensorUpdate> UpdateOf(const Fields& fields) {
  auto update = std::make_unique<TensorUpdate>();
  update->dtype = DtypeOf(fields.Text("dtype"));
  update->rows = fields.Integer("rows");
  update->width = fields.Integer("width");
  update->a = fields.Array<float>("a").first;
  update->b = fields.Array<float>("b").first;
  update->rank = fields.Integer("rank");
  update->scale = fields.Float("scale");
  update->transposed = fields.Boolean("transposed");
  return update;
}

FilePart FilePartOf(const Fields& fields) {
  return {static_cast<int>(fields.Integer("fd")), fields.Integer("offset"), fields.Integer("bytes")};
}

std::unique_ptr<QuantizedSource> QuantizedOf(napi_env env, const Fields& fields) {
  auto quantized = std::make_unique<QuantizedSource>();
  quantized->rows = fields.Integer("rows");
  quantized->width = fields.Integer("width");
  if (fields.Has("blockScales")) {
    quantized->blocks = {fields.Array<float>("blockScales").first, quantized->width, fields.Integer("blockRows"),
                         fields.Integer("blockColumns")};
    return quantized;
  }
  if (fields.Has("exponents")) {
    quantized->is_mxfp4 = true;
    quantized->scales = FilePartOf(Fields(env, fields.Get("exponents")));
    return quantized;
  }
  quantized->is_made_here = fields.Boolean("isMadeHere");
  if (quantized->is_made_here) {
    quantized->numbers = DtypeOf(fields.Text("numbers"));
    return quantized;
  }
  quantized->scales = FilePartOf(Fields(env, fields.Get("scales")));
  if (fields.Has("nestedScales")) quantized->nested_scales = FilePartOf(Fields(env, fields.Get("nestedScales")));
  quantized->module = fields.Array<float>("module").first;
  return quantized;
}

std::vector<SourceTensor> TensorsOf(napi_env env, napi_value list) {
  uint32_t count = 0;
  napi_get_array_length(env, list, &count);
  std::vector<SourceTensor> tensors;
  for (uint32_t i = 0; i < count; i++) {
    napi_handle_scope scope;
    napi_open_handle_scope(env, &scope);
    napi_value element;
    napi_get_element(env, list, i, &element);
    const Fields fields(env, element);
    SourceTensor tensor{
        static_cast<int>(fields.Integer("fd")), fields.Integer("offset"), fields.Integer("bytes"), nullptr, {}, {}, {}};
    if (fields.Has("content")) tensor.content = fields.Array<char>("content").first;
    if (fields.Has("update")) tensor.update = UpdateOf(Fields(env, fields.Get("update")));
    if (fields.Has("conversion")) tensor.conversion = ConversionOf(Fields(env, fields.Get("conversion")));
    if (fields.Has("quantized")) tensor.quantized = QuantizedOf(env, Fields(env, fields.Get("quantized")));
    tensors.push_back(std::move(tensor));
    napi_close_handle_scope(env, scope);
  }
  return tensors;
}

}  // namespace

napi_value WriteMerged(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  const Fields fields(env, argument);
  const auto [header, header_bytes] = fields.Array<char>("header");
  int64_t* control = fields.Array<int64_t>("control").first;
  MergedFileOptions options{
      static_cast<int>(fields.Integer("output")),
      header,
      header_bytes,
      TensorsOf(env, fields.Get("tensors")),
      static_cast<int>(fields.Integer("threads")),
      MergeKernelOf(fields.Text("instructions")),
      control,
      control + 1,
  };
  return StartWork(env, std::make_unique<MergedFile>(std::move(options)), argument);
}

napi_value GetMergeInstructions(napi_env env, napi_callback_info) {
  napi_value list;
  napi_create_array(env, &list);
  uint32_t index = 0;
  for (const std::string& name : MergeInstructions()) {
    napi_value text;
    napi_create_string_utf8(env, name.c_str(), name.size(), &text);
    napi_set_element(env, list, index++, text);
  }
  return list;
}

}  // namespace lorasmith
