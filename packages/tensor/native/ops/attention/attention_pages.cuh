// Keys and values in pages as attention's forward kernels take them: cached_attention.h.
#pragma once

#include "ops/attention/attention_bfloat16.cuh"
#include "ops/attention/attention_float32.cuh"
#include "ops/cached_attention/cached_attention_shape.h"

namespace attention {

// The keys of a text and key head, or its values, a row for each token.
template <typename Number>
struct PagedHead {
  const Number* head;  // in the first page of the cache
  int64_t page_size;
  int columns;
  const int32_t* pages;  // of the text

  __device__ __forceinline__ const Number* Row(int token) const {
    return head + pages[token / kPageTokens] * page_size + token % kPageTokens * columns;
  }
};

// Tokens of a text: those of a tile, and all before them.
struct PagedTile {
  int64_t start;  // of the text in the stream, if that had all of it
  int length;
  int first;
  int row;  // of the page table
};

// The new tokens of texts.
template <int D, typename Number>
struct PagedRows {
  static constexpr bool kKeepsSums = false;
  const TextTable& texts;
  const Number* queries;
  const Number* cache;
  const int32_t* pages;
  int page_columns;

  template <int kSize>
  __device__ __forceinline__ PagedTile FindTile(int slot, const AttentionShape&) const {
    const TextTokens& text = EntryOf(texts, slot);
    return {text.first - text.cached, text.cached + text.tokens, text.cached + (slot - text.first_block) * kSize,
            text.row};
  }
  __device__ __forceinline__ StreamHead<Number> Queries(const PagedTile& tile, int head,
                                                        const AttentionShape& shape) const {
    const int64_t stride = static_cast<int64_t>(shape.heads) * D;
    return {queries + tile.start * stride + head * D, stride};
  }
  __device__ __forceinline__ PagedHead<Number> Keys(const PagedTile& tile, int head,
                                                    const AttentionShape& shape) const {
    return Matrix(tile, 2 * head, shape);
  }
  __device__ __forceinline__ PagedHead<Number> Values(const PagedTile& tile, int head,
                                                      const AttentionShape& shape) const {
    return Matrix(tile, 2 * head + 1, shape);
  }
  __device__ __forceinline__ PagedHead<Number> Matrix(const PagedTile& tile, int of_page,
                                                      const AttentionShape& shape) const {
    const int columns = PageColumns(shape.head_dim), size = kPageTokens * columns;
    return {cache + static_cast<int64_t>(of_page) * size, static_cast<int64_t>(2 * shape.key_value_heads) * size,
            columns, pages + static_cast<int64_t>(tile.row) * page_columns};
  }
  // Where column c of a head of size D lies in the output; -1: nowhere.
  __device__ __forceinline__ static int OutputColumn(int c, int head_dim) { return c < head_dim ? c : -1; }
};

// As LoadTile of a stream. A thread keeps its column.
template <int D, int kRows, int kThreads, RowPlace kPlace = RowPlace::kPadded>
__device__ __forceinline__ void LoadTile(const PagedHead<bf16>& rows, int first, int length, bf16* tile) {
  using Layout = RowLayout<D, kPlace>;
  constexpr int kVectors = D / 8, kAtOnce = kThreads / kVectors;
  const int column = threadIdx.x % kVectors * 8;
  int row = threadIdx.x / kVectors;
  if (kThreads % kVectors != 0 && row >= kAtOnce) return;
  bf16* to = tile + row * Layout::kPitch + Layout::At(row, column);
  const bf16* from = nullptr;
#pragma unroll
  for (int i = 0; i < kRows; i += kAtOnce) {
    if (kRows % kAtOnce != 0 && row >= kRows) break;
    if (first + row < length && column < rows.columns) {
      // Tiles begin with a page, so that its rows are found once.
      const bool is_in_page = kPageTokens % kAtOnce == 0 && i % kPageTokens != 0;
      from = is_in_page ? from + kAtOnce * rows.columns : rows.Row(first + row) + column;
      CopyAsync16(to, from);
    } else {
      StoreVector<bf16>({}, to);
    }
    row += kAtOnce;
    to += kAtOnce * Layout::kPitch;
  }
}

// 64 rows of a head, zeros from `length` on and behind its columns.
struct PagedFloatRows {
  PagedHead<float> rows;
  int first_column;
  int first;
  int length;

  __device__ __forceinline__ Vector<float> Load(int row, int column) const {
    column += first_column;
    if (first + row >= length || column >= rows.columns) return {};
    return LoadVector(rows.Row(first + row) + column);
  }

  // The same rows from a column on.
  __device__ __forceinline__ PagedFloatRows From(int column) const { return {rows, column, first, length}; }
};

__device__ __forceinline__ PagedFloatRows RowsFrom(const PagedHead<float>& rows, int first, int length) {
  return {rows, 0, first, length};
}

}  // namespace attention
