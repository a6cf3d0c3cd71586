#include "merge_stored.h"

namespace lorasmith {

bool MergeGeneric(const merging::Update& update, StoredDtype dtype, int64_t row, int64_t rows, const void* base,
                  void* merged) {
  return MergeStored(update, dtype, row, rows, base, merged);
}

}  // namespace lorasmith
