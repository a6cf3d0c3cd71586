#include "convert_rows.h"

#include <cmath>
#include <cstring>

#include "convert_floats.h"

namespace lorasmith {
namespace {

// Numbers of a block of Q8_0: a float16 scale and as many signed bytes.
constexpr int64_t kBlock = 32;
constexpr int64_t kBlockBytes = 2 + kBlock;
// Bytes of a block of as many numbers in MXFP4: an exponent and the codes.
constexpr int64_t kMxfp4Bytes = 1 + kBlock / 2;
// Numbers that are converted at a time; a multiple of kBlock.
constexpr int64_t kChunk = 256;

void ToFloats(StoredDtype dtype, const char* from, int64_t count, float added, float* to) {
  uint32_t bits[kChunk];
  switch (dtype) {
    case StoredDtype::kFloat32:
      std::memcpy(bits, from, static_cast<size_t>(count) * sizeof *bits);
      break;
    case StoredDtype::kFloat16:
      ConvertAll<Float16ToFloat32>(from, bits, static_cast<size_t>(count));
      break;
    case StoredDtype::kBFloat16:
      ConvertAll<BFloat16ToFloat32>(from, bits, static_cast<size_t>(count));
      break;
  }
  std::memcpy(to, bits, static_cast<size_t>(count) * sizeof *bits);
  if (added != 0) {
    for (int64_t i = 0; i < count; i++) to[i] += added;
  }
}

// The quantization of ggml (`quantize_row_q8_0_ref`): the scale is the largest magnitude through 127, quotients are
// rounded half away from zero.
bool Quantize(const float* numbers, char* to) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < kBlock; i++) {
    const float magnitude = std::fabs(numbers[i]);
    finite &= magnitude <= 3.4028234663852886e38f;
    largest = magnitude > largest ? magnitude : largest;
  }
  const float scale = largest / 127.0f;
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  const uint16_t half = Float32ToFloat16::Convert(BitsOf(scale));
  std::memcpy(to, &half, sizeof half);
  for (int64_t i = 0; i < kBlock; i++) {
    // Exact in double, so this is roundf.
    const double quotient = static_cast<double>(numbers[i] * inverse);
    to[2 + i] = static_cast<char>(static_cast<int32_t>(quotient + (quotient < 0 ? -0.5 : 0.5)));
  }
  return finite && (half & 0x7c00) != 0x7c00;
}

bool FromFloats(WrittenType type, const float* from, int64_t count, char* to) {
  uint32_t infinite = 0;
  switch (type) {
    case WrittenType::kFloat32:
      for (int64_t i = 0; i < count; i++) infinite |= (BitsOf(from[i]) & 0x7f800000) == 0x7f800000;
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof *from);
      return infinite == 0;
    case WrittenType::kFloat16:
    case WrittenType::kBFloat16: {
      const bool half = type == WrittenType::kFloat16;
      const uint16_t exponent = half ? 0x7c00 : 0x7f80;
      for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = BitsOf(from[i]);
        const uint16_t rounded = half ? Float32ToFloat16::Convert(bits) : Float32ToBFloat16::Convert(bits);
        infinite |= (rounded & exponent) == exponent;
        std::memcpy(to + i * 2, &rounded, sizeof rounded);
      }
      return infinite == 0;
    }
    case WrittenType::kQ8_0: {
      bool finite = true;
      for (int64_t i = 0; i < count; i += kBlock) finite &= Quantize(from + i, to + i / kBlock * kBlockBytes);
      return finite;
    }
    case WrittenType::kMxfp4:
      break;  // Only what is stored so is written so, without a conversion of numbers.
  }
  return false;
}

int64_t WrittenBytes(WrittenType type, int64_t count) {
  switch (type) {
    case WrittenType::kFloat32:
      return count * 4;
    case WrittenType::kQ8_0:
      return count / kBlock * kBlockBytes;
    case WrittenType::kMxfp4:
      return count / kBlock * kMxfp4Bytes;
    default:
      return count * 2;
  }
}

template <typename Element>
void TransposeAs(const char* from, int64_t rows, int64_t columns, char* to) {
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t column = 0; column < columns; column++) {
      std::memcpy(to + (column * rows + row) * sizeof(Element), from + (row * columns + column) * sizeof(Element),
                  sizeof(Element));
    }
  }
}

}  // namespace

int64_t RowConversion::WrittenRowBytes() const { return WrittenBytes(to, Width()); }

int64_t ElementBytes(StoredDtype dtype) { return dtype == StoredDtype::kFloat32 ? 4 : 2; }

void Transpose(const char* from, int64_t rows, int64_t columns, int64_t element_bytes, char* to) {
  if (element_bytes == 4) {
    TransposeAs<uint32_t>(from, rows, columns, to);
  } else {
    TransposeAs<uint16_t>(from, rows, columns, to);
  }
}

bool ConvertRows(const RowConversion& conversion, const char* from, int64_t rows, char* to) {
  const int64_t width = conversion.Width();
  const int64_t element = ElementBytes(conversion.from);
  const int64_t row_bytes = width * element;
  const int64_t written_row_bytes = conversion.WrittenRowBytes();
  const int64_t head = conversion.head_rows;
  std::vector<char> ordered(conversion.column_order.empty() ? 0 : static_cast<size_t>(row_bytes));
  float numbers[kChunk];
  bool finite = true;
  const int64_t step = conversion.row_step;
  for (int64_t row = 0; row < rows / step; row++) {
    const char* stored = from + (row * step + conversion.row_in_step) * row_bytes;
    if (!ordered.empty()) {
      char* next = ordered.data();
      for (const Range& columns : conversion.column_order) {
        std::memcpy(next, stored + columns.first * element, static_cast<size_t>(columns.count * element));
        next += columns.count * element;
      }
      stored = ordered.data();
    }
    const int64_t within = head == 0 ? 0 : row % head;
    const int64_t half = head / 2;
    const int64_t written = head == 0 ? row : row - within + within % half * 2 + within / half;
    for (int64_t first = 0; first < width; first += kChunk) {
      const int64_t count = width - first < kChunk ? width - first : kChunk;
      ToFloats(conversion.from, stored + first * element, count, conversion.added, numbers);
      finite &= FromFloats(conversion.to, numbers, count,
                           to + written * written_row_bytes + WrittenBytes(conversion.to, first));
    }
  }
  return finite;
}

}  // namespace lorasmith
