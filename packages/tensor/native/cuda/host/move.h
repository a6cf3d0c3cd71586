// Copies of boxes of elements on the GPU, whatever the elements mean: ops/layout/copy.cu.
#pragma once

#include "cuda/host/launch.h"
#include "cuda/host/strides.h"

namespace lorasmith::cuda {

// Copies elements of 1, 2, 4, 8 or 16 bytes along `axes`; strides count elements.
void MoveBox(Context& context, int element_bytes, const void* from, const Shape& from_strides, void* to,
             const Shape& to_strides, const Shape& axes);

// Columns of rows with `from_stride` numbers → those of rows with `to_stride`.
template <typename Number>
void CopyColumns(Context& context, const Number* from, int64_t from_stride, Number* to, int64_t to_stride, int64_t rows,
                 int64_t columns) {
  if (context.failed()) return;
  MoveBox(context, sizeof(Number), from, {from_stride, 1}, to, {to_stride, 1}, {rows, columns});
}

// from [count, rows, columns] → to [count, columns, rows]
void TransposeMatrices(Context& context, int element_bytes, const void* from, void* to, int64_t count, int64_t rows,
                       int64_t columns);

void FillElements(Context& context, int element_bytes, const void* value, void* to, int64_t size);

// x [n, width], indices [m] → to [m, width]. An index outside 0 … n - 1 gives bytes of 0xff: NaN in every float type.
void GatherRows(Context& context, int element_bytes, const void* x, const int32_t* indices, int64_t n, int64_t m,
                int64_t width, void* to);

// Sets bytes to 0.
void Clear(Context& context, void* at, int64_t bytes);

}  // namespace lorasmith::cuda
