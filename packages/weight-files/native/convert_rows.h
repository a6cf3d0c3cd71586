// Rows of a weight in the types and the order of GGUF.
#pragma once

#include <cstdint>
#include <vector>

#include "merge_kernel.h"

namespace lorasmith {

enum class WrittenType { kFloat32, kFloat16, kBFloat16, kQ8_0, kMxfp4 };

// Consecutive rows or columns.
struct Range {
  int64_t first;
  int64_t count;
};

// A tensor that is written in another type, or with its rows or columns in another order, than it is stored.
struct RowConversion {
  StoredDtype from;
  WrittenType to;
  int64_t stored_rows;
  int64_t stored_width;
  // Whether it is written as [stored_width, stored_rows].
  bool transposed;
  // Rows of an attention head whose two halves are interleaved: row s · half + j is written as row 2j + s. 0: in order.
  int64_t head_rows;
  // Added to every number, in float32.
  float added;
  // The stored rows that are written, in this order. Empty: all of them.
  std::vector<Range> row_order;
  // One of so many rows is written: of each group the row with this index. Of the rows as they are written if it is
  // transposed.
  int64_t row_step;
  int64_t row_in_step;
  // All stored columns, in the order in which they are written. Empty: as they are stored.
  std::vector<Range> column_order;

  int64_t Rows() const { return transposed ? stored_width : stored_rows; }
  int64_t Width() const { return transposed ? stored_rows : stored_width; }
  int64_t WrittenRowBytes() const;
};

int64_t ElementBytes(StoredDtype dtype);

// [rows, columns] → [columns, rows], elements of 2 or 4 bytes.
void Transpose(const char* from, int64_t rows, int64_t columns, int64_t element_bytes, char* to);

// Converts `rows` rows: whole heads of them where heads are reordered, whole groups where one of a group is written.
// Returns whether all written numbers are finite.
bool ConvertRows(const RowConversion& conversion, const char* from, int64_t rows, char* to);

}  // namespace lorasmith
