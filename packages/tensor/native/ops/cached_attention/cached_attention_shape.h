// Attention to keys and values in pages, as its kernels and the host code that launches them agree on it.
//
// The cache is [pages, key_value_heads, 2, kPageTokens, PageColumns]: of each key head the keys (rotated), then the
// values, a row for each token. The page table is [texts, page_columns]: the pages of each text, in its order.
#pragma once

#include "cuda/kernels/portable.h"
#include "ops/attention/attention_shape.h"
#include "ops/cached_attention/cache_page.h"

// New tokens of a text.
struct TextTokens {
  int first_block;
  int first;  // in the stream
  int tokens;
  int cached;       // tokens of the text in the cache before these
  int row;          // of the page table
  int first_piece;  // of those of all tokens: see PiecesOf
};

// A kernel's other parameters have at most 192 bytes.
constexpr int kOtherParameterBytes = 192;
using TextTable = LaunchTable<TextTokens, kOtherParameterBytes>;

// A block of CachePut has one token, and of its heads one for each warp.
constexpr int kPutThreads = 256;
constexpr int kPutHeads = kPutThreads / 32;

// A block of CachedAttention has one token, some query heads of one key head, and one piece of the keys. Pieces begin
// at multiples of their size, so that the order of a sum depends on the text alone.
constexpr int kPieceThreads = 128;
constexpr int kPieceHeads = 8;
constexpr int kPieceKeys = 256;

// A block of CachedAttentionMerge has one token and one head.
constexpr int kMergeThreads = 128;

// The first key that a query sees.
HOST_DEVICE constexpr int FirstSeenKey(int query, int window) {
  return window == 0 || query < window ? 0 : query - window + 1;
}

// The pieces with keys that a query sees.
struct Pieces {
  int first;
  int count;
};

HOST_DEVICE constexpr Pieces PiecesOf(int query, int window) {
  const int first = FirstSeenKey(query, window) / kPieceKeys;
  return {first, query / kPieceKeys + 1 - first};
}
