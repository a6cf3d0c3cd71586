// Launches of kernels that have a table among their parameters: cuda/kernels/launch_table.h.
#pragma once

#include <vector>

#include "cuda/kernels/launch_table.h"

namespace lorasmith::cuda {

// Launches a kernel for each part of the entries that a table holds. `blocks_of` gives the blocks of an entry; without
// any, nothing is launched.
template <typename Table, typename Entry, typename BlocksOf, typename Launch>
void ForEachTable(const std::vector<Entry>& entries, const BlocksOf& blocks_of, const Launch& launch) {
  Table table{};
  int64_t blocks = 0;
  const auto flush = [&] {
    if (table.count > 0) launch(table, blocks);
    table.count = 0;
    blocks = 0;
  };
  for (const Entry& entry : entries) {
    const int64_t own = blocks_of(entry);
    if (own == 0) continue;
    if (table.count == Table::kMost || blocks + own > INT32_MAX) flush();
    table.at[table.count] = entry;
    table.at[table.count++].first_block = static_cast<int>(blocks);
    blocks += own;
  }
  flush();
}

}  // namespace lorasmith::cuda
