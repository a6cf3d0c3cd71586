// The arithmetic of merge_rows.h, compiled for several instruction sets. The bytes are the same for all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stored_dtype.h"

namespace lorasmith {

namespace merging {
struct Update;
}

// As MergeRows.
using MergeKernel = bool (*)(const merging::Update& update, StoredDtype dtype, int64_t row, int64_t rows,
                             const void* base, void* merged);

bool MergeGeneric(const merging::Update&, StoredDtype, int64_t, int64_t, const void*, void*);
#if defined(__x86_64__)
bool MergeAvx2(const merging::Update&, StoredDtype, int64_t, int64_t, const void*, void*);
bool MergeAvx512(const merging::Update&, StoredDtype, int64_t, int64_t, const void*, void*);
#endif

// Those that this processor has, best first.
std::vector<std::string> MergeInstructions();

// One of MergeInstructions; the best for any other name.
MergeKernel MergeKernelOf(const std::string& instructions);

}  // namespace lorasmith
