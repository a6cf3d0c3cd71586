// What the kernels between the vector of all parameters and LoRA's matrices are told: lora.cu.
#pragma once

#include "cuda/kernels/portable.h"

// Columns of matrices are a multiple of it, so that their rows are aligned for products: 16 bytes of bfloat16.
constexpr int kLoraRankMultiple = 8;

// A [rank, in] or B [rows, rank] of an adapted layer among the parameters → scale times it, with zeros around it.
struct LoraMatrix {
  const float* from;
  void* to;
  // Of the matrix among the parameters.
  int rows;
  int columns;
  // With zeros: the first column of the matrix among them, and the numbers from one of their rows to the next.
  int all_rows;
  int all_columns;
  int first_column;
  int to_stride;
  float scale;
  int first_block;
};

using LoraMatrices = LaunchTable<LoraMatrix>;

// The gradient by a matrix → that by its parameters: scale times the sum of its pieces.
struct LoraMatrixGradient {
  const float* from;
  float* to;
  int64_t piece_stride;
  int pieces;
  int rows;
  int columns;
  int from_stride;
  int to_row_stride;
  int to_column_stride;
  float scale;
  int first_block;
};

using LoraMatrixGradients = LaunchTable<LoraMatrixGradient>;

constexpr int kLoraThreads = 256;
// Of a block.
constexpr int kLoraNumbers = 4096;
