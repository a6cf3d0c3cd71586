#include "cuda/host/move.h"

namespace lorasmith::cuda {
namespace {

constexpr int64_t kTile = 32;
constexpr int64_t kMostInGrid = 65535;  // of y and z

// A kernel for elements of each size.
template <typename Signature, int... kBytes>
struct BySize {
  explicit BySize(const std::string& name) : kernels{{"copy", name + std::to_string(kBytes)}...} {}

  const Kernel<Signature>& operator[](int bytes) const {
    int index = 0;
    while (bytes > 1) {
      bytes /= 2;
      index++;
    }
    return kernels[index];
  }

  const Kernel<Signature> kernels[sizeof...(kBytes)];
};

const BySize<void(const void* from, void* to, StridedPair box), 1, 2, 4, 8, 16> kCopy{"Copy"};
const BySize<void(const void* from, void* to, int64_t rows, int64_t columns), 1, 2, 4, 8> kTranspose{"Transpose"};
const BySize<void(const void* value, void* to, int64_t size), 1, 2, 4, 8> kFill{"Fill"};
const BySize<void(const void* x, const int32_t* indices, int64_t n, int64_t m, int64_t width, void* to), 1, 2, 4, 8, 16>
    kGather{"Gather"};

}  // namespace

void MoveBox(Context& context, int element_bytes, const void* from, const Shape& from_strides, void* to,
             const Shape& to_strides, const Shape& axes) {
  StridedPair box;
  if (!context.Check(JoinAxes(axes, from_strides, to_strides, &box), "the shapes have too many axes")) return;
  const uint64_t address_bits = reinterpret_cast<uint64_t>(from) | reinterpret_cast<uint64_t>(to);
  const int bytes = WidenElements(element_bytes, address_bits, &box);
  kCopy[bytes].Launch(context, {ElementBlocks(box.size)}, kElementThreads, 0, from, to, box);
}

void TransposeMatrices(Context& context, int element_bytes, const void* from, void* to, int64_t count, int64_t rows,
                       int64_t columns) {
  const Grid grid{DivideUp(columns, kTile), std::min(DivideUp(rows, kTile), kMostInGrid), count};
  kTranspose[element_bytes].Launch(context, grid, kElementThreads, 0, from, to, rows, columns);
}

void FillElements(Context& context, int element_bytes, const void* value, void* to, int64_t size) {
  kFill[element_bytes].Launch(context, {ElementBlocks(size)}, kElementThreads, 0, value, to, size);
}

void GatherRows(Context& context, int element_bytes, const void* x, const int32_t* indices, int64_t n, int64_t m,
                int64_t width, void* to) {
  StridedPair row{};
  row.rank = 1;
  row.axes[0] = row.size = width;
  row.left[0] = row.right[0] = 1;
  const uint64_t address_bits = reinterpret_cast<uint64_t>(x) | reinterpret_cast<uint64_t>(to);
  const int bytes = WidenElements(element_bytes, address_bits, &row);
  kGather[bytes].Launch(context, {ElementBlocks(m * row.size)}, kElementThreads, 0, x, indices, n, m, row.size, to);
}

void Clear(Context& context, void* at, int64_t bytes) {
  if (context.failed() || bytes == 0) return;
  Device* device = Device::Get();
  const Result result =
      device->driver().cuMemsetD8Async(reinterpret_cast<uint64_t>(at), 0, static_cast<size_t>(bytes), device->stream());
  if (result != 0) context.Fail(TF_INTERNAL, "clearing memory of the GPU: " + ErrorText(result));
}

}  // namespace lorasmith::cuda
