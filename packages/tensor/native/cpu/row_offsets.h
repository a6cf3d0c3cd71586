// The rows of a stream of tokens, where their offsets are in the processor's memory: row i is tokens offsets[i] …
// offsets[i + 1] - 1.
#pragma once

#include "cpu/kernel.h"

namespace lorasmith {

inline int64_t RowLength(const int32_t* offsets, int64_t row) { return offsets[row + 1] - offsets[row]; }

// Ends the op with an error unless the rows are all tokens.
inline void CheckRows(Context& context, const int32_t* offsets, int64_t rows, int64_t tokens) {
  if (context.failed()) return;
  bool ascend = rows >= 0 && (offsets == nullptr || offsets[0] == 0);
  for (int64_t row = 0; ascend && row < rows; row++) ascend = offsets[row] <= offsets[row + 1];
  context.Check(ascend && (rows <= 0 ? tokens == 0 : offsets[rows] == tokens), "the rows must be all tokens");
}

}  // namespace lorasmith
