// Products of small float32 matrices that are in the cache, for attention.
#pragma once

#include <cstdint>

#include "cpu/register.h"

namespace lorasmith {

// A matrix of the product: element (m, k) is at data[m * row_stride + k * column_stride].
struct Operand {
  const float* data;
  int64_t row_stride;
  int64_t column_stride;
};

template <int kRows, int kVectors>
inline void Tile(const Operand& a, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t depth, bool accumulate) {
  Vector sums[kRows][kVectors];
  for (int row = 0; row < kRows; row++) {
    for (int v = 0; v < kVectors; v++) {
      sums[row][v] = accumulate ? *reinterpret_cast<const Vector*>(c + row * ldc + v * kLanes) : Vector{};
    }
  }
  for (int64_t k = 0; k < depth; k++) {
    Vector columns[kVectors];
    for (int v = 0; v < kVectors; v++) columns[v] = *reinterpret_cast<const Vector*>(b + k * ldb + v * kLanes);
    for (int row = 0; row < kRows; row++) {
      const float factor = a.data[row * a.row_stride + k * a.column_stride];
      for (int v = 0; v < kVectors; v++) sums[row][v] += factor * columns[v];
    }
  }
  for (int row = 0; row < kRows; row++) {
    for (int v = 0; v < kVectors; v++) *reinterpret_cast<Vector*>(c + row * ldc + v * kLanes) = sums[row][v];
  }
}

template <int kRows, int kVectors>
inline void TileRows(Operand& a, const float* b, int64_t ldb, float*& c, int64_t ldc, int64_t& rows, int64_t depth,
                     bool accumulate) {
  while (rows >= kRows) {
    Tile<kRows, kVectors>(a, b, ldb, c, ldc, depth, accumulate);
    a.data += kRows * a.row_stride;
    c += kRows * ldc;
    rows -= kRows;
  }
}

template <int kVectors>
inline void TileColumn(Operand a, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t rows, int64_t depth,
                       bool accumulate) {
  TileRows<kRowsInRegisters, kVectors>(a, b, ldb, c, ldc, rows, depth, accumulate);
  TileRows<4, kVectors>(a, b, ldb, c, ldc, rows, depth, accumulate);
  TileRows<1, kVectors>(a, b, ldb, c, ldc, rows, depth, accumulate);
}

// C = A B, or C += A B. A is [rows, depth] with any strides; B [depth, columns] and C [rows, columns] are row-major.
// `columns` is a multiple of kLanes; columns beyond a matrix's own are computed too and must be allocated.
inline void Multiply(const Operand& a, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t rows,
                     int64_t columns, int64_t depth, bool accumulate) {
  int64_t column = 0;
  for (; column + 2 * kLanes <= columns; column += 2 * kLanes) {
    TileColumn<2>(a, b + column, ldb, c + column, ldc, rows, depth, accumulate);
  }
  for (; column < columns; column += kLanes) {
    TileColumn<1>(a, b + column, ldb, c + column, ldc, rows, depth, accumulate);
  }
}

}  // namespace lorasmith
