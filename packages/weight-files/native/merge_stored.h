// MergeRows for a dtype that is known at run time. Included by the file of each instruction set alone.
#pragma once

#include "merge_kernel.h"
#include "merge_rows.h"

namespace lorasmith {
namespace {

template <typename Stored>
bool MergeAs(const merging::Update& update, int64_t row, int64_t rows, const void* base, void* merged) {
  return merging::MergeRows(update, row, rows, static_cast<const Stored*>(base), static_cast<Stored*>(merged));
}

inline bool MergeStored(const merging::Update& update, StoredDtype dtype, int64_t row, int64_t rows, const void* base,
                        void* merged) {
  switch (dtype) {
    case StoredDtype::kFloat32:
      return MergeAs<float>(update, row, rows, base, merged);
    case StoredDtype::kFloat16:
      return MergeAs<merging::Float16Bits>(update, row, rows, base, merged);
    case StoredDtype::kBFloat16:
      return MergeAs<merging::BFloat16Bits>(update, row, rows, base, merged);
  }
  return false;
}

}  // namespace
}  // namespace lorasmith
